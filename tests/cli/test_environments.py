"""The command `cloister env`: what is there is listed, made beforehand, removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cloister.cli.command import main
from cloister.environments import store
from cloister.environments.build import find_uv
from cloister.errors import EnvironmentFailed
from tests.environments.wheels import make_wheel


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("CLOISTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
def test_list_and_clean_of_an_empty_cache(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no environment was ever made, both say so, and make nothing."""
    assert main(["env", "list"]) == main(["env", "clean"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0 in ")
    assert lines[1] == "0 removed, 0 kept"


def test_build_list_and_clean(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `build` prints is an interpreter; `list` shows it; `clean` keeps what is young unless it is told 0 days."""
    try:
        find_uv()
    except EnvironmentFailed:
        pytest.skip("uv is not installed")
    wheel = str(make_wheel(tmp_path, "acme", "1.0"))
    assert main(["env", "build", wheel]) == 0
    python = capsys.readouterr().out.strip()
    assert os.access(python, os.X_OK)
    assert Path(python).is_relative_to(cache)
    assert main(["env", "list"]) == 0
    assert wheel in capsys.readouterr().out
    assert main(["env", "clean"]) == 0
    assert capsys.readouterr().out == "0 removed, 1 kept\n"
    assert main(["env", "clean", "--unused-days", "0"]) == 0
    assert capsys.readouterr().out.endswith("1 removed, 0 kept\n")
    assert not os.path.exists(python)


@pytest.mark.usefixtures("cache")
def test_build_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wheel that is not there: exit code 1, and one error."""
    assert main(["env", "build", str(tmp_path / "none-1.0-py3-none-any.whl")]) == 1
    assert "cloister env build: " in capsys.readouterr().err


@pytest.mark.usefixtures("cache")
def test_half_made_environment_is_shown_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    """What a killed build has left is called half made, and goes at any age."""
    os.makedirs(store.folder_of("abc"))
    os.utime(store.folder_of("abc"), (time.time(), time.time()))
    assert main(["env", "list"]) == main(["env", "clean"]) == 0
    out = capsys.readouterr().out
    assert "half made" in out
    assert "1 removed, 0 kept" in out
    assert not os.path.exists(store.folder_of("abc"))
