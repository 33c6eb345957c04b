"""Proxies whose calls are awaited: what is different where the other side is called from an event loop.

``await proxy.method(…)``, ``await proxy.attribute``, ``await proxy[key]``, ``await (proxy + 1)``, ``await proxy(…)``,
``async for``, ``async with``. The classes are those of `proxies`; here is what Python does not let them await: it wants
the answer of ``len(proxy)``, ``key in proxy`` or ``proxy.x = 1`` at once, and that would block the loop. Such a use is
a TypeError that names the awaited way, and nothing is sent. Identity decides ``==``, ``hash`` and ``bool``, without a
call. Belongs to the thread of the loop on which it is awaited.
"""

from __future__ import annotations

import asyncio
import inspect
import reprlib
import sys
from collections.abc import Awaitable, Callable, Generator
from types import FunctionType
from typing import Any, Final, NoReturn

from cloister.objects.descriptions import Description
from cloister.objects.file_proxies import KNOWN_HERE, file_members
from cloister.objects.proxies import Proxy, make_class

__all__ = ["Attribute", "make_awaited_class"]

_AT_ONCE: Final[dict[str, str]] = {
    "__len__": "len()",
    "__length_hint__": "operator.length_hint()",
    "__contains__": "`in`",
    "__setitem__": "setting an item",
    "__delitem__": "deleting an item",
    "__int__": "int()",
    "__float__": "float()",
    "__complex__": "complex()",
    "__index__": "use as an index",
    "__str__": "str()",
    "__bytes__": "bytes()",
    "__format__": "format()",
    "__fspath__": "use as a path",
    "__lt__": "`<`",
    "__le__": "`<=`",
    "__gt__": "`>`",
    "__ge__": "`>=`",
    "__reversed__": "reversed()",
}
"""The special methods whose answer Python wants at once."""
_IDENTITY: Final = ("__eq__", "__ne__", "__hash__", "__bool__")
"""Answered here, by identity."""
_INSTEAD: Final = (
    ("__iter__", "`for`", "`async for`"),
    ("__next__", "next()", "`anext()`"),
    ("__enter__", "`with`", "`async with`"),
    ("__exit__", "`with`", "`async with`"),
)
"""What has an awaited kind of its own in the language."""
_LOCAL: Final = frozenset(("__str__", "__format__"))
"""What every object has; without a call it says what a proxy is."""


class Attribute:
    """An attribute of a remote object that has not been asked for yet: awaiting it does, calling it calls it."""

    __slots__ = ("_name", "_proxy")

    def __init__(self, proxy: Proxy, name: str) -> None:
        self._proxy, self._name = proxy, name

    def __await__(self) -> Generator[Any, None, Any]:
        return self._get().__await__()

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call what the attribute holds: it is fetched first."""
        return self._call(args, kwargs)

    def _get(self) -> Awaitable[Any]:
        proxy = self._proxy
        found: Awaitable[Any] = proxy._cloister_peer.call(proxy._cloister_id, "__getattribute__", (self._name,), None)
        return found

    async def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await (await self._get())(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<attribute {self._name!r} of {self._proxy!r}, to be awaited>"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no value yet: await it")


def make_awaited_class(description: Description, expected: type | None = None) -> type[Proxy]:
    """Make the class of the proxies of a type; see `proxies.make_class`."""
    made = make_class(description, expected)
    known_here = file_members(description)
    namespace: dict[str, Any] = {
        name: _attribute(name, vars(made)[name].__doc__)
        for name in (attribute.name for attribute in description.attributes)
        if name not in known_here
    }
    for name in description.specials:
        if name in _LOCAL:
            namespace[name] = getattr(object, name)
        elif name in _AT_ONCE:
            namespace[name] = _refuse(name, _AT_ONCE[name])
        elif name in _IDENTITY:
            continue
        elif name.startswith("__i") and name not in ("__invert__", "__iter__"):
            namespace[name] = _refuse(name, f"{name} of an augmented assignment")
    for name in _IDENTITY[:3]:
        namespace[name] = getattr(object, name)
    for method in description.methods:
        function = vars(made)[method.name]
        if type(function) is FunctionType and not (known_here and method.name in KNOWN_HERE):
            _mark(function)
    namespace["__bool__"] = _always
    namespace["__getattr__"] = _get_attribute
    namespace["__setattr__"] = _refuse("__setattr__", "setting an attribute")
    namespace["__delattr__"] = _refuse("__delattr__", "deleting an attribute")
    for name, use, instead in _INSTEAD:
        if hasattr(made, name):
            namespace[name] = _refuse_instead(name, use, instead)
    if "__getitem__" in description.specials and not hasattr(made, "__iter__"):
        namespace["__iter__"] = _refuse_instead("__iter__", "`for`", "a loop over awaited items")
    for name, value in namespace.items():
        setattr(made, name, value)
    if hasattr(reprlib.aRepr, f"repr_{made.__name__}"):
        # asyncio shows the result of a task with `reprlib`, which up to Python 3.11 knows a list by this name alone.
        made.__name__ = f"proxy of {made.__name__}"
    return made


def _mark(method: Any) -> None:
    """Let a method be known as one that is awaited, to those who would run any other one on a thread."""
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(method)
    else:
        method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # what 3.11 looks at


def _attribute(name: str, text: str | None) -> property:
    def get(self: Proxy) -> Attribute:
        return Attribute(self, name)

    def put(self: Proxy, value: Any) -> NoReturn:
        self.__setattr__(name, value)
        raise AssertionError

    def drop(self: Proxy) -> NoReturn:
        self.__delattr__(name)
        raise AssertionError

    return property(get, put, drop, text)


def _get_attribute(self: Proxy, name: str) -> Attribute:
    if name.startswith("_"):
        raise AttributeError(f"{self!r} has no {name!r}: only public names are reached through a proxy", name=name)
    return Attribute(self, name)


def _refuse(name: str, use: str) -> Callable[..., NoReturn]:
    def special(self: Proxy, /, *args: Any) -> NoReturn:
        shown = "".join(f", {arg!r}"[:40] for arg in args)
        raise TypeError(
            f"{use} would have to wait for {self!r}, which is awaited: `await cloister.aio.ask(proxy, {name!r}{shown})`"
        )

    special.__name__ = name
    return special


def _refuse_instead(name: str, use: str, instead: str) -> Callable[..., NoReturn]:
    def special(self: Proxy, /, *_: Any) -> NoReturn:
        raise TypeError(f"{use} would have to wait for {self!r}, which is awaited: use {instead}")

    special.__name__ = name
    return special


def _always(self: Proxy) -> bool:
    return True
