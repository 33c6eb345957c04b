"""What a type looks like from outside: enough to make a proxy class without importing the type.

Here a class becomes a `Description`. How a description travels, and how one that arrives is checked, is in `schema`;
`proxies` turns it into a class. Pure; any thread may enter.

A description says what the *class* says: its docstring, its methods with their signatures, its attributes (properties,
class attributes, the fields of a dataclass), its special methods, and what it derives from or is registered for. What
one instance has beyond that is asked for when it is used.
"""

from __future__ import annotations

import functools
import inspect
import io
import keyword
import numbers
import sys
import types
from collections import abc
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cloister.wire.registry import type_name

__all__ = ["ABSTRACT", "SPECIAL_METHODS", "Description", "Member", "describe_type", "public_name", "type_name"]

MAX_MEMBERS: Final = 4096
"""Methods and attributes of one type; the largest well-known class, pandas.DataFrame, has about 450."""
MAX_BASES: Final = 64
MAX_PARAMETERS: Final = 255
MAX_TEXT: Final = 16 * 1024
"""Characters of one docstring; a longer one is cut."""
MAX_ALL_TEXT: Final = 256 * 1024
"""Characters of all docstrings of one type; what comes after them has none. A description travels once on each lane."""
MAX_NAME: Final = 512

_BINARY: Final = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or"
SPECIAL_METHODS: Final = frozenset(
    f"__{name}__"
    for name in (
        *_BINARY.split(),
        *("r" + name for name in _BINARY.split()),
        *("i" + name for name in _BINARY.split() if name != "divmod"),
        *"neg pos abs invert int float complex index round trunc floor ceil bool".split(),
        *"lt le eq ne gt ge hash str bytes format fspath".split(),
        *"len length_hint getitem setitem delitem contains iter next reversed".split(),
        *"call enter exit aiter anext aenter aexit".split(),
    )
)
"""The special methods that a proxy may have. Those left out make no sense across a wall, or are answered locally."""

_TRIVIAL: Final[dict[str, object]] = {
    name: vars(object)[f"__{name}__"] for name in ("eq", "ne", "lt", "le", "gt", "ge", "hash", "str", "format")
}
"""What every object inherits: identity, answered without a call."""

ABSTRACT: Final[dict[str, type]] = {
    type_name(kind): kind
    for kind in (
        *(abc.Mapping, abc.MutableMapping, abc.Sequence, abc.MutableSequence, abc.Set, abc.MutableSet),
        *(abc.KeysView, abc.ItemsView, abc.ValuesView),
        *(io.IOBase, io.RawIOBase, io.BufferedIOBase, io.TextIOBase),
        *(numbers.Number, numbers.Complex, numbers.Real, numbers.Rational, numbers.Integral),
    )
}
"""Abstract classes for which a type is registered rather than derived from them; both sides know them by this table.
Those that look at the methods of a class, such as `Iterable`, see them on the class of a proxy."""

_ANNOTATIONS: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    import annotationlib

    _ANNOTATIONS = {"annotation_format": annotationlib.Format.STRING}  # evaluating them would run code, and may fail


class Member(NamedTuple):
    """One method, as far as a caller needs it; or one attribute, which has no parameters."""

    name: str
    text: str
    parameters: tuple[tuple[str, int, str | None], ...] | None = None
    """(name, kind as in `inspect`, default as text), without the bound one; None where nothing is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """A type as it is seen from outside. Two of them are equal only where they are one."""

    name: str
    """``module:qualname``."""
    bases: tuple[str, ...]
    """The names of the types that it derives from, in resolution order, itself first; then those of `ABSTRACT`."""
    text: str = ""
    methods: tuple[Member, ...] = ()
    attributes: tuple[Member, ...] = ()
    specials: tuple[str, ...] = ()

    @property
    def callable_names(self) -> frozenset[str]:
        """What may be called on an object of this type."""
        return frozenset(method.name for method in self.methods).union(self.specials)


def public_name(name: str) -> bool:
    """Whether a name may be used across the wall: an identifier without a leading underscore."""
    return name.isidentifier() and not name.startswith("_")


@functools.lru_cache(maxsize=512)
def describe_type(cls: type) -> Description:
    """Describe a class. Its members are looked up statically, so no property and no ``__getattr__`` of it is run."""
    members = _Members(cls)
    specials = [name for name in sorted(SPECIAL_METHODS) if _defines(cls, name)]
    bases = [type_name(base) for base in cls.__mro__[:MAX_BASES] if base is not object]
    bases += [name for name, kind in ABSTRACT.items() if name not in bases and issubclass(cls, kind)]
    return Description(
        clean_name(type_name(cls)),
        tuple(clean_name(base) for base in bases[:MAX_BASES]),
        members.text,
        tuple(members.methods),
        tuple(members.attributes),
        tuple(specials),
    )


class _Members:
    """Collects the public members of a class, and counts the characters of their texts."""

    def __init__(self, cls: type) -> None:
        self._room = MAX_ALL_TEXT
        self.text = self._cut(cls.__dict__.get("__doc__"))
        self.methods: list[Member] = []
        self.attributes: list[Member] = []
        fields = _static(cls, "__dataclass_fields__") or {}
        for name in sorted({*dir(cls), *fields})[: 2 * MAX_MEMBERS]:
            if public_name(name) and len(self.methods) + len(self.attributes) < MAX_MEMBERS:
                self._add(name, _static(cls, name))

    def _add(self, name: str, member: Any) -> None:
        if isinstance(member, staticmethod | classmethod):
            self._add_method(name, member.__func__, bound=isinstance(member, classmethod))
        elif isinstance(member, types.ClassMethodDescriptorType | types.BuiltinMethodType):
            self._add_method(name, member, bound=False)
        elif inspect.isroutine(member) or isinstance(member, functools.partialmethod):
            self._add_method(name, member, bound=True)
        else:
            text = member.__doc__ if isinstance(member, property | types.GetSetDescriptorType) else None
            self.attributes.append(Member(name, self._cut(text)))

    def _add_method(self, name: str, function: Any, bound: bool) -> None:
        text = self._cut(getattr(function, "__doc__", None))
        self.methods.append(Member(name, text, _parameters(function, bound)))

    def _cut(self, text: object) -> str:
        if not isinstance(text, str):
            return ""
        text = text[: min(MAX_TEXT, self._room)].replace("\0", "").encode("utf-8", "replace").decode()
        self._room -= len(text)
        return text


def _defines(cls: type, name: str) -> bool:
    member = _static(cls, name)
    return member is not None and member is not _TRIVIAL.get(name[2:-2])


def _static(cls: type, name: str) -> Any:
    """What a class or one of its bases has under a name, as it is written there; not what its metaclass has."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def _parameters(function: Any, bound: bool) -> tuple[tuple[str, int, str | None], ...] | None:
    try:
        found = list(inspect.signature(function, **_ANNOTATIONS).parameters.values())
    except Exception:  # many built-in functions have none; and what wraps a function may raise anything
        return None
    if bound:
        del found[:1]
    parameters = tuple(
        (one.name, int(one.kind), None if one.default is one.empty else _short(one.default)) for one in found
    )
    return parameters if len(parameters) <= MAX_PARAMETERS and all(map(possible_parameter, parameters)) else None


def possible_parameter(parameter: tuple[str, int, str | None]) -> bool:
    """Whether `inspect` takes it as a parameter."""
    name, kind, default = parameter
    variadic = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return name.isidentifier() and not keyword.iskeyword(name) and not (variadic and default is not None)


def _short(default: object) -> str:
    """A default as text. The object itself stays where it is; the call that leaves it out gets the real one."""
    if default is None or type(default) in (bool, int, float, str, bytes):
        return ascii(default)[:200]
    return "..."


def clean_name(name: str) -> str:
    """The name of a type, printable and of a bounded length, whatever a program made of it."""
    return "".join(each if each.isprintable() else "?" for each in name[:MAX_NAME])
