"""Code goes down: how a callable of the host, wherever it was written, reaches a guest."""

from __future__ import annotations

import datetime
import decimal
import functools
import math
import operator
import os
import re
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.objects import pickles, targets
from tests.objects.conftest import MODULES

OTHER_VERSION = (3, 99)
HERE = "module of this test"


class Shop:
    """A class of this module, which a guest could import; see the tests for one that it could not."""

    @classmethod
    def made(cls) -> str:
        return cls.__name__

    @staticmethod
    def fixed() -> int:
        return 5

    def named(self) -> str:
        return "shop"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.path.join, "posixpath:join"), (len, "builtins:len"), (math.sqrt, "math:sqrt"), (dict, "builtins:dict"),
        (str.upper, "builtins:str.upper"), (dict.fromkeys, "builtins:dict.fromkeys"),
        (int.__add__, "builtins:int.__add__"),
        (datetime.date.today, "datetime:date.today"), (functools.partial, "functools:partial"),
        (Shop, f"{__name__}:Shop"), (Shop.made, f"{__name__}:Shop.made"), (Shop.fixed, f"{__name__}:Shop.fixed"),
    ],
)  # fmt: skip
def test_what_can_be_imported_goes_by_name(function: Any, name: str) -> None:
    """Functions, classes, built-ins, class and static methods travel by the name that leads back to them."""
    assert targets.by_name(function) == name
    assert targets.to_plain(function, OTHER_VERSION) == ["name", name]
    assert targets.from_plain(["name", name]) == function


def _renamed() -> types.FunctionType:
    made = types.FunctionType(test_what_can_be_imported_goes_by_name.__code__, {}, "gone")
    made.__module__ = __name__
    return made


@pytest.mark.parametrize(
    "function", [lambda: 1, _renamed(), Shop().named, functools.partial(len), operator.itemgetter(1)]
)
def test_what_can_not_be_imported_has_no_name(function: Any) -> None:
    """A lambda, what its name does not lead back to, and methods of an object do not go by name."""
    assert targets.by_name(function) is None


def test_callables_of_all_kinds_run_over_there(domain: cloister.Domain) -> None:
    """Lambdas, closures, nested functions and classes, partials, bound methods and built-ins run in the domain."""
    base = 40

    def nested(number: int = 1) -> tuple[int, int]:
        return base + number, os.getpid()

    class Local:
        def __init__(self, name: str) -> None:
            self.name = name

        def where(self) -> tuple[str, int]:
            return self.name, os.getpid()

    assert domain.call(nested, 2) == (42, domain.pid)
    assert domain.call(lambda: os.getpid()) == domain.pid
    assert domain.call(functools.partial(nested, number=3)) == (43, domain.pid)
    assert domain.create(Local, "Ada").where() == ("Ada", domain.pid)
    assert domain.call(Local("Bob").where) == ("Bob", domain.pid)
    assert domain.call([1, 2, 3].index, 3) == 2
    assert domain.call(operator.itemgetter(1), "abc") == "b"
    assert list(domain.map(lambda number: number + base, range(3))) == [40, 41, 42]
    assert domain.submit(nested).result(10) == (41, domain.pid)


def test_class_that_goes_by_value_is_one_class(domain: cloister.Domain) -> None:
    """A local class that is sent twice is the same class over there, and its proxies are instances of it here."""

    class Local:
        def is_like(self, other: object) -> bool:
            return isinstance(other, type(self))

    one, two = domain.create(Local), domain.create(Local)
    assert one.is_like(two)
    assert isinstance(one, Local)


def test_partial_travels_by_its_parts(domain: cloister.Domain) -> None:
    """The arguments of a partial travel as any argument does: a proxy goes home, a function is called back."""
    thing = domain.create("lifetimes:Thing")
    assert domain.call(functools.partial(operator.is_, thing), thing) is True
    seen: list[int] = []
    domain.call(functools.partial(map_over, seen.append), [1, 2])
    assert seen == [1, 2]
    plain = targets.to_plain(functools.partial(math.pow, 2), OTHER_VERSION)
    assert plain == ["partial", ["name", "math:pow"], [2], {}]


def map_over(function: Any, values: list[int]) -> None:
    """Call a function for each value."""
    for value in values:
        function(value)


def test_method_of_a_proxy_is_a_target(domain: cloister.Domain) -> None:
    """`submit`, `call` and `map` take a method of a proxy, or a function that came from the domain."""
    customers = domain.create("customers:Customers")
    assert domain.submit(customers.add, "Ada", upper=True).result(10) == 1
    assert list(domain.map(customers.add, ["Bob", "Cleo"])) == [2, 3]
    assert domain.call(customers.list) == ["ADA", "Bob", "Cleo"]


def test_code_among_the_arguments_runs_over_there(domain: cloister.Domain) -> None:
    """A callable argument is a call-back; wrapped in `code()` it is code, by value and by name."""
    customers = domain.create("customers:Customers")
    assert customers.call(os.getpid) == os.getpid()
    assert customers.call(cloister.code(os.getpid)) == domain.pid
    assert customers.call(cloister.code(lambda: os.getpid())) == domain.pid
    assert domain.call("customers:make", cloister.code(dict), [(1, 2)]) == {1: 2}
    assert domain.call("builtins:isinstance", 5, cloister.code(int)) is True


def test_code_that_can_not_be_had_over_there_is_an_error_of_the_call(domain: cloister.Domain) -> None:
    """Bad input: an argument of code that the guest can't import is a MarshalError; the domain goes on."""
    module = types.ModuleType("only_here")
    exec("def function(): return 1", module.__dict__)
    sys.modules["only_here"] = module
    try:
        with pytest.raises(cloister.MarshalError, match=r"can't be had in the domain: ModuleNotFoundError.*only_here"):
            domain.call("customers:make", cloister.code(module.function))
        with pytest.raises(ModuleNotFoundError, match="only_here"):
            domain.call(module.function)
    finally:
        del sys.modules["only_here"]
    assert domain.call("operator:add", 1, 2) == 3


def _alone(number: int) -> float:
    return math.floor(math.sqrt(number)) + 0.5


def _needs_its_module() -> str:
    return HERE


def _typed(source: str) -> Any:
    """The function that some source defines which is in no file."""
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec(source, namespace)
    return namespace["typed"]


def _made_around(number: int) -> Any:
    def made() -> int:
        return number

    return made


def test_function_goes_to_another_version_as_its_source() -> None:
    """To another Python version a function that stands by itself goes as source; with line numbers for tracebacks."""
    function = types.FunctionType(_alone.__code__, _alone.__globals__, "_alone")
    plain = targets.to_plain(function, OTHER_VERSION)
    assert plain[0] == "source"
    assert plain[3] == {"math": "math"}
    assert targets.from_plain(plain)(17) == 4.5


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: 1, "put it into a module"),
        (types.FunctionType(_needs_its_module.__code__, globals(), "f"), "uses 'HERE' of its module"),
        (eval("lambda: 1"), "put it into a module"),
        (_typed("def typed():\n    return 1"), "its source is not there"),
        (_made_around(7), "variables of the function around it"),
        (Shop().named, "put it into a module"),
    ],
    ids=["lambda", "name", "typed lambda", "no source", "closure", "method"],
)
def test_what_can_not_go_to_another_version_says_so(function: Any, says: str) -> None:
    """Code never goes as foreign bytecode: what is neither importable nor alone is a MarshalError with the way out."""
    with pytest.raises(cloister.MarshalError, match=r"3\.99") as caught:
        targets.to_plain(function, OTHER_VERSION)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("math.sqrt", "'math:sqrt'"),
        ("sqrt", "'package.module:name'"),
        ("math:", "'package.module:name'"),
        ("math..sqrt", "'package.module:name'"),
        ("math:os:path", "'package.module:name'"),
        ("", "'package.module:name'"),
    ],
)
def test_name_that_names_no_code_is_told_how_to_write_it(name: str, advice: str) -> None:
    """Bad input: a dot where a colon belongs is put right in the error; anything else is shown the form."""
    with pytest.raises(ValueError, match=f"^{re.escape(repr(name))} does not name code: write {re.escape(advice)}"):
        targets.split(name)


def test_class_of_a_name_is_found_or_there_is_none() -> None:
    """Of what is no class, not there, or no name at all, there is no type; nothing is raised."""
    assert targets.resolve_type("decimal:Decimal") is decimal.Decimal
    for name in ("math:sqrt", "math:nothing", "no_such_module:Thing", "no name"):
        assert targets.resolve_type(name) is None


def test_pickle_of_another_version_is_refused_before_it_is_read() -> None:
    """A pickle that another version made is a clear error, and is not opened."""
    with pytest.raises(cloister.MarshalError, match=r"code made by Python 3\.99"):
        targets.from_plain(["value", b"no pickle at all", [3, 99]])


SCRIPT = """
import cloister, os, sys
RUNS = "{marks}"
with open(RUNS, "a") as marks:
    marks.write("run ")

BASE = 40

class Account:
    def __init__(self, start): self.balance = start
    def add(self, amount):
        self.balance += amount
        return self.balance

def add(number, plus=1):
    return helper(number) + plus

def helper(number):
    return number + BASE

def where():
    return os.getpid()
"""
USE = """
with cloister.Domain("of main") as domain:
    assert domain.call(add, 1) == 42
    assert domain.call(lambda: where()) == domain.pid != os.getpid()
    account = domain.create(Account, 5)
    assert isinstance(account, Account)
    assert account.add(2) == 7
    assert list(domain.map(add, [0, 1])) == [41, 42]
    assert domain.call("customers_of_nowhere:x".split(":")[1].upper) == "X"
    print("done", flush=True)
"""


def _run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *command], input=text, capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "not guarded"])
def test_script_sends_its_own_code_and_runs_once(tmp_path: Path, guarded: bool) -> None:
    """Functions and classes of `__main__` reach a domain, which never runs the main module again, guarded or not."""
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    use = 'if __name__ == "__main__":\n' + textwrap.indent(USE, "    ") if guarded else USE
    script.write_text(SCRIPT.format(marks=marks) + use)
    assert "done" in _run([str(script)])
    assert marks.read_text() == "run "


def test_module_that_is_run_sends_its_own_code(tmp_path: Path) -> None:
    """What runs by `python -m` is `__main__` too, and is not run again."""
    marks = tmp_path / "marks"
    (tmp_path / "as_module.py").write_text(SCRIPT.format(marks=marks) + USE)
    done = subprocess.run(
        [sys.executable, "-m", "as_module"], cwd=tmp_path, capture_output=True, text=True, timeout=25, check=False
    )
    assert done.stdout.strip() == "done", done.stderr
    assert marks.read_text() == "run "


@pytest.mark.parametrize("command", [["-"], ["-i", "-q"]], ids=["standard input", "interactive"])
def test_code_that_was_typed_reaches_a_domain(tmp_path: Path, command: list[str]) -> None:
    """What was typed at the prompt or read from standard input has no file, and reaches a domain all the same."""
    text = SCRIPT.format(marks=tmp_path / "marks") + USE
    if command != ["-"]:  # a prompt takes one statement at a time
        text = f"exec({text!r})\n"
    assert "done" in _run(command, text)


def test_code_of_a_notebook_reaches_a_domain(domain: cloister.Domain) -> None:
    """A cell's code lives in a module that no file holds; it goes by value, and running the cell again replaces it."""
    cells = types.ModuleType("__main__")
    cells.__dict__["__name__"] = "__main__"
    for result in (1, 2):
        exec(f"BASE = {result}\ndef compute():\n    return BASE", cells.__dict__)
        exec("class Cell:\n    def base(self): return compute()", cells.__dict__)
        assert domain.call(cells.compute) == result
        assert domain.create(cells.Cell).base() == result


def test_modules_of_the_tests_are_not_loaded_by_the_host() -> None:
    """S49: what is named here by a string is loaded by guests alone."""
    assert str(MODULES) not in sys.path
    assert "customers" not in sys.modules


def test_pickle_is_read_with_the_cloudpickle_that_the_host_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment without cloudpickle the host's is loaded under a private name, once, and nothing beside it."""
    import cloudpickle.cloudpickle

    monkeypatch.setattr(pickles, "_file", None)
    monkeypatch.delitem(sys.modules, "cloister.objects._cloudpickle", raising=False)
    data, buffers = pickles.dump(lambda: 42)
    pickles.read_with(cloudpickle.cloudpickle.__file__)
    before = set(sys.modules)
    assert pickles.load(data, buffers)() == pickles.load(data, buffers)() == 42
    assert set(sys.modules) - before == {"cloister.objects._cloudpickle"}
    pickles.read_with("/no/such/cloudpickle.py")
    monkeypatch.delitem(sys.modules, "cloister.objects._cloudpickle")
    with pytest.raises(FileNotFoundError):
        pickles.load(data, buffers)
    assert "cloister.objects._cloudpickle" not in sys.modules
