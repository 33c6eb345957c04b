"""What the public interface says of itself: its errors, its types, the unit of each time."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

from cloister import errors
from tests.house.test_interface import PACKAGES, _import

CHECKOUT = Path(__file__).parent.parent.parent

TIME = re.compile(r"timeout|(^|_)(after|interval|period|patience|pause|wait)(_|$)")
"""Names of parameters that are times."""

ROOTS = {"CloisterError", "DomainError", "CallError"}
"""What is caught and never raised."""
PERMISSIONS = {"SandboxUnavailable", "PermissionDenied"}
"""Their names are fixed before anything raises them."""


def _functions() -> Iterator[tuple[str, FunctionType, type | None]]:
    """Each public function and method once: where it is, and of which class."""
    seen = set()
    for package in PACKAGES:
        module = _import(package)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            owner = thing if inspect.isclass(thing) and thing.__module__.startswith("cloister") else None
            for member, value in vars(owner).items() if owner else [("", thing)]:
                function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                private = member.startswith("_") and member != "__init__"
                if not isinstance(function, FunctionType) or private or function in seen:
                    continue
                if Path(function.__code__.co_filename).exists():  # else a dataclass made it, whose fields are explained
                    seen.add(function)
                    yield f"{package}.{name}.{member}".rstrip("."), function, owner


FUNCTIONS = list(_functions())


def _words(function: FunctionType, owner: type | None) -> str:
    """What is said of a function, with what its class and the module say of everything in them."""
    around = "" if owner is None else f"{inspect.getdoc(owner)}\n{sys.modules[owner.__module__].__doc__}"
    return f"{inspect.getdoc(function)}\n{around}"


def test_what_is_public_names_the_errors_that_it_raises() -> None:
    """Each class that a public function raises itself stands in its docstring, or in its class's."""
    silent = []
    for where, function, owner in FUNCTIONS:
        code = ast.parse(textwrap.dedent(inspect.getsource(function)))
        raised = {
            ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc).rpartition(".")[2]
            for node in ast.walk(code)
            if isinstance(node, ast.Raise) and node.exc is not None
        }
        named = {name for name in raised if name[:1].isupper()}
        hidden = {"AssertionError", "NotImplementedError"}  # what can't happen, and another platform
        words = _words(function, owner)
        silent += [f"{where}: {name}" for name in sorted(named - hidden) if name not in words]
    assert not silent, f"raised, and not told: {silent}"


def test_what_is_public_tells_the_unit_of_each_time() -> None:
    """Where a parameter is a time, the docstring of the function or of its class says that it is in seconds."""
    silent = [
        f"{where}({parameter.name})"
        for where, function, owner in FUNCTIONS
        for parameter in inspect.signature(function).parameters.values()
        if "float" in str(parameter.annotation)
        and TIME.search(parameter.name)
        and not re.search(r"\bseconds?\b|\bs\b", _words(function, owner))
    ]
    assert not silent, f"times without a unit: {silent}"


def test_what_is_public_tells_each_type() -> None:
    """Each parameter and each result is annotated, also where a type checker was told to look away."""
    silent = [
        f"{where}({parameter.name})"
        for where, function, _ in FUNCTIONS
        for number, parameter in enumerate(inspect.signature(function).parameters.values())
        if parameter.annotation is parameter.empty and not (number == 0 and parameter.name in ("self", "cls"))
    ]
    silent += [where for where, function, _ in FUNCTIONS if "return" not in function.__annotations__]
    assert not silent, f"without a type: {silent}"


@pytest.fixture(scope="module")
def sources() -> str:
    """The text of the package."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "src").rglob("*.py"))


@pytest.fixture(scope="module")
def tests() -> str:
    """The text of the tests."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests").rglob("*.py"))


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - ROOTS))
def test_every_error_is_raised_and_a_test_waits_for_it(name: str, sources: str, tests: str) -> None:
    """Each class of the tree is made somewhere in the package, and some test expects it; a promised one says so."""
    made = re.search(rf"(?<!class )\b{name}(\(|\b(?=.* from\b)|$)", sources, re.MULTILINE)
    expected = re.search(rf"raises\([^)]*\b{name}\b", tests)
    if name in PERMISSIONS:
        assert not expected
        assert "Nothing raises it yet" in (getattr(errors, name).__doc__ or "")
    else:
        assert made, f"nothing raises {name}: delete it"
        assert expected, f"no test expects {name} with pytest.raises"
