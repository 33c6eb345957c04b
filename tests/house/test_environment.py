"""How the Pythons of a machine are found: whatever is on the path or in pyenv's folder, if it really runs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs of these tests are shell scripts")

TOOL = Path(__file__).parent.parent.parent / "tools" / "environment.py"


@pytest.fixture
def tool() -> dict[str, Any]:
    """The names of the tool, not run as a program."""
    return runpy.run_path(str(TOOL))


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_python_of_the_path_is_found_when_it_runs(
    tool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shim that finds nothing to run is passed over, and the next one of that name is taken."""
    _program(tmp_path / "shims" / "python3.12", "echo no such version >&2; exit 127")
    real = _program(tmp_path / "bin" / "python3.12", "echo 3 12")
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:{tmp_path / 'bin'}:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    assert tool["other_pythons"]()[3, 12] == str(real)


def test_a_python_of_pyenv_is_found_without_the_path(
    tool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pyenv has installed counts, also when no version of it is switched on; free-threaded builds do not."""
    versions = tmp_path / "versions"
    _program(versions / "3.12.9t" / "bin" / "python", "echo 3 12")
    real = _program(versions / "3.12.8" / "bin" / "python", "echo 3 12")
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert tool["other_pythons"]()[3, 12] == str(real)


def test_a_python_from_debian_is_found_after_all_others(
    tool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What debian_python.py has put into the checkout counts where nothing else of that version runs."""
    fetched = _program(tmp_path / ".cache" / "python-3.14" / "usr" / "bin" / "python3.14", "echo 3 14")
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.setitem(tool["debian_place"].__globals__, "CHECKOUT", tmp_path)
    assert tool["find_python"]((3, 14)) == str(fetched)
    other = _program(tmp_path / "bin" / "python3.14", "echo 3 14")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    assert tool["find_python"]((3, 14)) == str(other)


def test_a_python_that_is_not_there_is_told(
    tool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supported version that nothing runs is in the answer, as None, and so can be named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setitem(tool["debian_place"].__globals__, "CHECKOUT", tmp_path)
    others = tool["other_pythons"]()
    assert set(others.values()) == {None}
    assert len(others) == len(tool["SUPPORTED"]) - (sys.version_info[:2] in tool["SUPPORTED"])


def test_a_python_that_is_too_old_is_refused_with_the_way_out(
    tool: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the version that is needed, the one that was found, and how to choose another."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(tool["EnvironmentFailed"], match=r"needs Python 3\.11 or later, .* is 3\.9; .*make PYTHON="):
        tool["main_environment"]()
