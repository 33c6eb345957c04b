"""How a write to a pipe begins on Windows, so that it outlives the thread that wanted it.

Windows withdraws the operations of a thread when the thread ends, and does not say how much of a withdrawn write the
peer has read. So a write that may have to wait is begun by a thread of its own, which lives until it is completed. That
costs about 100 µs, and only where the pipe is full, or has no buffer: a write that fits is completed at once.

Not here: waiting for the end of a write with a time limit (`transport_windows`). Any thread may enter.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # before the imports: a type checker for another platform leaves the rest out

import _winapi
import queue
import threading

from cloister.pipes.kernel_windows import room_to_write, wait_any

__all__ = ["begin_write"]


def begin_write(handle: int, data: bytes) -> tuple[_winapi.Overlapped, int]:
    """Begin to write `data`, which is not empty; the operation, and its code: 0, or ERROR_IO_PENDING while it waits.

    Raises OSError when it could not begin; then nothing was written.
    """
    if len(data) <= room_to_write(handle):
        return _winapi.WriteFile(handle, data, overlapped=True)
    keeper = _Keeper(handle, data)
    keeper.start()
    begun = keeper.begun.get()
    if isinstance(begun, OSError):
        raise begun
    return begun


class _Keeper(threading.Thread):
    """Begins one write, and lives until it is completed."""

    def __init__(self, handle: int, data: bytes) -> None:
        super().__init__(name="cloister-pipe-write", daemon=True)
        self.begun: queue.SimpleQueue[tuple[_winapi.Overlapped, int] | OSError] = queue.SimpleQueue()
        self._handle = handle
        self._data = data

    def run(self) -> None:
        try:
            operation, code = _winapi.WriteFile(self._handle, self._data, overlapped=True)
        except OSError as error:
            self.begun.put(error)
            return
        self.begun.put((operation, code))
        if code == _winapi.ERROR_IO_PENDING:
            wait_any([operation.event], None)
