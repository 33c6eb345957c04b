"""The end of a guest's process in good order, without taking the interpreter apart.

Taking it apart frees every object one by one, 20 ms with numpy, and copies each page that a fork still shares; nobody
needs it, because the kernel frees them all. What Python does before that is done here, in its order: wait for threads
that are no daemons, exit hooks, the rest of open files. What is left out are the finalizers (`__del__`) of objects that
are alive at the end, which Python does not promise either.

The exit hooks of native libraries run in a process that was started by exec. In one that was forked they do not, as is
usual: they belong to the process that has loaded the libraries, and take 2 ms to find that they have nothing to do.

Where there is none of that to do in a process that was forked, as is usual, it ends at once (`vanish`), on the thread
that hears of it: to let the main thread know and unwind would copy a hundred pages, half a millisecond.

`leave` runs on the main thread, at the end of all; `vanish` and `has_children` on any.
"""

from __future__ import annotations

import _io
import atexit
import ctypes
import gc
import logging
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from cloister.guest.logs import ForwardingHandler

__all__ = ["has_children", "leave", "note_files", "vanish"]

_noted: list[weakref.ref[Any]] = []
"""Files that were open when the collector was told to look at nothing that is there."""
_HOOK = logging.shutdown
"""The exit hook that is always there."""
_ALL_KINDS = 0x40000000
"""__WALL of linux/wait.h: children that tell of their end by another signal than SIGCHLD, too."""


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


def vanish() -> None:
    """End this process, which was forked, on the spot; returns where an orderly end would have anything to do.

    To be called where no code of the user's runs but in threads that nobody waits for.
    """
    if _is_nothing_left():
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                try:
                    stream.flush()
                except Exception:
                    pass  # nobody reads it, or it was closed
        os._exit(0)


def _is_nothing_left() -> bool:
    """Whether there is no exit hook, no thread to wait for, and no file to write out, but those of Python itself.

    Its one hook flushes the handlers of `logging`: ours, and the one that writes to stderr at once. Where there is no
    memory to look, or what is there can't be asked, something may be left.
    """
    try:
        if atexit._ncallbacks() != 1 or threading._threading_atexits:  # type: ignore[attr-defined]  # no public names
            return False
        if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
            return False  # that may be code of the user's
        if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
            return False
        if any(found() is not None for found in _noted):
            return False
        for known in logging._handlerList:  # type: ignore[attr-defined]  # likewise
            handler = known()
            if handler is not None and handler is not logging.lastResort and type(handler) is not ForwardingHandler:
                return False
        # One of each type: there are many objects, and few types. By identity: a metaclass may have a hash of its own.
        kinds = [*map(type, gc.get_objects())]
        if any(issubclass(kind, _FILES) for kind in dict(zip(map(id, kinds), kinds, strict=True)).values()):
            return False
        return _is_hook_alone()
    except BaseException:
        return False


def _is_hook_alone() -> bool:
    """Whether the only exit hook is that of `logging`, and not another one in its place."""
    look = _Look()
    atexit.unregister(look)  # type: ignore[arg-type]  # which is equal to none of them: each is shown to it
    return len(look.hooks) == 1 and look.hooks[0] is _HOOK


class _Look:
    """What is compared with all exit hooks, and notes them."""

    def __init__(self) -> None:
        self.hooks: list[object] = []

    def __eq__(self, other: object) -> bool:
        self.hooks.append(other)
        return False


def has_children() -> bool:
    """Whether this process has children, living or not waited for. On Linux; elsewhere the host looks for itself."""
    if sys.platform != "linux":
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _ALL_KINDS)
    except ChildProcessError:
        return False
    except OSError:
        pass
    return True


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
    ours = _of_streams()
    _noted[:] = [weakref.ref(file) for file in _open_files() if id(file) not in ours]


_FILES = (_io._TextIOBase, _io._BufferedIOBase)
"""What may hold something that is not written yet. The classes of `io` are asked in Python, object by object."""


def _open_files() -> list[Any]:
    # By its type: an object may answer for its class itself, and a proxy of one that has gone raises.
    return [one for one in gc.get_objects() if issubclass(type(one), _FILES)]


def _of_streams() -> set[int]:
    """The identities of the standard streams, and of what these read and write."""
    streams = (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return {id(stream) for stream in streams} | {id(getattr(stream, "buffer", None)) for stream in streams}


def _close_files() -> None:
    """Write out what files that were left open still hold: text first, then what compresses, then plain files."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    for stream in streams:
        if stream is not None:
            try:
                stream.flush()
            except Exception:
                pass  # nobody reads it, it was closed, or it is no file
    ours = _of_streams()
    files = [file for found in _noted if (file := found()) is not None] + _open_files()
    plain = (_io.BufferedWriter, _io.BufferedRandom)
    for file in sorted(files, key=lambda file: 0 if isinstance(file, _io._TextIOBase) else 1 + isinstance(file, plain)):
        if id(file) not in ours:
            try:
                file.close()
            except Exception:
                pass  # as where the interpreter closes it
