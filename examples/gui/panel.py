"""What is seen of the example's window: a line that says what happens, a bar, and two buttons."""

from PySide6.QtWidgets import QGridLayout, QLabel, QProgressBar, QPushButton, QWidget


class Panel(QWidget):
    """The widgets and their places. Nothing of cloister is here."""

    def __init__(self, steps: int) -> None:
        super().__init__(windowTitle="Renderer")
        self.line, self.bar = QLabel(wordWrap=True), QProgressBar(maximum=steps, value=0)
        self.begin, self.cancel = QPushButton("&Render"), QPushButton("&Cancel")
        layout = QGridLayout(self)
        layout.addWidget(self.line, 0, 0, 1, 2)
        layout.addWidget(self.bar, 1, 0, 1, 2)
        layout.addWidget(self.begin, 2, 0)
        layout.addWidget(self.cancel, 2, 1)
        self.setMinimumWidth(320)
        self.show_state("Ready")

    def show_state(self, text: str, working: bool = False) -> None:
        """Say what happens, and offer the button that makes sense."""
        self.line.setText(text)
        self.begin.setEnabled(not working)
        self.cancel.setEnabled(working)
