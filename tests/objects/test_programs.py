"""Running programs, statements and expressions in a domain, and in the default domain."""

from __future__ import annotations

import sys
import threading
import traceback
from pathlib import Path

import pytest

import cloister
from tests.objects.conftest import MODULES


@pytest.mark.parametrize(("args", "code"), [([], 0), (["3"], 3), (["0"], 0), (["text"], 1)])
def test_module_runs_as_a_program(domain: cloister.Domain, args: list[str], code: int) -> None:
    """`run_module` gives the program its arguments and returns its exit code; a text is 1, as usual."""
    assert domain.run_module("programs", args) == code


def test_exception_of_a_program_is_raised_here(domain: cloister.Domain) -> None:
    """What a program raises beside SystemExit is raised at the call, with its own traceback."""
    with pytest.raises(LookupError, match="the program raised") as caught:
        domain.run_module("programs", ["raise"])
    assert "programs.py" in "".join(traceback.format_exception(caught.value))
    assert domain.eval("__import__('sys').argv") == [""]


def test_file_runs_as_a_program_beside_its_modules(domain: cloister.Domain, tmp_path: Path) -> None:
    """`run_path` runs a file with its arguments; the modules beside it are found, while it runs."""
    (tmp_path / "neighbour_of_the_program.py").write_text("CODE = 7")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, neighbour_of_the_program as n\n"
        "assert __name__ == '__main__' and sys.argv[0].endswith('program.py')\n"
        "sys.exit(n.CODE + len(sys.argv))\n"
    )
    assert domain.run_path(program, ["a", "b"]) == 10
    assert str(tmp_path) not in domain.eval("__import__('sys').path")


def test_folder_runs_as_a_program(domain: cloister.Domain, tmp_path: Path) -> None:
    """A folder with a `__main__` is a program too."""
    (tmp_path / "__main__.py").write_text("raise SystemExit(9)")
    assert domain.run_path(tmp_path) == 9


def test_program_runs_in_the_default_domain_on_this_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """S35: in the default domain a program runs on the calling thread, in the caller's context; its exit code."""
    monkeypatch.syspath_prepend(str(MODULES))
    here = cloister.current_domain()
    assert here.run_module("programs", ["4"]) == 4
    assert here.run_module("programs") == 0
    program = tmp_path / "where.py"
    program.write_text(
        "import cloister, threading, sys\n"
        "where = threading.get_ident(), cloister.current_context().id\n"
        "raise SystemExit(where == tuple(map(int, sys.argv[1:])))"
    )

    @cloister.synchronized
    class Runner:
        def run(self, thread: int) -> tuple[int, int]:
            context = cloister.current_context().id
            return here.run_path(program, [str(thread), str(context)]), context

    thread = threading.get_ident()
    assert here.run_path(program, [str(thread), "0"]) == 1
    code, context = Runner().run(thread)
    assert code == 1
    assert context > 0
    assert sys.argv[0] != str(program)


def test_statements_and_expressions_share_a_namespace(domain: cloister.Domain) -> None:
    """What `exec` defines, later calls of `exec` and `eval` see; modules and dataclasses find it as `__cloister__`."""
    domain.exec("import dataclasses\ntotal = sum(range(10))")
    assert domain.eval(" total ") == 45
    domain.exec(
        "@dataclasses.dataclass\nclass Pair:\n  one: 'int'\n  two: int = 2\n  def sum(self): return self.one + 2"
    )
    assert domain.eval("Pair(1)").sum() == 3
    assert domain.call("__cloister__:Pair", 5).sum() == 7
    assert domain.eval("__import__('pickle').loads(__import__('pickle').dumps(Pair(1))) == Pair(1)") is True


def test_sources_of_exec_do_not_pile_up(domain: cloister.Domain) -> None:
    """Only the last sources are kept for tracebacks."""
    domain.exec("import linecache")
    for number in range(1100):
        domain.eval(f"{number}")
    assert domain.eval("sum(name.startswith('<cloister') for name in linecache.cache)") == 1000
