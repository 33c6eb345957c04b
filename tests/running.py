"""Which test runs now, for tools/run_tests.py: it names the tests of a run that hangs."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

__all__ = ["pytest_runtest_protocol"]


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
