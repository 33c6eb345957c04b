"""A bell: wakes the thread that polls it. Rung by finalizers, in the middle of whatever their threads hold.

So `ring` waits for nothing: where another thread has the lock - it rings this moment, or closes the bell - it is left
out. Any thread may ring; the others belong to the thread that polls.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

__all__ = ["Bell"]

_STROKE: Final = (1).to_bytes(8, sys.byteorder)
"""What an event descriptor takes; to a pipe it is as good as anything."""


class Bell:
    """An event descriptor, or a pipe where there are none."""

    def __init__(self) -> None:
        """Raises OSError where no descriptor is left."""
        self._lock = threading.Lock()
        self._rung = False
        self.reader = self._writer = -1
        if sys.platform == "win32":
            raise NotImplementedError
        if sys.platform == "linux":
            self.reader = self._writer = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.reader, self._writer = os.pipe()
            os.set_blocking(self.reader, False)
            os.set_blocking(self._writer, False)

    def ring(self) -> None:
        """Wake who polls `reader`, unless that was done and not answered yet."""
        if not self._rung and self._lock.acquire(blocking=False):
            try:
                self._rung = True
                if self._writer >= 0:
                    os.write(self._writer, _STROKE)
            except OSError:
                pass  # it has been rung often enough
            finally:
                self._lock.release()

    def answered(self) -> None:
        """What it is rung for from now on was not done yet."""
        self._rung = False

    def hush(self) -> None:
        """Take the sound away, so that `reader` is not ready any more."""
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Ring no more. Idempotent."""
        with self._lock:
            reader, writer = self.reader, self._writer
            self.reader = self._writer = -1
        for fd in {reader, writer} - {-1}:
            os.close(fd)
