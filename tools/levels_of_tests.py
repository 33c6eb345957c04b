"""At which levels a test runs its domains, read from the code of the tests: nothing is imported, nothing is run.

A test runs at the levels of its parameters and of the fixtures that it asks for, those that they ask for included, but
for the levels at which it skips itself. Where there are none, it runs at those that it names, itself or in what it uses
of its file and of the fixtures (``level="thread"``); and where none is named and something of it makes domains, at the
level of a domain that nobody asked for another one: process.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

__all__ = ["LEVELS", "levels_of"]

LEVELS = ["thread", "interpreter", "process"]

_MAKERS = {"Domain", "DomainPoolExecutor"}
"""What makes domains."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def levels_of(path: Path, test: Function) -> set[str]:
    """The levels of one test of a file; empty where it needs no domain."""
    scope = _Scope(path)
    found = scope.parametrized(test)
    if not found:
        return scope.named(test) or ({"process"} if scope.makes_domains(test) else set())
    return found - _skipped(test)


class _Scope:
    """What a test of one file can see: the names of the file, and the fixtures of the folders around it."""

    def __init__(self, path: Path) -> None:
        self._files = [path, *(folder / "conftest.py" for folder in path.parents if folder.name)]
        self._names: dict[str, ast.AST] = {}
        for file in reversed([each for each in self._files if each.exists()]):
            self._names |= _names_of(file)

    def parametrized(self, test: Function) -> set[str]:
        """The levels that parameters and fixtures give."""
        marks = [*test.decorator_list, *self._marks_of_the_file()]
        given = {name: levels for mark in marks for name, levels in self._parameters(mark).items()}
        found: set[str] = set().union(*given.values())
        for name in self._asked(test) - given.keys():
            found |= self._of_fixture(name, set(given))
        return found

    def named(self, test: Function) -> set[str]:
        """The levels that the code names, itself or in what it uses."""
        return {level for node in self._used(test) for level in _levels_said(node)}

    def makes_domains(self, test: Function) -> bool:
        """Whether anything makes a domain, here or in a program whose text is here."""
        return any(_makes(node) for node in self._used(test))

    def _asked(self, function: Function) -> set[str]:
        return {each.arg for each in function.args.args}

    def _of_fixture(self, name: str, seen: set[str]) -> set[str]:
        fixture = self._names.get(name)
        if name in seen or not isinstance(fixture, Function):
            return set()
        seen.add(name)
        found = {
            level
            for mark in fixture.decorator_list
            if isinstance(mark, ast.Call)
            for keyword in mark.keywords
            if keyword.arg == "params"
            for level in self._listed(keyword.value)
        }
        return found.union(*(self._of_fixture(asked, seen) for asked in self._asked(fixture)))

    def _marks_of_the_file(self) -> list[ast.expr]:
        marks = self._names.get("pytestmark")
        return list(marks.elts) if isinstance(marks, ast.List) else [marks] if isinstance(marks, ast.expr) else []

    def _parameters(self, mark: ast.expr) -> dict[str, set[str]]:
        """The parameters of one mark whose values are levels."""
        if not isinstance(mark, ast.Call) or getattr(mark.func, "attr", "") != "parametrize" or len(mark.args) < 2:
            return {}
        names = ast.unparse(mark.args[0]).strip("'\"")
        levels = self._listed(mark.args[1])
        return {names: set(levels)} if levels else {}

    def _listed(self, values: ast.expr) -> list[str]:
        """The levels of a list of parameters, in its order, also by its name and cut."""
        if isinstance(values, ast.Name):
            known = self._names.get(values.id)
            return self._listed(known) if isinstance(known, ast.expr) else []
        if isinstance(values, ast.Subscript) and isinstance(values.slice, ast.Slice):
            whole, upper, lower = self._listed(values.value), values.slice.upper, values.slice.lower
            return whole[_number(lower) : _number(upper)]
        said = [node for node in ast.walk(values) if isinstance(node, ast.Constant) and node.value in LEVELS]
        return [str(node.value) for node in sorted(said, key=lambda node: (node.lineno, node.col_offset))]

    def _used(self, test: Function) -> list[ast.AST]:
        """The test, its fixtures, and whatever of the names that they can see they use."""
        seen: set[str] = set()
        used: list[ast.AST] = [test]
        for node in used:  # it grows meanwhile
            for each in ast.walk(node):
                name = each.id if isinstance(each, ast.Name) else each.arg if isinstance(each, ast.arg) else ""
                if name in self._names and name not in seen:
                    seen.add(name)
                    used.append(self._names[name])
        return used


@cache
def _names_of(file: Path) -> dict[str, ast.AST]:
    """The functions, classes and values of a file, also those that it imports from other files of the tests."""
    names: dict[str, ast.AST] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            root = next(folder for folder in file.parents if folder.name == "tests").parent
            other = root.joinpath(*(node.module or "").split(".")).with_suffix(".py")
            theirs = _names_of(other) if other.exists() and other != file else {}
            names |= {each.asname or each.name: theirs[each.name] for each in node.names if each.name in theirs}
        elif isinstance(node, Function | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node.value
    return names


def _number(node: ast.expr | None) -> int | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else None


def _levels_said(node: ast.AST) -> set[str]:
    """The levels of ``level="..."``."""
    return {
        each.value.value
        for each in ast.walk(node)
        if isinstance(each, ast.keyword)
        and each.arg == "level"
        and isinstance(each.value, ast.Constant)
        and each.value.value in LEVELS
    }


def _makes(node: ast.AST) -> bool:
    for each in ast.walk(node):
        if isinstance(each, ast.Name | ast.Attribute):
            if (each.id if isinstance(each, ast.Name) else each.attr) in _MAKERS:
                return True
        elif isinstance(each, ast.Constant) and isinstance(each.value, str) and "Domain(" in each.value:
            return True
    return False


def _skipped(test: ast.AST) -> set[str]:
    """The levels at which a test skips itself: ``if level == "thread": pytest.skip(...)``."""
    found: set[str] = set()
    for each in ast.walk(test):
        if isinstance(each, ast.If) and any("skip" in ast.unparse(line) for line in each.body):
            found |= _refused(each.test)
    return found


def _refused(condition: ast.expr) -> set[str]:
    match condition:
        case ast.Compare(left=ast.Name(id="level"), ops=[ast.Eq()], comparators=[ast.Constant(value=str(level))]):
            return {level}
        case ast.Compare(left=ast.Name(id="level"), ops=[ast.NotEq()], comparators=[ast.Constant(value=str(level))]):
            return set(LEVELS) - {level}
    return set()  # it depends on more than the level
