"""The comparison without domains: how far one process gets, and that it is always ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.cli.demo import one_process


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runaway pattern in the second file: one file done, hung at the second, and the process is gone."""
    monkeypatch.setattr(one_process, "PATIENCE", 1.5)
    good, bad, never = (tmp_path / name for name in ("a.log", "b.log", "c.log"))
    good.write_text('192.0.2.1 [2026-03-01] "get/page" 200')
    bad.write_text(f'192.0.2.1 [2026-03-01] "{"a" * 60} 200')
    never.write_text("")
    found = one_process.compare([good, bad, never], tmp_path)
    assert str(found) == "one process did 1 of 3 files, then hung at b.log; 2 not read"


def test_a_process_that_exits_is_told_with_its_code(tmp_path: Path) -> None:
    """A module that leaves by os._exit takes the one process with it."""
    bad = tmp_path / "bad.gz"
    bad.write_bytes(b"no gzip file")
    found = one_process.compare([bad], tmp_path)
    assert str(found) == "one process did 0 of 1 file, then exited with code 3 at bad.gz; 1 not read"


def test_a_process_that_meets_exceptions_only_gets_through(tmp_path: Path) -> None:
    """Exceptions are caught, and kinds that nobody reads are passed over: the comparison is a fair one."""
    torn, unknown = tmp_path / "torn.json", tmp_path / "notes.txt"
    torn.write_text("[")
    unknown.write_text("")
    assert str(one_process.compare([torn, unknown], tmp_path)) == "one process got through all of 2 files"
