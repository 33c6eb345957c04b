"""The answers of a shared lane on their way out, from any thread, and how the thread that writes them is woken.

Here is the serving end's way to write: `Outgoing` is the row of frames, `Wake` a pipe to oneself. Who reads the calls
and runs them is in `cloister.guest.shared` and `cloister.domain.guest_shared`. Any thread may enter.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloister.wire.frames import Buffer

__all__ = ["Outgoing", "Wake"]

MAX_UNSENT: Final = 16 * 1024 * 1024
"""Bytes of answers that the pipe has not taken. Beyond that who has an answer should wait with it."""
LOOK_MS: Final = 10
"""How often `flush` looks whether another thread has written."""


class Outgoing:
    """The row of frames that are to be written. Any thread may put; who finds the pipe free writes for all.

    Nobody waits for the lock: a finalizer that the collector runs in the middle of a write may put as well.
    """

    def __init__(self, writer: int, wake: Callable[[], None]) -> None:
        """Write to `writer`, which does not block; `wake` is called when `push` is to be called once it has room."""
        self._writer, self._wake = writer, wake
        self._ready: deque[list[Buffer]] = deque()
        self._pieces: deque[memoryview] = deque()
        self._writing = threading.Lock()
        self._room = threading.Condition(threading.Lock())
        self._blocked = 0
        """Threads that wait for room."""
        self.unsent = 0
        """Bytes that the pipe has not taken."""
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether more waits than should."""
        return self.unsent > MAX_UNSENT

    def put(self, data: list[Buffer]) -> None:
        """Add a frame, and write what the pipe takes. Never waits."""
        self._ready.append(data)
        if not self.unsent:
            self.push()
            if self.unsent:
                self._wake()

    def push(self) -> None:
        """Write what the pipe takes."""
        # Whoever has put a frame while the lock was held finds it written by who held it, or comes again here.
        while self._ready or self._pieces:
            if not self._writing.acquire(blocking=False):
                return
            try:
                blocked = self._closed or not self._write()
            finally:
                self._writing.release()
            if blocked:
                return

    def flush(self) -> None:
        """Wait until the pipe has taken everything. Not on the loop's thread."""
        if sys.platform == "win32":
            raise NotImplementedError
        while (self.unsent or self._ready) and not self._closed:
            poll = select.poll()
            poll.register(self._writer, select.POLLOUT)
            poll.poll(LOOK_MS)
            self.push()

    def wait_for_room(self) -> None:
        """Wait while more waits than should. Not on the loop's thread, and not on the one that reads the lane."""
        if self.full:
            with self._room:
                self._blocked += 1
                self._room.wait_for(lambda: self._closed or not self.full)
                self._blocked -= 1

    def close(self) -> None:
        """Write nothing any more. Called before the lane is closed, by whoever closes it."""
        self._closed = True
        with self._writing, self._room:
            self._drop()
            self._room.notify_all()

    def _drop(self) -> None:
        self._ready.clear()
        self._pieces.clear()
        self.unsent = 0

    def _write(self) -> bool:
        """Write all that is there; False where the pipe is full. The lock is held."""
        pieces = self._pieces
        while True:
            while pieces:
                piece = pieces[0]
                try:
                    sent = os.write(self._writer, piece)
                except BlockingIOError:
                    return False
                except OSError:  # the host is about to close the lane
                    self._drop()
                    return True
                self.unsent -= sent
                if sent == len(piece):
                    pieces.popleft()
                else:
                    pieces[0] = piece[sent:]
                if self._blocked and not self.full:
                    with self._room:
                        self._room.notify_all()
            try:
                frame = self._ready.popleft()
            except IndexError:
                return True
            for part in frame:
                view = memoryview(part)
                view = view if view.ndim == 1 and view.itemsize == 1 else view.cast("B")
                self.unsent += len(view)
                pieces.append(view)


class Wake:
    """A pipe to oneself: `reader` is readable from `wake` until `taken`."""

    def __init__(self) -> None:
        """Raises OSError where no descriptor is left."""
        self.reader, self._writer = os.pipe()
        if sys.platform != "win32":
            os.set_blocking(self.reader, False)
            os.set_blocking(self._writer, False)
        self._lock = threading.RLock()  # a finalizer may wake in the middle of it
        self._closed = False

    def wake(self) -> None:
        """Make the reader readable; nothing happens after `close`."""
        with self._lock:
            if not self._closed:
                try:
                    os.write(self._writer, b"\0")
                except BlockingIOError:
                    pass  # it is

    def taken(self) -> None:
        """Make the reader silent again."""
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.reader)
                os.close(self._writer)

    def disown(self) -> None:
        """Close both ends in a forked child, where the lock may be held by a thread that is not there."""
        self._lock = threading.RLock()
        self.close()
