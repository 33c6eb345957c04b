"""Annotations as text that holds in another file, with the imports that it needs there; runs in a domain.

A name is looked up where the annotation stands, and written with its home: ``Order`` of ``acme.orders`` becomes an
import from there, wherever else it was imported. What can't be named from outside (a type variable, a class in a
function) becomes ``Any``: a Protocol that says too little is of use, one that says something wrong is not.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
import types
import typing
from typing import Any, Final

__all__ = ["Names"]

_FORWARD: Final = re.compile(r"ForwardRef\('([^']*)'[^)]*\)")


class _Unnamed(Exception):
    """It can't be named from outside."""


class Names:
    """The names that one Protocol uses."""

    def __init__(self, cls: type, own_name: str) -> None:
        self._cls, self._own = cls, own_name
        self._homes: dict[str, str] = {}
        self._modules: set[str] = set()

    def imports(self) -> list[str]:
        """The lines that import what the annotations name."""
        grouped: dict[str, list[str]] = {}
        for name, home in self._homes.items():
            grouped.setdefault(home, []).append(name)
        lines = [f"from {home} import {', '.join(sorted(names))}" for home, names in sorted(grouped.items())]
        return [*(f"import {module}" for module in sorted(self._modules)), *lines]

    def any(self, generic: str) -> str:
        """An abstract type of anything, such as ``AsyncIterator[Any]``."""
        return f"{self._import('collections.abc', generic)}[{self._import('typing', 'Any')}]"

    def text(self, annotation: Any, owner: type, function: Any = None) -> str:
        """An annotation of a member of `owner`, which may be a text already."""
        module = sys.modules.get(getattr(function, "__module__", None) or owner.__module__)
        namespace = {**vars(module)} if module is not None else {}
        namespace.update(getattr(function, "__globals__", {}))
        try:
            return self._text(annotation, _Place(namespace, module))
        except (_Unnamed, RecursionError):
            return self._import("typing", "Any")

    def _text(self, annotation: Any, place: _Place) -> str:
        if annotation is None or annotation is type(None):
            return "None"
        if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
            return self._class(annotation)
        if isinstance(annotation, typing.TypeVar | typing.ParamSpec | typing.TypeVarTuple):
            raise _Unnamed
        source = annotation if isinstance(annotation, str) else _FORWARD.sub(r"\1", repr(annotation))
        try:
            tree = ast.parse(source.strip(), mode="eval").body
        except SyntaxError:
            raise _Unnamed from None
        return ast.unparse(_Rewritten(self, place).visit(tree))

    def name(self, dotted: str, place: _Place) -> str:
        """A name as it stands in an annotation, with its home imported. Raises _Unnamed."""
        found = place.find(dotted)
        if found is _MISSING:
            return self._import(place.imported_for_types(dotted), dotted)
        if found is None:
            return "None"
        if isinstance(found, type) and not isinstance(found, types.GenericAlias):
            return self._class(found)
        home = str(getattr(found, "__module__", ""))
        own = str(getattr(found, "__name__", None) or getattr(found, "_name", None))
        if home in ("typing", "typing_extensions") and hasattr(sys.modules[home], own):
            if isinstance(found, typing.TypeVar | typing.ParamSpec):
                raise _Unnamed
            return self._import(home, own)
        if isinstance(found, typing.NewType):
            return self._import(home, own)
        return self._text(found, place)  # an alias

    def _class(self, cls: type) -> str:
        if cls is self._cls:
            return self._own
        module, name = cls.__module__, cls.__qualname__
        if module == "builtins":
            if not hasattr(builtins, name):
                raise _Unnamed
            return "None" if cls is type(None) else name
        if module == "__main__" or not all(part.isidentifier() for part in name.split(".")):
            raise _Unnamed
        root = name.partition(".")[0]
        if getattr(sys.modules.get(module), root, None) is None:
            raise _Unnamed
        return self._import(module, root) + name[len(root) :]

    def _import(self, module: str, name: str) -> str:
        if name != self._own and self._homes.setdefault(name, module) == module and not hasattr(builtins, name):
            return name
        if self._homes.get(name) == module:
            del self._homes[name]
        self._modules.add(module)
        return f"{module}.{name}"


_MISSING: Final = object()


class _Place:
    """Where an annotation stands."""

    def __init__(self, namespace: dict[str, Any], module: types.ModuleType | None) -> None:
        self._namespace, self._module = namespace, module

    def find(self, dotted: str) -> Any:
        """What a dotted name stands for; `_MISSING` where it is nothing."""
        first, *rest = dotted.split(".")
        found = self._namespace.get(first, getattr(builtins, first, _MISSING))
        if found is _MISSING:
            found = sys.modules.get(first, _MISSING)
        for part in rest:
            found = getattr(found, part, _MISSING)
        return found

    def imported_for_types(self, name: str) -> str:
        """The module from which the source imports a name, if only for type checkers. Raises _Unnamed."""
        try:
            tree = ast.parse(inspect.getsource(self._module)) if self._module is not None else ast.Module([], [])
        except (OSError, TypeError, SyntaxError):
            raise _Unnamed from None
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and any(each.name == name and not each.asname for each in node.names):
                package = getattr(self._module, "__package__", "") or ""
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                return ".".join([*above, *([node.module] if node.module else [])])
        raise _Unnamed


class _Rewritten(ast.NodeTransformer):
    """An annotation with each name as it is called elsewhere."""

    def __init__(self, names: Names, place: _Place) -> None:
        self._names, self._place = names, place

    def _named(self, dotted: str) -> ast.expr:
        return ast.parse(self._names.name(dotted, self._place), mode="eval").body

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._named(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._named(ast.unparse(node))

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str):  # a type in quotation marks
            return ast.parse(self._names._text(node.value, self._place), mode="eval").body
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        found = self._place.find(ast.unparse(node.value))
        if found is typing.Annotated and isinstance(node.slice, ast.Tuple):
            first: ast.expr = self.visit(node.slice.elts[0])
            return first
        node.value = self.visit(node.value)
        if found is not typing.Literal:
            node.slice = self.visit(node.slice)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        raise _Unnamed
