"""What tools/run_tests.py is told: which test runs now, for a run that hangs, and what the run has left behind."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

__all__ = ["note_left", "pytest_runtest_protocol"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep a note with the name of the test while it runs, one for each process, in the folder that is asked for."""
    folder = os.environ.get("CLOISTER_TESTS_RUNNING")
    if folder is None:
        return (yield)
    note = Path(folder, str(os.getpid()))
    note.write_text(item.nodeid, encoding="utf-8")
    try:
        return (yield)
    finally:
        note.unlink(missing_ok=True)


def note_left(found: str) -> None:
    """Note what the run as a whole has left behind. The test that came last is told of it, and is not to blame."""
    folder = os.environ.get("CLOISTER_TESTS_RUNNING")
    if folder is not None:
        Path(folder, "left").write_text(found, encoding="utf-8")
