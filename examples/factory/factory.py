"""The factory as it was: it imports a module and makes its object, here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from modules import Module

sys.path.append(str(Path(__file__).parent / "plugins"))


def make(name: str) -> Module:
    """Make the module of this name."""
    made: Module = getattr(importlib.import_module(name), name.capitalize())()
    return made
