"""The end of a guest's process in good order, without taking the interpreter apart.

Taking it apart frees every object one by one, 20 ms with numpy, and copies each page that a fork still shares; nobody
needs it, because the kernel frees them all. What Python does before that is done here, in its order: wait for threads
that are no daemons, exit hooks, the rest of open files. What is left out are the finalizers (`__del__`) of objects that
are alive at the end, which Python does not promise either.

The exit hooks of native libraries run in a process that was started by exec. In one that was forked they do not, as is
usual: they belong to the process that has loaded the libraries, and take 2 ms to find that they have nothing to do.

Runs on the main thread, at the end of all.
"""

from __future__ import annotations

import _io
import atexit
import ctypes
import gc
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["leave", "note_files"]

_noted: list[weakref.ref[Any]] = []
"""Files that were open when the collector was told to look at nothing that is there."""


def leave(forked: bool, code: int = 0) -> NoReturn:
    """End this process with an exit code. `forked`: its libraries were loaded by another one, a template."""
    try:
        _do(threading._shutdown)  # type: ignore[attr-defined]  # as the interpreter does; it has no public name
        _do(atexit._run_exitfuncs)
        _do(_close_files)
        if forked:
            os._exit(code)
        # The interpreter lock is kept: no other thread runs Python while native libraries are taken apart.
        ctypes.pythonapi.exit(code)
    finally:
        os._exit(1)


def _do(step: Callable[[], object]) -> None:
    """Take a step; where it fails, say so and let the next one be taken."""
    try:
        step()
    except BaseException:
        try:
            traceback.print_exc()
        except Exception:
            pass  # nobody is there to read it


def note_files() -> None:
    """Remember the files that are open; for whoever hides them from the collector with `gc.freeze`."""
    _noted[:] = [weakref.ref(file) for file in _open_files()]


def _open_files() -> list[Any]:
    kinds = (_io._TextIOBase, _io._BufferedIOBase)  # those of `io` are asked in Python, object by object
    # By its type: an object may answer for its class itself, and a proxy of one that has gone raises.
    return [one for one in gc.get_objects() if issubclass(type(one), kinds)]


def _close_files() -> None:
    """Write out what files that were left open still hold: text first, then what compresses, then plain files."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    for stream in streams:
        if stream is not None:
            try:
                stream.flush()
            except Exception:
                pass  # nobody reads it, it was closed, or it is no file
    ours = {id(stream) for stream in streams} | {id(getattr(stream, "buffer", None)) for stream in streams}
    files = [file for found in _noted if (file := found()) is not None] + _open_files()
    plain = (_io.BufferedWriter, _io.BufferedRandom)
    for file in sorted(files, key=lambda file: 0 if isinstance(file, _io._TextIOBase) else 1 + isinstance(file, plain)):
        if id(file) not in ours:
            try:
                file.close()
            except Exception:
                pass  # as where the interpreter closes it
