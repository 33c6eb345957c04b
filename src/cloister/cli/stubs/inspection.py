"""What a class offers, as plain data; runs in a domain, where the class may be imported.

The members are those that a proxy has: public methods, attributes, and the special methods of
`cloister.objects.descriptions`. They are looked up statically: no property and no ``__getattr__`` of the class is run.
"""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any, Final

from cloister.cli.stubs.annotations import Names
from cloister.objects import targets
from cloister.objects.descriptions import SPECIAL_METHODS, public_name

__all__ = ["inspect_class"]

_IDENTITY: Final = frozenset(("__eq__", "__ne__", "__hash__", "__str__", "__format__", "__bool__"))
"""What every object has, and with the types that `object` gives it."""

_STRINGS: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    import annotationlib

    _STRINGS = {"annotation_format": annotationlib.Format.STRING}  # evaluating them would run code, and may fail


def inspect_class(target: str, own_name: str) -> dict[str, Any]:
    """Describe a class, in whose annotations the class itself is called `own_name`.

    Returns its ``module``, ``class`` and ``text``, the ``imports`` that its annotations need, and its ``members``: each
    with ``name``, ``text``, ``kind`` (method, property or attribute), ``returns``, and ``parameters`` as lists of name,
    kind, whether there is a default, and annotation. Raises TypeError for what is no class, and what an import raises.
    """
    cls = targets.resolve(target)
    if not isinstance(cls, type):
        raise TypeError(f"it is a {type(cls).__name__}, not a class")
    names = Names(cls, own_name)
    members = [made for name in _member_names(cls) if (made := _member(cls, name, names)) is not None]
    text = inspect.getdoc(cls) if cls.__doc__ else ""
    return {
        "module": cls.__module__,
        "class": cls.__qualname__,
        "text": _first_line(text),
        "members": members,
        "imports": names.imports(),
    }


def _member_names(cls: type) -> list[str]:
    found = dict.fromkeys(name for base in cls.__mro__ for name in inspect.get_annotations(base) if public_name(name))
    for base in reversed(cls.__mro__):
        if base is not object:
            found.update(dict.fromkeys(name for name in vars(base) if public_name(name) or name in SPECIAL_METHODS))
    return [name for name in found if name not in _IDENTITY]


def _static(cls: type, name: str) -> tuple[Any, type]:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name], base
    return None, cls


def _member(cls: type, name: str, names: Names) -> dict[str, Any] | None:
    found, owner = _static(cls, name)
    made: dict[str, Any] = {"name": name, "text": "", "kind": "attribute", "returns": None, "parameters": []}
    if isinstance(found, property):
        made["kind"] = "attribute" if found.fset is not None else "property"
        made["text"] = _first_line(found.__doc__)
        if found.fget is not None:
            made["returns"] = _signature(found.fget, names, owner)[1]
        return made
    function = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    if inspect.isroutine(function):
        made["kind"] = "method"
        made["text"] = _first_line(getattr(function, "__doc__", ""))
        parameters, made["returns"] = _signature(function, names, owner)
        bound = not isinstance(found, staticmethod)
        made["parameters"] = parameters[1:] if parameters and bound else parameters
        if inspect.isasyncgenfunction(function) and made["returns"] is None:
            made["returns"] = names.any("AsyncIterator")
        return made
    if name in SPECIAL_METHODS:
        return None  # None says that there is none
    for base in cls.__mro__:
        annotation = _annotations(base).get(name)
        if annotation is not None:
            made["returns"] = names.text(annotation, base)
            return made
    if found is not None and not isinstance(found, types.MemberDescriptorType | types.GetSetDescriptorType):
        made["returns"] = names.text(type(found), owner)
    return made


def _annotations(cls: type) -> dict[str, Any]:
    try:
        return dict(inspect.get_annotations(cls))
    except Exception:  # on 3.14 they are evaluated here, which may fail
        return {}


def _signature(function: Any, names: Names, owner: type) -> tuple[list[list[Any]] | None, str | None]:
    """The parameters, the bound one included, and what is returned; None for what nobody knows."""
    try:
        signature = inspect.signature(function, **_STRINGS)
    except Exception:  # many built-in functions have none; and what wraps a function may raise anything
        return None, None
    where = inspect.unwrap(function)
    parameters = [
        [one.name, int(one.kind), one.default is not one.empty, _text(one.annotation, names, where, owner)]
        for one in signature.parameters.values()
    ]
    return parameters, _text(signature.return_annotation, names, where, owner)


def _text(annotation: Any, names: Names, function: Any, owner: type) -> str | None:
    return None if annotation is inspect.Signature.empty else names.text(annotation, owner, function)


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0].strip() if lines else ""
