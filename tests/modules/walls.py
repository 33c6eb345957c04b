"""What the tests of the guarantees run: at the level ``thread`` the host has this module too, so nothing else does."""

from __future__ import annotations

import ctypes
import os
import select
import sys
from pathlib import Path
from typing import Any

state: list[str] = []


def note(what: str) -> list[str]:
    """Change a global of this module."""
    state.append(what)
    return list(state)


def add_path(folder: str) -> None:
    """Change `sys.path`."""
    sys.path.append(folder)


def hold_lock(started: str, released: str) -> bool:
    """Hold the interpreter lock in native code until the host writes; False where it could not within half a second.

    ``PyDLL`` calls without giving the lock away.
    """
    native: Any = ctypes.PyDLL(None)
    begun, answer = os.open(started, os.O_RDWR), os.open(released, os.O_RDWR)
    try:
        waits = (ctypes.c_int * 2)(answer, select.POLLIN)
        native.write(begun, b"x", 1)
        return bool(native.poll(waits, 1, 500))
    finally:
        os.close(begun)
        os.close(answer)


def crash() -> None:
    """End as native code with a bad pointer does."""
    ctypes.string_at(0)


def leave_at_once() -> None:
    """End the process, whatever runs in it."""
    os._exit(3)


def where() -> str:
    """The file of this module."""
    return str(Path(__file__))
