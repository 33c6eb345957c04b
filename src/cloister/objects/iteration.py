"""What a proxy has for iteration: `for` and `async for`, whichever the object over there has.

Here are the methods that the class of a proxy gets; how a stream is read is in `reading`. An iterator is its own
iterator, and nobody is asked. Something that is merely iterable is asked for an iterator first. Any thread may enter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloister.objects.reading import reading_of
from cloister.objects.streams import ASYNC_GENERATOR, GENERATOR

if TYPE_CHECKING:
    from cloister.objects.descriptions import Description

__all__ = ["iteration_members"]


def iteration_members(description: Description) -> dict[str, Any]:
    """The members that a proxy of this type has for iteration; they come before what is described."""
    specials = description.specials
    if "__next__" in specials or "__anext__" in specials:
        members: dict[str, Any] = {
            "__slots__": ("_cloister_reading",),
            "__iter__": _itself,
            "__next__": _next,
            "__aiter__": _itself,
            "__anext__": _anext,
            "_cloister_pull": "__next__" if "__next__" in specials else "__anext__",
            "_cloister_generator": description.bases[:1] == (GENERATOR,),
        }
        if description.bases[:1] == (GENERATOR,):
            members.update(send=_step("send"), throw=_throw("throw"), close=_close("close"), aclose=_aclose("close"))
        elif description.bases[:1] == (ASYNC_GENERATOR,):
            members.update(asend=_step("asend"), athrow=_throw("athrow"), aclose=_close("aclose"))
            members.update(close=_close("aclose"))
        return members
    if "__iter__" in specials:
        return {"__aiter__": _opening("__iter__"), "__iter__": _opened("__iter__")}
    if "__aiter__" in specials:
        return {"__aiter__": _opening("__aiter__"), "__iter__": _opened("__aiter__")}
    return {}


def _itself(self: Any) -> Any:
    """An iterator is its own iterator; nobody need be asked."""
    return self


def _next(self: Any) -> Any:
    """Give the next item."""
    reading = reading_of(self)
    try:
        return reading.items.popleft()
    except IndexError:
        pass  # and not in here: what ends the stream is not raised while that is handled
    return reading.next(self)


async def _anext(self: Any) -> Any:
    """Give the next item."""
    reading = reading_of(self)
    try:
        return reading.items.popleft()
    except IndexError:
        pass
    return await reading.next_async(self)


def _step(name: str) -> Callable[..., Any]:
    def step(self: Any, value: Any) -> Any:
        return reading_of(self).step(self, name, (value,))

    step.__name__, step.__doc__ = name, "Send a value into the generator; give what it yields next."
    return step


def _throw(name: str) -> Callable[..., Any]:
    def throw(self: Any, kind: Any, value: Any = None, traceback: object = None) -> Any:
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        if value is not None and error is not value and not isinstance(kind, BaseException):
            error = kind(value)
        return reading_of(self).step(self, name, (self._cloister_peer.describe(error),))

    throw.__name__ = name
    throw.__doc__ = "Raise an exception in the generator; give what it yields next. Items read ahead are dropped."
    return throw


def _close(name: str) -> Callable[..., Any]:
    def close(self: Any) -> Any:
        reading_of(self).close()
        return self._cloister_peer.call(self._cloister_id, name, (), None)

    close.__doc__ = "End the generator: its `finally` clauses run over there, and are done when this returns."
    return close


def _aclose(name: str) -> Callable[..., Any]:
    async def aclose(self: Any) -> Any:
        reading_of(self).close()
        closed = self._cloister_peer.call(self._cloister_id, name, (), None)
        return await closed if inspect.isawaitable(closed) else closed

    aclose.__doc__ = "End the generator, as `close` does; for `contextlib.aclosing`."
    return aclose


def _opened(name: str) -> Callable[[Any], Any]:
    def __iter__(self: Any) -> Any:
        if self._cloister_peer.awaiting():
            raise TypeError(
                f"`for` would have to wait for {self!r}, which is awaited: use `async for`, or run what iterates over"
                " it with `await asyncio.to_thread(function, ...)`"
            )
        return self._cloister_peer.call(self._cloister_id, name, (), None)

    return __iter__


def _opening(name: str) -> Callable[[Any], Any]:
    def __aiter__(self: Any) -> Any:
        return _Opening(self, name)

    return __aiter__


class _Opening:
    """Iterates over something whose iterator has yet to be asked for; that may take an `await`."""

    __slots__ = ("_iterable", "_iterator", "_name")

    def __init__(self, iterable: Any, name: str) -> None:
        self._iterable, self._name = iterable, name
        self._iterator: Any = None

    def __aiter__(self) -> _Opening:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:
            iterable = self._iterable
            opened = iterable._cloister_peer.call(iterable._cloister_id, self._name, (), None)
            self._iterator = await opened if inspect.isawaitable(opened) else opened
            self._iterable = None
        return await self._iterator.__anext__()
