"""Paint the window of the GUI example, idle, working and cancelled, as the picture of the how-to page.

``python tools/gui_picture.py [FILE]`` needs PySide6, and no screen.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "gui"
PICTURE = ROOT / "docs" / "_static" / "gui.png"
FRAMES = 500
GAP = 12


def main(file: Path) -> None:
    """Run the example through its three states, and paint each."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(EXAMPLE))
    from PySide6.QtCore import QSize, Qt, QTimer
    from PySide6.QtGui import QPainter, QPixmap
    from PySide6.QtWidgets import QApplication

    import cloister

    window: Any = importlib.import_module("window")
    application = QApplication([])
    pictures: list[QPixmap] = []
    with cloister.Domain("renderer", setup=cloister.Setup(path=[EXAMPLE / "plugins"])) as domain:
        shown = window.Window(domain, frames=FRAMES)
        shown.show()
        application.processEvents()
        pictures.append(shown.grab())
        shown.begin.click()

        def look() -> None:
            if len(pictures) == 1 and shown.bar.value() >= FRAMES // 5:
                pictures.append(shown.grab())
                shown.cancel.click()
            elif len(pictures) == 2 and shown.begin.isEnabled():
                pictures.append(shown.grab())
                application.quit()

        timer = QTimer()
        timer.timeout.connect(look)
        timer.start(1)
        application.exec()
    size = pictures[0].size()
    whole = QPixmap(QSize(3 * size.width() + 4 * GAP, size.height() + 2 * GAP))
    whole.fill(Qt.GlobalColor.white)
    painter = QPainter(whole)
    for place, picture in enumerate(pictures):
        painter.drawPixmap(GAP + place * (size.width() + GAP), GAP, picture)
    painter.end()
    whole.save(str(file))
    print(f"{file}: {file.stat().st_size} bytes")
    sys.stdout.flush()
    os._exit(0)  # as tests/examples/test_gui.py says


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
