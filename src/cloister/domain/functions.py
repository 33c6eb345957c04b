"""Functions on proxies and their methods: where an object lives, and other ways to call it.

``one_way(proxy.method)(…)`` sends a call and waits for no answer; ``submit(proxy.method, …)`` gives a future. Both take
a method of a proxy, or a callable that came from a domain. Any thread may enter.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, overload

from cloister.domain.domain import Domain
from cloister.domain.guest_peer import GuestPeer
from cloister.errors import MarshalError
from cloister.objects.proxies import is_proxy

__all__ = ["domain_of", "one_way", "submit"]

T = TypeVar("T")


def domain_of(proxy: object) -> Domain | None:
    """The domain in which the object of a proxy or handle lives; None for anything that lives here. Never waits."""
    if not is_proxy(proxy):
        return None
    found = getattr(proxy, "_cloister_keep", None)
    return found if isinstance(found, Domain) else None


def one_way(method: Callable[..., Any]) -> Callable[..., None]:
    """Make a method of a proxy one that is only told: it returns as soon as the call is sent, with nothing.

    The call keeps its order with later calls of the same thread to the same domain. What it raises over there becomes
    an `UnhandledException` event. Raises TypeError where `method` does not belong to a domain.
    """
    _method(method, "one_way")

    def tell(*args: Any, **kwargs: Any) -> None:
        peer, number, name = _method(method, "one_way")  # the method keeps its proxy
        peer.imports.mention(number)  # which may be dropped before the call has arrived
        try:
            peer.one_way(number, name, args, kwargs)
        except MarshalError:
            peer.imports.mention(number, -1)
            raise

    return tell


@overload
def submit(method: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> Future[T]: ...
@overload
def submit(method: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...
def submit(method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """Call a method of a proxy without waiting; the future has the result. Raises TypeError as `one_way`.

    Done-callbacks run on the thread that reads the answers of the domain (with `max_concurrency`, on the one that made
    the call), so one that waits for another call to this domain gets `DeadlockDetected`. Where the future is done
    already, they run at once on the thread that adds them; where it is cancelled, on the one that cancels. Whether a
    call has begun is not told: `running()` is false until the future is done.
    """
    peer, number, name = _method(method, "submit")
    future = peer.submit(number, name, args, kwargs)
    future.add_done_callback(lambda _, method=method: None)  # type: ignore[misc]  # it keeps the proxy until then
    return future


def _method(method: Any, use: str) -> tuple[GuestPeer, int, str]:
    proxy, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if proxy is None and is_proxy(method):  # a function of the domain's
        proxy, name = method, "__call__"
    if proxy is None or not is_proxy(proxy) or not isinstance(proxy._cloister_peer, GuestPeer):
        raise TypeError(f"{use}() takes a method of a proxy, such as customers.add, not {method!r}")
    return proxy._cloister_peer, proxy._cloister_id, name
