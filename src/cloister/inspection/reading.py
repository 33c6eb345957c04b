"""The listing of one module, made from its source by Python's own parser. Runs nothing of it.

A source may be hostile: too large, nested too deep, no Python at all. What the parser refuses is the error of
its module. Bodies of functions are not looked into, and the listing is bounded: `MAX_ENTRIES`, `MAX_TEXT`.

Any thread may enter.
"""

from __future__ import annotations

import ast
import warnings
from typing import Final

from cloister.inspection.listing import ListedClass, ListedFunction, ListedModule

__all__ = ["MAX_SOURCE", "read_module", "unreadable"]

MAX_SOURCE: Final = 8 * 1024 * 1024
"""Bytes of one source. The largest file of the standard library has 0.7 MiB; the parser takes about 100 times as much
memory as the source."""
MAX_ENTRIES: Final = 10_000
"""Classes, methods and functions of one module."""
MAX_TEXT: Final = 16 * 1024
"""Characters of one docstring; a longer one is cut."""
MAX_SIGNATURE: Final = 2048
"""Characters of one signature, base or decorator; a longer one is cut."""
MAX_DEPTH: Final = 50
"""Classes within classes, and conditions around them."""

_CONDITIONS: Final = (ast.If, ast.Try, ast.TryStar, ast.With, ast.For, ast.While)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class _TooMuch(Exception):
    """A limit is passed; its text says which."""


def unreadable(name: str, path: str, why: str) -> ListedModule:
    """The listing of a module that can't be read."""
    return ListedModule(name=name, path=path, error=why)


def read_module(name: str, path: str, source: bytes) -> ListedModule:
    """List a module. Raises nothing: what can't be read is named in its `error`."""
    if len(source) > MAX_SOURCE:
        return unreadable(name, path, f"it has {len(source):,} bytes; more than {MAX_SOURCE:,} are not read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as those about escapes, which belong to whoever runs it
            tree = ast.parse(source, path)
        reader = _Reader()
        reader.read(tree.body, "", 0)
        program = name.rpartition(".")[2] == "__main__" or any(map(_asks_for_main, tree.body))
        return ListedModule(
            name=name,
            path=path,
            doc=_doc(tree),
            classes=tuple(reader.classes),
            functions=tuple(reader.functions.values()),
            is_program=program,
        )
    except SyntaxError as error:
        line = "" if error.lineno is None else f", line {error.lineno}"
        return unreadable(name, path, f"{type(error).__name__}: {error.msg}{line}")
    except (RecursionError, MemoryError):
        return unreadable(name, path, "it is nested too deep to be parsed")
    except _TooMuch as error:
        return unreadable(name, path, str(error))
    except ValueError as error:  # NUL bytes, in older versions
        return unreadable(name, path, f"it is no Python source: {error}")


class _Reader:
    def __init__(self) -> None:
        self.classes: list[ListedClass] = []
        self.functions: dict[str, ListedFunction] = {}
        self._count = 0

    def read(self, body: list[ast.stmt], outer: str, depth: int) -> None:
        """Take in what the statements of a module define, also where that depends on a condition."""
        for node in _defining(body, depth):
            if isinstance(node, _Function):
                self._counted()
                self.functions.pop(node.name, None)
                self.functions[node.name] = _function(node, "function")
            elif isinstance(node, ast.ClassDef):
                self._class(node, outer, depth + 1)

    def _class(self, node: ast.ClassDef, outer: str, depth: int) -> None:
        self._counted()
        at, name = len(self.classes), f"{outer}{node.name}"
        methods: dict[str, ListedFunction] = {}
        attributes: dict[str, None] = {}
        signature = ""
        for inner in _defining(node.body, depth):
            if isinstance(inner, _Function):
                self._counted()
                methods.pop(inner.name, None)
                methods[inner.name] = _function(inner, _method_kind(inner))
                if inner.name == "__init__":
                    signature = _cut(f"({_text(_without_self(inner.args))})", MAX_SIGNATURE)
            elif isinstance(inner, ast.ClassDef):
                self._class(inner, f"{name}.", depth + 1)
            else:
                attributes.update(dict.fromkeys(_assigned(inner)))
        listed = ListedClass(
            name=name,
            bases=tuple(_text(base) for base in [*node.bases, *node.keywords]),
            doc=_doc(node),
            line=node.lineno,
            decorators=tuple(map(_text, node.decorator_list)),
            methods=tuple(methods.values()),
            attributes=tuple(attributes),
            signature=signature,
        )
        self.classes.insert(at, listed)

    def _counted(self) -> None:
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise _TooMuch(f"it defines more than {MAX_ENTRIES:,} classes and functions")


def _defining(body: list[ast.stmt], depth: int) -> list[ast.stmt]:
    """The statements of a body and of the conditions in it, in order."""
    found: list[ast.stmt] = []
    ahead = [(node, depth) for node in reversed(body)]
    while ahead:
        node, depth = ahead.pop()
        if depth > MAX_DEPTH:
            raise _TooMuch(f"it nests classes or conditions more than {MAX_DEPTH} deep")
        if not isinstance(node, _CONDITIONS):
            found.append(node)
            continue
        inner = [(each, depth + 1) for each in node.body]
        for handler in getattr(node, "handlers", ()):
            inner += [(each, depth + 1) for each in handler.body]
        # What Python calls a chain of `elif` is one `if` in the other.
        after = [*getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
        chain = len(after) == 1 and isinstance(after[0], ast.If)
        inner += [(each, depth if chain else depth + 1) for each in after]
        ahead += reversed(inner)
    return found


def _function(node: _Function, kind: str) -> ListedFunction:
    returns = "" if node.returns is None else f" -> {_text(node.returns)}"
    return ListedFunction(
        name=node.name,
        signature=_cut(f"({_text(node.args)}){returns}", MAX_SIGNATURE),
        doc=_doc(node),
        line=node.lineno,
        kind=kind,
        is_async=isinstance(node, ast.AsyncFunctionDef),
        decorators=tuple(map(_text, node.decorator_list)),
    )


def _without_self(arguments: ast.arguments) -> ast.arguments:
    """The parameters but the first one. Their defaults stay, unless it was the first one that had them all."""
    before, named = list(arguments.posonlyargs), list(arguments.args)
    del (before or named)[:1]
    defaults = arguments.defaults[-(len(before) + len(named)) :] if before or named else []
    return ast.arguments(
        posonlyargs=before,
        args=named,
        vararg=arguments.vararg,
        kwonlyargs=arguments.kwonlyargs,
        kw_defaults=arguments.kw_defaults,
        kwarg=arguments.kwarg,
        defaults=defaults,
    )


def _method_kind(node: _Function) -> str:
    for decorator in node.decorator_list:
        name = _text(decorator)
        if name in ("staticmethod", "classmethod"):
            return name
        if name in ("property", "cached_property", "functools.cached_property") or name.endswith(
            (".setter", ".getter")
        ):
            return "property"
    return "method"


def _assigned(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _asks_for_main(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
        return False
    sides = [node.test.left, *node.test.comparators]
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    return "__name__" in names and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)


def _doc(node: ast.Module | ast.ClassDef | _Function) -> str:
    text = ast.get_docstring(node) or ""
    return _cut(text, MAX_TEXT).encode("utf-8", "replace").decode()


def _text(node: ast.AST) -> str:
    return _cut(ast.unparse(node), MAX_SIGNATURE).encode("utf-8", "replace").decode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
