"""The table of what is proved is what the tests say, and leaves no check out."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool, as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("checks_table")


def test_every_check_is_named_by_a_test(tool: Any) -> None:
    """Each check of the designs is proved by a test that names it, and the page is what the tool writes."""
    proofs = tool.collect()
    assert [name for name, proof in proofs.items() if not proof.files] == []
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(proofs), "run tools/checks_table.py"


CONFTEST = """
import pytest
EVERY = ["thread", pytest.param("interpreter", marks=[]), "process"]

@pytest.fixture(params=EVERY)
def level(request): ...

@pytest.fixture
def make(level): ...
"""
TESTS = '''
from tests.levels.conftest import EVERY

def helper():
    return Domain("x")

def test_one(make):
    """S14, O05: it holds."""

def test_two(make, level):
    """S42: here."""
    if level == "thread":
        pytest.skip("shares")

@pytest.mark.parametrize("level", EVERY[:2], indirect=True)
def test_three(make):
    """S43: in this process."""

def test_four():
    """S44: by default."""
    helper()

def test_five():
    """S45: of no domain; Domain in words alone is none."""

def test_six():
    """S46: at one."""
    Domain("x", level="thread")
'''


def test_levels_are_those_at_which_a_test_runs(tool: Any, tmp_path: Path) -> None:
    """Fixtures and parameters give the levels, a skip takes one away; else what makes domains, in a helper too."""
    folder = tmp_path / "tests"
    (folder / "levels").mkdir(parents=True)
    (folder / "levels" / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "levels" / "test_one.py").write_text(TESTS, encoding="utf-8")
    proofs = tool.collect(folder)
    assert {name: proofs[name].levels for name in ("S14", "S42", "S43", "S44", "S45", "S46")} == {
        "S14": {"thread", "interpreter", "process"},
        "S42": {"interpreter", "process"},
        "S43": {"thread", "interpreter"},
        "S44": {"process"},
        "S45": set(),
        "S46": {"thread"},
    }
    assert proofs["O05"].files == ["tests/levels/test_one.py"]


def test_checks_of_the_same_levels_are_told_in_words(tool: Any) -> None:
    """Three and more in a row are told as a range, which never goes from one letter to the other."""
    process = {"S01", "S04", "S05", "S06", "S53", "O01", "O02", "O05"}
    proofs = {name: tool.Proof(levels={"process"} if name in process else set()) for name in tool.CHECKS}
    assert tool._at(proofs, {"process"}) == "S01, S04 to S06, S53, O01, O02 and O05"
    assert tool._at({"S01": proofs["S01"]}, {"process"}) == "S01"
    assert tool._at(proofs, {"thread"}) == "None"


def test_a_docstring_that_names_no_check_of_ours_is_refused(tool: Any, tmp_path: Path) -> None:
    """A check that does not exist, in a docstring, is told with its file."""
    (tmp_path / "test_two.py").write_text('def test_two():\n    """S99: it does not."""\n', encoding="utf-8")
    with pytest.raises(ValueError, match="test_two names S99"):
        tool.collect(tmp_path)
