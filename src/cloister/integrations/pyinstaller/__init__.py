"""PyInstaller: a frozen application's guests are the application's own executable, started in another role.

PyInstaller finds this folder through the entry point ``pyinstaller40`` and reads `hook-cloister.py` from it, which
takes all of cloister into the archive, and ``rthooks.dat``, which names the file that runs before the application's own
main module: in a guest it serves, and the main module is never reached.
"""

from __future__ import annotations

import os

__all__ = ["get_hook_dirs"]


def get_hook_dirs() -> list[str]:
    """The folders in which PyInstaller finds hooks for cloister."""
    return [os.path.dirname(__file__)]
