"""A set-up that computes in Python is stopped where its domain is unloaded, at every level."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.domain.setup import Setup
from tests.levels.conftest import Make
from tests.patience import wait_until

JOIN_S = 30.0


@pytest.mark.parametrize("way", ["initializer", "preload"])
def test_a_set_up_is_stopped(make: Make, way: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O05: an initializer, and a module that is imported before, leave the thread that they run on."""
    mark = tmp_path / "mark"
    monkeypatch.setenv("SPINNING_MARK", str(mark))
    setup = Setup(preload=["spinning_when_loaded"], template=None if level != "process" else False)
    if way == "initializer":
        setup = Setup(initializer="spinning:spin", initargs=[str(mark)])
    timeout = 2 if (way, level) == ("preload", "thread") else 20  # the host's own modules are not torn at once
    domain = make("subject", setup=setup, stop_timeout=timeout)
    wait_until(mark.exists, JOIN_S)
    domain.unload()
    assert Path(f"{mark}.over").exists()
    assert domain.report is not None
    assert domain.report.reason.value == "unloaded"
