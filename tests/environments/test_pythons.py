"""A version finds an interpreter of this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.environments.pythons import find_python, is_version
from cloister.errors import StartFailed

OWN = ".".join(map(str, sys.version_info[:2]))


def test_version_and_path_are_told_apart() -> None:
    """`3.12` is a version; what has a slash, and a bare 3, is none."""
    assert [is_version(text) for text in ("3.12", "3.12.1", "3", "./3.12", "3.12/bin/python")] == [True, True] + [
        False
    ] * 3


def test_shim_that_finds_nothing_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name on the path that does not run is not taken for a Python; no such version gives None."""
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    find_python.cache_clear()
    assert find_python("3.99") is None
    shim.write_text("#!/bin/sh\necho 3.99.1\n")
    assert find_python("3.99.1") == str(shim)
    find_python.cache_clear()


def test_domain_of_a_version(make: Callable[..., Domain]) -> None:
    """`python="3.x"` runs that version with nothing of the host's; one that is not there says how to name one."""
    domain = make(setup=Setup(python=OWN))
    assert domain.eval("__import__('sys').version_info[:2]") == sys.version_info[:2]
    with pytest.raises(StartFailed, match=r"no Python 3\.98 .*Setup\.python"):
        make(setup=Setup(python="3.98"))
