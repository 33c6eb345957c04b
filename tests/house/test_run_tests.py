"""How the suite is run: a run in which nothing happens any more is ended, and says where it hung."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a run is ended by signals")

ROOT = Path(__file__).parent.parent.parent

HANGS = """
import signal, time

def test_quick():
    pass

def test_that_hangs():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        time.sleep(1)
"""

# A test that fails the first time only. The configurations beside it break that run, and no later one.
FLAKY = """
from pathlib import Path

def test_flaky():
    note = Path(__file__).with_suffix(".note")
    if not note.exists():
        note.touch()
        raise AssertionError

def test_other():
    pass
"""
BREAKS = """
import os, pytest
from pathlib import Path

first = not Path(__file__).with_name("test_it.note").exists()

def pytest_runtest_logfinish(nodeid):
    if first and nodeid.endswith("test_flaky") and "PYTEST_XDIST_WORKER" not in os.environ:
        raise {error}("the run is over")
"""
LEAVES = """
import pytest
from pathlib import Path
from tests.running import note_left

first = not Path(__file__).with_name("test_it.note").exists()

@pytest.fixture(scope="session", autouse=True)
def ground():
    yield
    if first:
        note_left("a process")
        pytest.fail("The run leaves a process behind")
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the tool, for a checkout that has nothing but a test file."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this may be one; the runs that are begun here are none
    for folder in ("src", "tests/modules"):
        (tmp_path / folder).mkdir(parents=True)
    lines = ["[pytest]", f"pythonpath = {ROOT}", "addopts = -p tests.running", "cache_dir = .cache/pytest"]
    (tmp_path / "pytest.ini").write_text("\n".join(lines))
    names = runpy.run_path(str(ROOT / "tools" / "run_tests.py"))
    patched: dict[str, Any] = names["_pytest"].__globals__
    values = {"CHECKOUT": tmp_path, "CACHE": tmp_path / ".cache", "STILL_S": 5, "SIDE_BY_SIDE": ["-n", "1"]}
    for name, value in values.items():
        monkeypatch.setitem(patched, name, value)
    return patched


def test_run_that_hangs_is_ended_with_its_stacks(
    tool: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A test that no limit reaches, in a worker: the run ends by itself, with the test's name and all stacks."""
    (tmp_path / "test_it.py").write_text(HANGS.replace("range(1, 65)", "[signal.SIGALRM]"))
    assert tool["_pytest"](Path(sys.executable), ["-n", "1", "test_it.py"]) == 2
    out, err = capfd.readouterr()
    assert "What ran:\n  test_it.py::test_that_hangs" in out
    assert "in test_that_hangs" in err
    assert not list((tmp_path / ".cache").glob("runs/*/running"))


def test_run_that_refuses_to_end_is_killed(
    tool: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process that lets no signal through is killed, too."""
    (tmp_path / "test_it.py").write_text(HANGS)
    assert tool["_pytest"](Path(sys.executable), ["test_it.py"]) == 2
    assert "What ran:\n  test_it.py::test_that_hangs" in capfd.readouterr().out


@pytest.mark.parametrize(("text", "code"), [("def test(): pass", 0), ("def test(): assert 0", 1), ("", 5)])
def test_code_of_a_run(tool: dict[str, Any], tmp_path: Path, text: str, code: int) -> None:
    """pytest's own: 0 where all passed, 1 where a test failed, 5 where there was none."""
    (tmp_path / "test_it.py").write_text(text)
    assert tool["_pytest"](Path(sys.executable), ["-q", "test_it.py"]) == code


@pytest.mark.parametrize(
    ("configuration", "failed", "again"),
    [
        ("", 0, ["test_it.py::test_flaky"]),
        (BREAKS.format(error="pytest.Session.Interrupted"), 1, []),
        (BREAKS.format(error="RuntimeError"), 1, []),
        (LEAVES, 1, []),
    ],
    ids=["a test fails", "interrupted", "internal error", "the run leaves something"],
)
def test_what_is_run_again(
    tool: dict[str, Any], tmp_path: Path, configuration: str, failed: int, again: list[str]
) -> None:
    """A test that fails gets a second chance; a run that was cut short, or that leaves something behind, gets none."""
    (tmp_path / "conftest.py").write_text(configuration)
    (tmp_path / "test_it.py").write_text(FLAKY)
    suite = tool["_Suite"]()
    suite.run("", Path(sys.executable), ["-q", "test_it.py"])
    assert (suite.failed, suite.again) == (failed, again)


def test_notes_of_another_run_are_left_alone(tool: dict[str, Any], tmp_path: Path) -> None:
    """Two runs of one checkout at once keep their figures and notes apart."""
    others = [tmp_path / ".cache" / name for name in ("pytest/v/cache/lastfailed", "coverage/data-1", "runs/1/note")]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("{}")
    (tmp_path / "test_it.py").write_text("def test(): assert 0")
    suite = tool["_Suite"]()
    suite.run("", Path(sys.executable), ["-q", "test_it.py"])
    assert suite.failed == 1
    assert [other.read_text() for other in others] == ["{}"] * 3


def test_only_processes_of_the_run_are_signalled(tool: dict[str, Any], tmp_path: Path) -> None:
    """A note whose process is gone, and whose number another process has now: that one is left alone."""
    notes = tmp_path / "notes"
    notes.mkdir()
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(sleeps, start_new_session=True) as run,
        subprocess.Popen(sleeps) as other,
    ):
        try:
            (notes / str(other.pid)).write_text("a test")
            (notes / "999999999").write_text("a test before")
            (notes / "left").write_text("a process")
            assert sorted(tool["_stacks"](run, notes)) == ["a test", "a test before"]
            assert run.returncode is not None
            assert other.poll() is None
        finally:
            for each in (run, other):
                each.kill()
