"""How the suite is run: a run in which nothing happens any more is ended, and says where it hung."""

from __future__ import annotations

import runpy
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


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the tool, for a checkout that has nothing but a test file."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    for folder in ("src", "tests/modules"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\naddopts = -p tests.running\n")
    names = runpy.run_path(str(ROOT / "tools" / "run_tests.py"))
    patched: dict[str, Any] = names["_pytest"].__globals__
    for name, value in {"CHECKOUT": tmp_path, "CACHE": tmp_path / ".cache", "STILL_S": 5}.items():
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
    assert not list((tmp_path / ".cache" / "running").iterdir())


def test_run_that_refuses_to_end_is_killed(
    tool: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process that lets no signal through is killed, too."""
    (tmp_path / "test_it.py").write_text(HANGS)
    assert tool["_pytest"](Path(sys.executable), ["test_it.py"]) == 2
    assert "What ran:\n  test_it.py::test_that_hangs" in capfd.readouterr().out


@pytest.mark.parametrize(("text", "code"), [("def test(): pass", 0), ("def test(): assert 0", 1), ("", 1)])
def test_code_of_a_run(tool: dict[str, Any], tmp_path: Path, text: str, code: int) -> None:
    """0 where all passed, 1 where a test failed or where there was none."""
    (tmp_path / "test_it.py").write_text(text)
    assert tool["_pytest"](Path(sys.executable), ["-q", "test_it.py"]) == code
