"""Which release of cloister this is. The one place that says so: the package's metadata is made from it."""

from __future__ import annotations

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
