"""A Qt window that stays responsive while a domain works: it shows the progress, and a button cancels."""

from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path

from panel import Panel
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QApplication

import cloister


class Window(Panel):
    """A panel whose work is done in a domain."""

    told = Signal(int, int)  # a signal may be emitted on any thread; its slot runs on the window's
    ended = Signal(object)

    def __init__(self, domain: cloister.Domain, frames: int) -> None:
        super().__init__(frames)
        self.domain, self.frames, self.runs = domain, frames, 0
        self.begin.clicked.connect(self.start_work)
        self.told.connect(self.show_progress)
        self.ended.connect(self.show_end)

    def start_work(self) -> None:
        """Submit the work, and let the other button cancel it. Neither waits: the window's thread is free at once."""
        self.runs += 1
        self.show_state("Rendering", working=True)
        self.bar.setValue(0)
        work = self.domain.submit("renderer:render", self.frames, partial(self.told.emit, self.runs))
        self.cancel.clicked.connect(work.cancel)
        work.add_done_callback(self.ended.emit)

    def show_progress(self, run: int, frame: int) -> None:
        """A frame is there. What was told before a cancel may arrive after it."""
        if self.cancel.isEnabled() and run == self.runs:
            self.line.setText(f"Rendering frame {frame} of {self.frames}")
            self.bar.setValue(frame)

    def show_end(self, work: Future[int]) -> None:
        """The work is over, in whatever way; on the window's thread again."""
        self.cancel.clicked.disconnect()
        try:
            self.show_state(f"Done: {work.result():,}")
        except CancelledError:
            self.show_state(f"Cancelled after {self.bar.value()} of {self.frames} frames")
        except cloister.CloisterError as error:  # a crash of the work is told here
            self.show_state(str(error).splitlines()[0])


if __name__ == "__main__":
    application, plugins = QApplication([]), Path(__file__).parent / "plugins"
    with cloister.Domain("renderer", setup=cloister.Setup(path=[plugins])) as renderer:
        shown = Window(renderer, frames=500)
        shown.show()
        application.exec()  # the domain is unloaded when the window is closed, and stops what it does
