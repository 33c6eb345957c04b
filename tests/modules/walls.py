"""What the tests of the guarantees run: at the level ``thread`` the host has this module too, so nothing else does."""

from __future__ import annotations

import ctypes
import os
import select
import sys
from pathlib import Path
from typing import Any

state: list[str] = []
_held: list[bytearray] = []


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


def use_up_memory(room: int) -> None:
    """Let this process have so many further bytes and no more, and use them up but for a little."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + room
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    kept = [bytearray(room // 2)]
    try:
        while True:
            kept.append(bytearray(2**20))
    except MemoryError:
        del kept[1:]  # enough to answer with
    state.extend(map(str, map(len, kept)))
    _held.extend(kept)


def where() -> str:
    """The file of this module."""
    return str(Path(__file__))
