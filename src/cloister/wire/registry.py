"""Which types travel by value besides the built-in ones, and which exceptions keep their type.

Here is the decorator `by_value` and the registry that it fills. How an instance is taken apart and rebuilt is in
`records`. A registry is made by the application's own imports: a type is known where the module that decorates it was
imported, and nowhere else. A name that a peer sends is only ever looked up here, as a key.

Any thread may register and look up: both are single operations on a dict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cloister.wire.records import Record

__all__ = ["DEFAULT_REGISTRY", "Registry", "by_value", "type_name"]

T = TypeVar("T", bound=type[Any])


def type_name(kind: type) -> str:
    """Give the name under which a type travels: ``module:qualified name``."""
    return f"{kind.__module__}:{kind.__qualname__}"


class Registry:
    """The types that travel by value, each known by itself and by its name."""

    __slots__ = ("by_name", "by_type")

    def __init__(self) -> None:
        self.by_type: dict[type, Record] = {}
        self.by_name: dict[str, Record] = {}

    def register(self, kind: T) -> T:
        """Let instances of exactly `kind` travel by value. Subclasses are registered themselves, or do not.

        Registering again is harmless; a class that is defined again (a notebook cell that is run again) takes the
        place of its older self under the name, and instances of the older one still travel.

        Raises `TypeError` for what is not a class, and for a class that can't be taken apart.
        """
        from cloister.wire.records import record_for  # records import the containers, and those this registry's type

        if not isinstance(kind, type):
            raise TypeError(f"@by_value marks a class, and {kind!r} is a {type(kind).__name__}")
        record = record_for(kind)
        self.by_type[kind] = record
        self.by_name[record.name] = record
        return kind

    def __contains__(self, kind: object) -> bool:
        return kind in self.by_type


DEFAULT_REGISTRY = Registry()
"""What `by_value` fills, and what a codec asks unless it is told otherwise."""


def by_value(kind: T) -> T:
    """Mark a class: its instances are copied when they travel, and an exception of it keeps its type.

    Enumerations, named tuples, dataclasses, attrs, pydantic and msgspec classes, plain classes, and subclasses of the
    built-in types. A copy is made without calling ``__init__``: a dataclass, an attrs or a msgspec class gives its
    fields, any other class its state as ``__getstate__`` tells it (by default the instance's ``__dict__`` and slots).
    What an instance holds is not validated on arrival.

    Both sides must have imported the module that defines the class. Raises `TypeError` for what is not a class.
    """
    return DEFAULT_REGISTRY.register(kind)
