"""The program of a domain, `Setup.entry_point`: how it is run, and what names none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cloister
from cloister.domain.entry import entry_of, way_to_run


@pytest.mark.parametrize(
    ("entry", "way"),
    [
        ("acme.report", "run_module"),
        ("acme.report:main", "run_function"),
        ("tools/report.py", "run_path"),
        ("C:\\tools\\report.py", "run_path"),
        ("tools/report.py:main", "run_function"),
        ("report.pyz", "run_path"),
        (Path("tools/report"), "run_path"),
    ],
)
def test_text_says_how_a_program_is_run(entry: str | Path, way: str) -> None:
    """A module, a function of a module or a file, a file, an archive: each is run in its own way."""
    assert way_to_run(entry) == way


@pytest.mark.parametrize("entry", ["", "acme..report", "acme:", ":main", "report.pyz:main"])
def test_text_that_names_no_program_is_refused(entry: str) -> None:
    """Bad input: the error shows the text, and what to write."""
    with pytest.raises(ValueError, match=re.escape(repr(entry))):
        way_to_run(entry)


def test_set_up_without_a_program_says_so() -> None:
    """Where the set-up names no entry point there is nothing to run."""
    with pytest.raises(ValueError, match=r"domain 'reports' has no program of its own"):
        entry_of("reports", cloister.Setup())


def test_relative_file_is_found_from_the_application_base(tmp_path: Path) -> None:
    """A file, and the file of a function, are resolved against the base; what is imported is not."""
    base = cloister.Setup(base=tmp_path, entry_point="run.py")
    assert entry_of("reports", base) == ("run_path", str(tmp_path / "run.py"))
    assert entry_of("reports", cloister.Setup(base=tmp_path, entry_point="run.py:main")) == (
        "run_function",
        f"{tmp_path / 'run.py'}:main",
    )
    assert entry_of("reports", cloister.Setup(base=tmp_path, entry_point="acme.report")) == (
        "run_module",
        "acme.report",
    )
