"""Functions on the proxies of a domain for asyncio: other ways to call, and what Python's syntax can't await.

They belong to the loop's thread, as the calls themselves do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, overload

from cloister.aio.peer import LoopPeer
from cloister.domain import functions
from cloister.objects.descriptions import SPECIAL_METHODS
from cloister.objects.proxies import is_proxy

__all__ = ["ask", "one_way", "submit"]

T = TypeVar("T")

_ATTRIBUTES: Final = ("__getattribute__", "__setattr__", "__delattr__")


async def ask(proxy: object, name: str, /, *args: Any) -> Any:
    """Call a special method of a remote object, where Python's own syntax would want the answer at once.

    ``await ask(proxy, "__len__")``, ``await ask(proxy, "__setattr__", "name", value)``. Raises what it raises over
    there, ValueError for what is no special method, and TypeError for what is no proxy of a domain for asyncio.
    """
    peer = getattr(proxy, "_cloister_peer", None)
    if not is_proxy(proxy) or not isinstance(peer, LoopPeer):
        raise TypeError(f"ask() takes a proxy of a cloister.aio.Domain, not {proxy!r}")
    if name not in SPECIAL_METHODS and name not in _ATTRIBUTES:
        raise ValueError(f"ask() calls special methods such as __len__; call {name!r} itself, as a method of the proxy")
    return await peer.call(proxy._cloister_id, name, args, None)  # type: ignore[attr-defined]  # a proxy has one


def one_way(method: Callable[..., Any]) -> Callable[..., None]:
    """Make a method of a proxy one that is only told: it returns at once, with nothing, and waits for no answer.

    Calls of a loop run at the same time, so a later call may overtake it. What it raises over there becomes an
    `UnhandledException` event. Raises TypeError where `method` does not belong to a domain.
    """
    return functions.one_way(method)


@overload
def submit(method: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]: ...
@overload
def submit(method: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]: ...
def submit(method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
    """Call a method of a proxy; the future has the result, and need not be awaited at once. Raises as `one_way`."""
    future: Any = functions.submit(method, *args, **kwargs)
    return future  # type: ignore[no-any-return]  # a proxy of a loop gives a future of the loop
