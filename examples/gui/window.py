"""A Qt window that stays responsive while a domain works: it shows the progress, and its button cancels."""

from concurrent.futures import CancelledError, Future
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QApplication, QProgressBar, QPushButton, QVBoxLayout, QWidget

import cloister


class Window(QWidget):
    """A button that starts and cancels, and a bar."""

    told = Signal(int)  # a signal may be emitted on any thread; its slot runs on the window's
    ended = Signal(object)

    def __init__(self, domain: cloister.Domain, frames: int) -> None:
        super().__init__()
        self.domain, self.frames = domain, frames
        self.work: Future[int] | None = None
        self.button, self.bar, layout = QPushButton("Render"), QProgressBar(maximum=frames), QVBoxLayout(self)
        layout.addWidget(self.button)
        layout.addWidget(self.bar)
        self.button.clicked.connect(self.start_or_cancel)
        self.told.connect(self.bar.setValue)
        self.ended.connect(self.show_end)

    def start_or_cancel(self) -> None:
        """Neither waits: the window's thread is free at once."""
        if self.work is None:
            self.button.setText("Cancel")
            self.work = self.domain.submit("renderer:render", self.frames, self.told.emit)
            self.work.add_done_callback(self.ended.emit)
        else:
            self.work.cancel()

    def show_end(self, work: Future[int]) -> None:
        """On the window's thread again."""
        self.work = None
        try:
            self.button.setText(f"Done: {work.result()}")
        except CancelledError:
            self.button.setText("Cancelled")
        except cloister.CloisterError as error:  # a crash of the work is told here
            self.button.setText(str(error))


def main() -> None:
    """Show the window until it is closed."""
    application, plugins = QApplication([]), Path(__file__).parent / "plugins"
    with cloister.Domain("renderer", setup=cloister.Setup(path=[plugins])) as domain:
        window = Window(domain, frames=500)
        window.show()
        application.exec()


if __name__ == "__main__":
    main()
