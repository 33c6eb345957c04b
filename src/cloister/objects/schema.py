"""How the description of a type travels: to plain values and back.

A description may come from a guest, so each of its parts is checked and bounded before anything is made of it; a
special method must be on the list of `descriptions`. Pure; any thread may enter.

A plain description is a list: [type name, names of its bases, text, methods, attributes, special methods]. A method is
[name, text, parameters or nil], a parameter [name, kind, default as text or nil], an attribute [name, text].
"""

from __future__ import annotations

from typing import Any, Final

from cloister.errors import ProtocolError
from cloister.objects.descriptions import (
    MAX_ALL_TEXT,
    MAX_BASES,
    MAX_MEMBERS,
    MAX_NAME,
    MAX_PARAMETERS,
    MAX_TEXT,
    SPECIAL_METHODS,
    Description,
    Member,
    possible_parameter,
    public_name,
)

__all__ = ["from_plain", "size_of", "to_plain"]

_MEMBER_CHARS: Final = 512
"""What a member counts for beside its text: about the bytes that it takes as a method of a proxy class."""


def to_plain(description: Description) -> list[Any]:
    """Turn a description into plain values."""
    methods = [
        [method.name, method.text, None if method.parameters is None else [list(one) for one in method.parameters]]
        for method in description.methods
    ]
    attributes = [[attribute.name, attribute.text] for attribute in description.attributes]
    bases, specials = list(description.bases), list(description.specials)
    return [description.name, bases, description.text, methods, attributes, specials]


def from_plain(plain: Any) -> Description:
    """Check a plain description that the peer sent. Raises ProtocolError where it is not one, or out of bounds."""
    try:
        name, bases, text, methods, attributes, specials = plain
        _check(type(bases) is list and len(bases) <= MAX_BASES)
        _check(type(methods) is list and type(attributes) is list and len(methods) + len(attributes) <= MAX_MEMBERS)
        _check(type(specials) is list and len(specials) <= len(SPECIAL_METHODS))
        _check(SPECIAL_METHODS.issuperset(specials))
        description = Description(
            _name(name),
            tuple(map(_name, bases)),
            _text(text),
            tuple(Member(_member_name(name), _text(text), _parameters(plain)) for name, text, plain in methods),
            tuple(Member(_member_name(name), _text(text)) for name, text in attributes),
            tuple(specials),
        )
        _check(sum(len(member.text) for member in description.methods + description.attributes) <= MAX_ALL_TEXT)
    except (TypeError, ValueError):
        raise ProtocolError("the description of a type is malformed, or larger than one may be") from None
    return description


def size_of(description: Description) -> int:
    """What a description weighs where it is kept, in characters."""
    members = description.methods + description.attributes
    parameters = sum(len(method.parameters or ()) for method in description.methods)
    text = len(description.text) + sum(map(len, description.bases)) + sum(len(member.text) for member in members)
    return text + _MEMBER_CHARS * (1 + len(members) + parameters)


def _name(name: Any) -> str:
    _check(type(name) is str and len(name) <= MAX_NAME and name.isprintable())
    return str(name)


def _member_name(name: Any) -> str:
    _check(type(name) is str and len(name) <= MAX_NAME and public_name(name))
    return str(name)


def _text(text: Any) -> str:
    _check(type(text) is str and len(text) <= MAX_TEXT and "\0" not in text)
    text.encode()  # raises ValueError for lone surrogates, of which no docstring of a class can be made
    return str(text)


def _parameters(plain: Any) -> tuple[tuple[str, int, str | None], ...] | None:
    if plain is None:
        return None
    _check(type(plain) is list and len(plain) <= MAX_PARAMETERS)
    checked: list[tuple[str, int, str | None]] = []
    for name, kind, default in plain:
        _check(type(name) is str and len(name) <= MAX_NAME and type(kind) is int and 0 <= kind <= 4)
        _check(default is None or (type(default) is str and len(default) <= MAX_NAME and default.isprintable()))
        checked.append((name, kind, default))
    _check(all(map(possible_parameter, checked)))
    return tuple(checked)


def _check(holds: bool) -> None:
    if not holds:
        raise ValueError
