"""Registered types: how an instance is taken apart and rebuilt without running its constructor.

====================  ==============================================================================================
a class that is       has the parts
====================  ==============================================================================================
an enumeration        the name of the member; a flag: its integer (marker `ENUM`)
a named tuple         its items
a dataclass, attrs    its fields in their order; `UNSET` for one that was never assigned. Other attributes are left out.
                      A dataclass with a ``__getstate__`` of its own is as anything else
a msgspec Struct      its fields in their order; rebuilt by its constructor, the only way it has
an exception          described as any exception is (`exceptions`); as a value it does not travel
anything else         its state as ``__getstate__`` gives it, set by ``__setstate__`` or as `pickle` would; then the
                      content, for a subclass of int, float, complex, str, bytes, bytearray, tuple, list, dict, set
                      or frozenset
====================  ==============================================================================================

The names of fields come from the receiver's own class, and parts are set beneath any ``__setattr__``, so that frozen
and slotted classes work. What a peer sends is not validated against the annotations. Pure; any thread may enter.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import CloisterError, MarshalError, ProtocolError
from cloister.wire.containers import ENUM, RECORD
from cloister.wire.flood import refuse_flood
from cloister.wire.registry import type_name
from cloister.wire.scalars import UNSET

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = ["MARKER_READERS", "Record", "record_for"]

_CONTENT_TYPES: Final = (int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset)

_set_attribute = object.__setattr__
_get_attribute = object.__getattribute__


class Record:
    """How instances of one class travel: `write` makes an array of them, `read` an instance of the parts."""

    __slots__ = ("is_enum", "kind", "name", "read", "write")

    def __init__(
        self,
        kind: type,
        write: Callable[[Any, Encoding], object],
        read: Callable[[list[Any], Decoding], object],
    ) -> None:
        self.kind = kind
        self.is_enum = issubclass(kind, enum.Enum)
        self.name = type_name(kind)
        self.write = write
        self.read = read


def record_for(kind: type) -> Record:
    """Make the record of a class. Raises `TypeError` for a class whose instances can't be taken apart."""
    if issubclass(kind, BaseException):
        return _exception_record(kind)
    if issubclass(kind, enum.Enum):
        return _enum_record(kind)
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _named_tuple_record(kind)
    if issubclass(kind, type):
        raise TypeError(f"@by_value marks a class whose instances are data, and {kind.__qualname__} is a metaclass")
    if hasattr(kind, "__struct_fields__"):
        return _struct_record(kind)
    fields = kind.__dict__.get("__dataclass_fields__") or getattr(kind, "__dataclass_fields__", None)
    if fields is not None and not _keeps_state(kind):
        # Pseudo-fields (ClassVar, InitVar) have no place in an instance.
        names = tuple(name for name, field in fields.items() if field._field_type.name == "_FIELD")
        return _field_record(kind, names)
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return _field_record(kind, tuple(attribute.name for attribute in attributes))
    return _state_record(kind)


def _keeps_state(kind: type) -> bool:
    """Say whether a class has a ``__getstate__`` that somebody wrote; one with slots gets one from dataclasses."""
    return getattr(kind.__getstate__, "__module__", None) not in (None, "builtins", "dataclasses")


@contextmanager
def _own_code(kind: type, what: str) -> Iterator[None]:
    """Turn what the code of a class raises into the MarshalError of its instance: the message itself was in order."""
    try:
        yield
    except CloisterError:
        raise
    except Exception as error:
        raise MarshalError(
            f"a {kind.__qualname__} arrived and could not be rebuilt: {what} raised {type(error).__name__}: {error}"
        ) from error


def _content_type(kind: type) -> type | None:
    return next((base for base in kind.__mro__ if base in _CONTENT_TYPES), None)


def _parts(items: list[Any], count: int, kind: type) -> list[Any]:
    if len(items) != count + 2:
        raise MarshalError(
            f"a {kind.__qualname__} arrived with {len(items) - 2} parts, and has {count} here. Both sides need the "
            "same version of the module that defines it"
        )
    return items[2:]


def _exception_record(kind: type) -> Record:
    def write(value: Any, encoding: Encoding) -> object:
        raise MarshalError(f"an exception is raised, not passed: {kind.__qualname__} does not travel as a value")

    def read(items: list[Any], decoding: Decoding) -> object:
        raise ProtocolError("bad value: an exception came as a value")

    return Record(kind, write, read)


def _enum_record(kind: type[enum.Enum]) -> Record:
    name = type_name(kind)
    is_flag = issubclass(kind, enum.Flag)
    sent_as: type = int if is_flag else str
    members: Mapping[Any, enum.Enum] = kind.__members__

    def write(value: Any, encoding: Encoding) -> object:
        if is_flag:
            return [encoding.markers[ENUM], name, None, value.value]
        return [encoding.markers[ENUM], name, value._name_]

    def read(items: list[Any], decoding: Decoding) -> object:
        # A flag by its bits, because a combination has no name of its own.
        expected: list[object] = [None] if is_flag else []
        member: Any = items[-1]
        if len(items) < 3 or items[2:-1] != expected or not isinstance(member, sent_as):
            raise ProtocolError("bad value: no member of an enumeration")
        try:
            return kind(member) if is_flag else members[member]
        except (KeyError, ValueError) as error:
            raise MarshalError(
                f"{kind.__qualname__} has no member {member!r} here. Both sides need the same version of it"
            ) from error

    return Record(kind, write, read)


def _named_tuple_record(kind: type[tuple[Any, ...]]) -> Record:
    name = type_name(kind)
    count = len(kind._fields)  # type: ignore[attr-defined]  # a named tuple has it; `record_for` looked

    def write(value: Any, encoding: Encoding) -> object:
        return [encoding.markers[RECORD], name, *value]

    def read(items: list[Any], decoding: Decoding) -> object:
        return tuple.__new__(kind, _parts(items, count, kind))

    return Record(kind, write, read)


def _field_record(kind: type, fields: tuple[str, ...]) -> Record:
    name = type_name(kind)
    content = _content_type(kind)
    if content is not None:
        raise TypeError(
            f"{kind.__qualname__} has fields and is a {content.__name__} as well; give it __getstate__ and __setstate__"
        )

    def write(value: Any, encoding: Encoding) -> object:
        made: list[object] = [encoding.markers[RECORD], name]
        for field in fields:
            try:
                made.append(_get_attribute(value, field))
            except AttributeError:
                made.append(UNSET)
        return made

    # Without descriptors in between, an instance's dict can be filled at once.
    in_dict = kind.__dictoffset__ and not any(
        hasattr(base.__dict__.get(field), "__set__") for base in kind.__mro__ for field in fields
    )

    def read(items: list[Any], decoding: Decoding) -> object:
        made: object = object.__new__(kind)
        parts = zip(fields, _parts(items, len(fields), kind), strict=True)
        if in_dict:
            made.__dict__.update([(field, part) for field, part in parts if part is not UNSET])
            return made
        for field, part in parts:
            if part is not UNSET:
                _set_attribute(made, field, part)
        return made

    return Record(kind, write, read)


def _struct_record(kind: type) -> Record:
    name = type_name(kind)
    fields: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]  # a msgspec Struct has it

    def write(value: Any, encoding: Encoding) -> object:
        return [encoding.markers[RECORD], name, *[getattr(value, field) for field in fields]]

    def read(items: list[Any], decoding: Decoding) -> object:
        parts = dict(zip(fields, _parts(items, len(fields), kind), strict=True))
        with _own_code(kind, "its constructor"):
            return kind(**parts)

    return Record(kind, write, read)


def _state_record(kind: type) -> Record:
    name = type_name(kind)
    content = _content_type(kind)
    set_state = getattr(kind, "__setstate__", None)
    slots = _slots(kind)

    def write(value: Any, encoding: Encoding) -> object:
        made: list[object] = [encoding.markers[RECORD], name, value.__getstate__()]
        if content is not None:
            made.append(_content_of(value, content))
        return made

    def read(items: list[Any], decoding: Decoding) -> object:
        state, *rest = _parts(items, 1 if content is None else 2, kind)
        made = object.__new__(kind) if content is None else _filled(kind, content, rest[0], decoding)
        if state is None:
            return made
        if set_state is not None:
            with _own_code(kind, "its __setstate__"):
                set_state(made, state)
            return made
        attributes, slotted = state if type(state) is tuple and len(state) == 2 else (state, None)
        if attributes:
            made.__dict__.update(_names(attributes))
        for key, part in _names(slotted or {}).items():
            if key not in slots:
                raise MarshalError(f"a {kind.__qualname__} arrived with a slot {key!r} that it does not have here")
            _set_attribute(made, key, part)
        return made

    return Record(kind, write, read)


def _slots(kind: type) -> frozenset[str]:
    """Give the names of the slots of a class and its bases, as their descriptors are called."""
    names = set()
    for base in kind.__mro__:
        own = base.__dict__.get("__slots__", ())
        for slot in (own,) if isinstance(own, str) else own:
            private = slot.startswith("__") and not slot.endswith("__")
            names.add(f"_{base.__name__.lstrip('_')}{slot}" if private else slot)
    return frozenset(names)


def _names(state: object) -> Mapping[str, Any]:
    if type(state) is not dict or not all(type(key) is str for key in state):
        raise ProtocolError("bad value: the state of an object is no dict of names")
    return state


def _content_of(value: Any, content: Any) -> object:
    """Give what a subclass of a built-in type holds, as the built-in type, beneath any method of its own."""
    if content is list or content is tuple:
        return content(content.__iter__(value))
    if content is dict:
        return dict(dict.items(value))
    if content in (set, frozenset):
        return content(content.__iter__(value))
    if content is str:
        return str.__str__(value)
    if content is int:
        return int.__int__(value)
    if content is float:
        return float.__float__(value)
    if content is complex:
        return complex(value.real, value.imag)
    return bytes(value) if content is bytes else bytearray(value)


def _filled(kind: type, content: type, part: object, decoding: Decoding) -> Any:
    """Make an instance of a subclass of a built-in type from what it holds."""
    if type(part) is not content:
        raise ProtocolError(f"bad value: a {kind.__qualname__} holds a {type(part).__name__}, not a {content.__name__}")
    items: Any = part
    if content is dict and len(items) > decoding.limits.colliding_keys:
        refuse_flood(list(items), decoding.limits)
    native: Any = content
    if content not in (list, dict, set, bytearray):
        return native.__new__(kind, items)
    made = native.__new__(kind)
    # Beneath any method of the subclass.
    (native.extend if content in (list, bytearray) else native.update)(made, items)
    return made


def _read_record(items: list[Any], decoding: Decoding) -> object:
    record = decoding.record_of(items[1])
    if record.is_enum:
        raise ProtocolError("bad value: an enumeration came as a record")
    return record.read(items, decoding)


def _read_enum(items: list[Any], decoding: Decoding) -> object:
    record = decoding.record_of(items[1])
    if not record.is_enum:
        raise ProtocolError("bad value: a record came as an enumeration")
    return record.read(items, decoding)


MARKER_READERS: Final = {RECORD: _read_record, ENUM: _read_enum}
