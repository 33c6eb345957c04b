"""How a program says that a type or a value travels in another way than it would by itself.

`by_reference` marks a type; `share`, `code` and `pickled` wrap one value for one trip. The mark for copied types,
`by_value`, belongs to the codec and is in `cloister.wire.registry`. What the marks mean is decided in `rule`.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final, Generic, TypeVar, cast

from cloister.objects.reading import limit_reading
from cloister.wire.registry import type_name

__all__ = [
    "KNOWN",
    "Code",
    "Pickled",
    "Shared",
    "Streamed",
    "by_reference",
    "code",
    "is_by_reference",
    "pickled",
    "share",
    "stream",
]

T = TypeVar("T")
C = TypeVar("C", bound=type)

_MARK: Final = "__cloister_by_reference__"

KNOWN: Final[dict[str, type]] = {}
"""The marked classes by name. A proxy of one, or of a class that derives from it, is an instance of it here."""


def by_reference(cls: C) -> C:
    """Mark a class: its instances, and those of its subclasses, stay where they are and a proxy travels.

    Use it as a decorator. One that can't be changed raises TypeError; its values are wrapped in `share`.
    """
    with contextlib.suppress(AttributeError, TypeError):
        setattr(cls, _MARK, True)
        KNOWN[type_name(cls)] = cls
        return cls
    raise TypeError(f"{cls!r} can't be marked, because it takes no attributes; wrap its values in share() instead")


def is_by_reference(cls: type) -> bool:
    """Whether a class, or one that it derives from, is marked."""
    return getattr(cls, _MARK, False) is True


class Shared(Generic[T]):
    """A value that travels by reference this once; made by `share`, or by a lease."""

    __slots__ = ("lease", "value")

    def __init__(self, value: T, lease: Any = None) -> None:
        self.value = value
        self.lease = lease


class Code(Generic[T]):
    """A callable that is to run over there, not to be called back; made by `code`."""

    __slots__ = ("function",)

    def __init__(self, function: T) -> None:
        self.function = function


class Pickled(Generic[T]):
    """A value that is pickled, from a host to its guest only; made by `pickled`."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class Streamed(Generic[T]):
    """An iterator with the number of items that may be read ahead of its consumer; made by `stream`."""

    __slots__ = ("ahead", "value")

    def __init__(self, value: T, ahead: int) -> None:
        self.value, self.ahead = value, ahead

    def __iter__(self) -> Any:
        return iter(cast("Any", self.value))

    def __next__(self) -> Any:
        return next(cast("Any", self.value))

    def __aiter__(self) -> Any:
        return aiter(cast("Any", self.value))

    def __anext__(self) -> Any:
        return anext(cast("Any", self.value))


def share(value: T) -> T:
    """Hand a value over by reference: the domain gets a proxy and may call its public methods, for as long as it likes.

    Handing an object of the host to a guest is a grant, so it is always said. For the type checker it is the value.
    """
    return Shared(value)  # type: ignore[return-value]  # it becomes a proxy of the value on the other side


def code(function: T) -> T:
    """Let a callable among the arguments travel as code and run in the domain; without it, it is called back here."""
    return Code(function)  # type: ignore[return-value]  # it becomes the function on the other side


def pickled(value: T) -> T:
    """Send a value that has no other way as a pickle. Host to guest only: a host never unpickles what a guest sends."""
    return Pickled(value)  # type: ignore[return-value]  # it becomes a copy of the value on the other side


def stream(value: T, ahead: int = 1024) -> T:
    """Say how many items of an iterator or generator may be read ahead of its consumer; 1: an item is made when it is
    asked for, and not before. Anything else that can be iterated over is made an iterator, so that it is streamed and
    not copied.

    Either side may say it: who hands an iterator over, around the iterator; who reads it, around the proxy. The lower
    number holds. Raises TypeError for what can't be iterated over, and ValueError for an `ahead` below 1.
    """
    if type(ahead) is not int or ahead < 1:
        raise ValueError(f"ahead is how many items may be read before they are asked for, 1 or more, not {ahead!r}")
    found: Any = value
    if not hasattr(found, "__anext__") and not hasattr(found, "__next__"):
        found = aiter(found) if not hasattr(found, "__iter__") and hasattr(found, "__aiter__") else iter(found)
    if hasattr(type(found), "_cloister_pull"):
        limit_reading(found, ahead)
        return cast("T", found)
    return Streamed(found, ahead)  # type: ignore[return-value]  # it is a stream on the other side
