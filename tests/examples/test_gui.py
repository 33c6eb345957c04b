"""The window of the GUI example stays responsive while its domain works, shows progress and cancels."""

from __future__ import annotations

import importlib.util
import re
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
with cloister.Domain("renderer", setup=cloister.Setup(path=[{folder!r} + "/plugins"]), echo=False) as domain:
    shown = window.Window(domain, frames={frames})
    shown.show()
    print(shown.line.text(), shown.begin.isEnabled(), shown.cancel.isEnabled())
    ticks, seen = [], []
    shown.told.connect(lambda run, frame: seen.append(frame))

    def tick():
        if shown.begin.isEnabled():
            application.quit()
        ticks.append(shown.bar.value())
        if {end!r} != "Done" and shown.bar.value() > 2 and len(ticks) >= 10:
            shown.cancel.click() if {end!r} == "Cancelled" else domain.kill()

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(1)
    shown.begin.click()
    assert shown.cancel.isEnabled()  # the click has not waited for the work
    print(shown.line.text(), shown.begin.isEnabled(), shown.cancel.isEnabled())
    application.exec()
    print(shown.line.text(), shown.begin.isEnabled(), shown.cancel.isEnabled())
    shown.show_progress(shown.runs, 1)  # what arrives late says nothing
    shown.show_progress(shown.runs - 1, 1)
    assert shown.line.text() != "Rendering frame 1 of {frames}"
    print(seen == sorted(seen), len(seen), len(ticks) >= 10, shown.bar.value() == ticks[-1], flush=True)
os._exit(0)  # PySide miscounts references of True and False; Python 3.11 may notice that when it ends, and abort
"""


def needs_qt() -> pytest.MarkDecorator:
    """Skip where Qt's binding is not installed."""
    missing = importlib.util.find_spec("PySide6") is None
    return pytest.mark.skipif(missing, reason="PySide6-Essentials is not installed")


def run(*arguments: str) -> list[str]:
    """The lines that a program prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_qt()
@pytest.mark.parametrize(
    ("end", "line"),
    [
        ("Done", r"Done: [\d,]+"),
        ("Cancelled", r"Cancelled after \d+ of \d+ frames"),
        ("Killed", "domain 'renderer' .*killed.*"),
    ],
)
def test_window_stays_responsive(end: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window's timer comes while the domain works, the bar moves, a button cancels, and a crash is told."""
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    program = DRIVER.format(folder=str(EXAMPLE), frames=60 if end == "Done" else 100_000, end=end)
    idle, working, over, last = run("-c", program)
    assert idle == "Ready True False"
    assert working == "Rendering False True"
    assert re.fullmatch(f"{line} True False", over)
    in_order, count, responsive, stands = last.split()
    assert (in_order, responsive, stands) == ("True", "True", "True")
    assert int(count) == 60 if end == "Done" else int(count) > 2


@needs_qt()
def test_picture_of_the_page_is_painted(tmp_path: Path) -> None:
    """`tools/gui_picture.py` paints the window idle, working and cancelled, without a screen."""
    picture = tmp_path / "gui.png"
    run(str(EXAMPLE.parent.parent / "tools" / "gui_picture.py"), str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
