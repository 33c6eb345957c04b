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


def test_a_docstring_that_names_no_check_of_ours_is_refused(tool: Any, tmp_path: Path) -> None:
    """A check that does not exist, in a docstring, is told with its file; what names one is found with its level."""
    folder = tmp_path / "tests"
    (folder / "levels").mkdir(parents=True)
    (folder / "levels" / "test_one.py").write_text(
        'def test_one(level):\n    """S14, O05: it holds."""\n'
        'def test_two(level):\n    """S42: here."""\n    if level == "thread":\n        pytest.skip("shares")\n',
        encoding="utf-8",
    )
    proofs = tool.collect(folder)
    assert proofs["S14"].levels == {"thread", "interpreter", "process"}
    assert proofs["S42"].levels == {"interpreter", "process"}
    assert proofs["O05"].files == ["tests/levels/test_one.py"]
    (folder / "test_two.py").write_text('def test_two():\n    """S99: it does not."""\n', encoding="utf-8")
    with pytest.raises(ValueError, match="test_two names S99"):
        tool.collect(folder)
