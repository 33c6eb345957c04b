"""The window of the GUI example stays responsive while its domain works, shows progress and cancels."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "gui"

DRIVER = """
import os
import sys
sys.path.insert(0, {folder!r})
import cloister
import window
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

application = QApplication([])
with cloister.Domain("renderer", setup=cloister.Setup(path=[{folder!r} + "/plugins"])) as domain:
    shown = window.Window(domain, frames={frames})
    shown.show()
    ticks, seen = [], []
    shown.told.connect(seen.append)

    def tick():
        ticks.append(shown.work is not None)
        if shown.work is not None and {cancel} and shown.bar.value() > 2 and sum(ticks) >= 10:
            shown.button.click()
        if shown.button.text().startswith(("Done", "Cancelled")):
            application.quit()

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(1)
    shown.button.click()
    assert shown.work is not None  # the click has not waited for the work
    application.exec()
    print(shown.button.text().split(":")[0], seen == sorted(seen), len(seen), sum(ticks) >= 10)
    print(domain.call("operator:add", 1, 1), flush=True)
os._exit(0)  # PySide miscounts references of True and False; Python 3.11 may notice that when it ends, and abort
"""


@pytest.mark.skipif(importlib.util.find_spec("PySide6") is None, reason="PySide6-Essentials is not installed")
@pytest.mark.parametrize("cancel", [False, True])
def test_window_stays_responsive(cancel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window's timer comes while the domain works, the bar moves, and the button cancels; offscreen."""
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    program = DRIVER.format(folder=str(EXAMPLE), frames=100_000 if cancel else 60, cancel=cancel)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    end, in_order, count, responsive = first.split()
    assert (end, in_order, responsive, second) == ("Cancelled" if cancel else "Done", "True", "True", "2")
    assert int(count) > 2 if cancel else int(count) == 60
