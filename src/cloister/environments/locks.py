"""Locks between processes, by a file each: one process makes or removes an environment, many may use it.

The kernel lets go of a lock when its holder ends, however that ends. Any thread may enter; a lock belongs to the open
file that is returned.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["alone", "hold"]

POLL_S: Final = 0.05
"""How often a lock is tried again. A signal must be able to end the wait, so the kernel is not left to wait alone."""

if sys.platform == "win32":
    import msvcrt

    def _take(fd: int, shared: bool) -> bool:
        if shared:
            return True  # an open file can't be removed there, which is all that a shared lock is for
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _take(fd: int, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def alone(path: str, waiting: Callable[[], None] | None = None) -> Iterator[int | None]:
    """Hold a lock that nobody else has: its descriptor, which a child may inherit to hold the lock as well.

    While somebody else has it, this waits, and calls `waiting` once; without `waiting` it gives up at once with None.
    Raises OSError where the file can't be made.
    """
    fd = _open_locked(path, waiting)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _open_locked(path: str, waiting: Callable[[], None] | None) -> int | None:
    told = False
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _take(fd, shared=False):
                if waiting is None:
                    os.close(fd)
                    return None
                if not told:
                    told = True
                    waiting()
                time.sleep(POLL_S)
            if _is_at(path, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # whoever had it has removed the file: the lock is another one now


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def hold(path: str) -> int:
    """Take part in using what the file stands for, until the descriptor that is returned is closed.

    Raises FileNotFoundError where it was removed, and BlockingIOError where it is being removed.
    """
    fd = os.open(path, os.O_RDWR)
    if not _take(fd, shared=True):
        os.close(fd)
        raise BlockingIOError(f"{path} is being removed")
    return fd
