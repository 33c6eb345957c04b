"""A Qt window that stays responsive while a domain works: it shows the progress, and a button cancels."""

from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QApplication, QGridLayout, QLabel, QProgressBar, QPushButton, QWidget

import cloister


class Window(QWidget):
    """A line that says what happens, a bar, a button that begins and one that cancels."""

    told = Signal(int, int)  # a signal may be emitted on any thread; its slot runs on the window's
    ended = Signal(object)

    def __init__(self, domain: cloister.Domain, frames: int) -> None:
        super().__init__(windowTitle="Renderer")
        self.domain, self.frames = domain, frames
        self.work: Future[int] | None = None
        self.runs = 0
        self.line, self.bar = QLabel(wordWrap=True), QProgressBar(maximum=frames, value=0)
        self.begin, self.cancel = QPushButton("&Render"), QPushButton("&Cancel")
        layout = QGridLayout(self)
        layout.addWidget(self.line, 0, 0, 1, 2)
        layout.addWidget(self.bar, 1, 0, 1, 2)
        layout.addWidget(self.begin, 2, 0)
        layout.addWidget(self.cancel, 2, 1)
        self.setMinimumWidth(320)
        self.begin.clicked.connect(self.start_work)
        self.cancel.clicked.connect(self.cancel_work)
        self.told.connect(self.show_progress)
        self.ended.connect(self.show_end)
        self.show_state("Ready")

    def start_work(self) -> None:
        """Submit the work. This does not wait: the window's thread is free at once."""
        self.runs += 1
        self.show_state("Rendering", working=True)
        self.bar.setValue(0)
        self.work = self.domain.submit("renderer:render", self.frames, partial(self.told.emit, self.runs))
        self.work.add_done_callback(self.ended.emit)

    def cancel_work(self) -> None:
        """Let the domain stop the work. This does not wait either."""
        if self.work is not None:
            self.work.cancel()

    def show_progress(self, run: int, frame: int) -> None:
        """A frame is there. What was told before a cancel may arrive after it."""
        if self.work is not None and run == self.runs:
            self.line.setText(f"Rendering frame {frame} of {self.frames}")
            self.bar.setValue(frame)

    def show_end(self, work: Future[int]) -> None:
        """The work is over, in whatever way; on the window's thread again."""
        self.work = None
        try:
            self.show_state(f"Done: {work.result():,}")
        except CancelledError:
            self.show_state(f"Cancelled after {self.bar.value()} of {self.frames} frames")
        except cloister.CloisterError as error:  # a crash of the work is told here
            self.show_state(str(error).splitlines()[0])

    def show_state(self, text: str, working: bool = False) -> None:
        """Say what happens, and offer the button that makes sense."""
        self.line.setText(text)
        self.begin.setEnabled(not working)
        self.cancel.setEnabled(working)


def main() -> None:
    """Show the window until it is closed."""
    application, plugins = QApplication([]), Path(__file__).parent / "plugins"
    with cloister.Domain("renderer", setup=cloister.Setup(path=[plugins])) as domain:
        window = Window(domain, frames=500)
        window.show()
        application.exec()  # the domain is unloaded when the window is closed, and stops what it does


if __name__ == "__main__":
    main()
