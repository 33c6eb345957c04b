"""Step 1: a server calls its plug-in directly. One damaged picture, and everybody is gone."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent

sys.path.insert(0, str(HERE / "plugins"))
decoder = importlib.import_module("pictures").Decoder()

for upload in sorted((HERE / "uploads").iterdir()):
    try:
        print(upload.stem, decoder.brightness(upload.read_bytes()), flush=True)
    except ValueError as error:
        print(upload.stem, "is told:", error)
print("all served")
