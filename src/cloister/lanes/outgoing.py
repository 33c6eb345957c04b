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
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from cloister.lanes.rows import framed, replies_frame

if TYPE_CHECKING:
    from cloister.wire.frames import Buffer

__all__ = ["Outgoing", "Wake"]

MAX_UNSENT: Final = 16 * 1024 * 1024
"""Bytes of answers that the pipe has not taken. Beyond that who has an answer should wait with it."""
WRITE_BYTES: Final = 64 * 1024
"""What short pieces are joined to; a pipe holds no more."""
LOOK_MS: Final = 10
"""How often `flush` looks whether another thread has written."""
HAND_ON_S: Final = 0.1
"""How long `hand_on` waits for another thread. It holds the lock for a write that never waits."""


class Outgoing:
    """The row of frames that are to be written. Any thread may put; who finds the pipe free writes for all.

    Nobody waits for the lock: a finalizer that the collector runs in the middle of a write may put as well.
    """

    def __init__(self, writer: int, wake: Callable[[], None]) -> None:
        """Write to `writer`, which does not block; `wake` sees to it that `push` is called once it has room."""
        self._writer, self._wake = writer, wake
        self._ready: deque[bytes | list[Buffer]] = deque()
        """What was put: the pieces of a frame, or an answer that may stand in a row with those next to it."""
        self._pieces: deque[Buffer] = deque()
        """What is to be written next; pieces of bytes, as MessagePack makes them, or views of them."""
        self._writing = threading.Lock()
        self._room = threading.Condition(threading.Lock())
        self._blocked = 0
        """Threads that wait for room."""
        self.unsent = 0
        """Bytes that the pipe has not taken."""
        self.stuck = False
        """The pipe is full. Who clears it goes on with what is ready by then."""
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether more waits than should."""
        return self.unsent > MAX_UNSENT

    @property
    def holds(self) -> bool:
        """Whether frames wait for the next `push`."""
        return bool(self._ready)

    @property
    def has_some(self) -> bool:
        """Whether frames wait, or another thread is about to write some."""
        return bool(self._ready) or self._writing.locked()

    def put(self, data: bytes | list[Buffer], more: bool = False) -> None:
        """Add a frame or a short answer, and write what the pipe takes. Never waits.

        With `more`, a later `put` or `push` writes it.
        """
        self._ready.append(data)
        if more:
            return
        if not self.stuck:
            self.push()
        elif self._writing.acquire(blocking=False):
            try:
                self._line_up()  # it counts for `full`
            finally:
                self._writing.release()
            self._wake()  # who came to push meanwhile has found the lock held, and went away

    def push(self) -> None:
        """Write what the pipe takes; where that is not all, see to it that somebody comes back."""
        # Whoever has put a frame while the lock was held finds it written by who held it, or comes again here.
        while self._ready or self._pieces:
            if not self._writing.acquire(blocking=False):
                return
            try:
                blocked = self._closed or not self._write()
            finally:
                self._writing.release()
            if blocked:
                if self.stuck:
                    self._wake()
                return

    def hand_on(self) -> None:
        """As `push`, and wait, for a moment at most, until another thread that writes has done so."""
        self.push()
        if self._writing.acquire(timeout=HAND_ON_S):
            self._writing.release()
            self.push()

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
        """Wait while more waits than should. Not on the loop's thread, nor on one that calls `push` for the others."""
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
        self.stuck = False

    def _line_up(self) -> None:
        """Take in what is ready. The lock is held."""
        ready = self._ready
        while ready:
            row = [ready.popleft() for _ in range(len(ready))]
            for _, frame in framed(row, replies_frame):
                self._line_up_pieces((frame,) if isinstance(frame, bytes) else frame)

    def _line_up_pieces(self, data: Sequence[Buffer]) -> None:
        for part in data:
            if type(part) is memoryview and (part.ndim != 1 or part.itemsize != 1):
                part = part.cast("B")
            self.unsent += len(part)
            self._pieces.append(part)

    def _write(self) -> bool:
        """Write all that is there; False where the pipe is full. The lock is held."""
        pieces = self._pieces
        while True:
            if self._ready:
                self._line_up()
            if not pieces:
                return True
            piece = pieces.popleft()
            if pieces and len(piece) < WRITE_BYTES:
                piece = self._joined(piece)
            try:
                sent = os.write(self._writer, piece)
            except BlockingIOError:
                sent = 0
            except OSError:  # the host is about to close the lane
                self._drop()
                return True
            self.unsent -= sent
            self.stuck = not sent
            if self._blocked and not self.full:
                with self._room:
                    self._room.notify_all()
            if sent < len(piece):
                pieces.appendleft(memoryview(piece)[sent:])
                if not sent:
                    return False

    def _joined(self, piece: Buffer) -> Buffer:
        """This piece and those that follow, as long as they are short: for one write."""
        pieces, size = self._pieces, len(piece)
        batch = [piece]
        while pieces and (size := size + len(pieces[0])) <= WRITE_BYTES:
            batch.append(pieces.popleft())
        return piece if len(batch) == 1 else b"".join(batch)


class Wake:
    """A pipe to oneself: `reader` is readable from `wake` until `taken`."""

    def __init__(self) -> None:
        """Raises OSError where no descriptor is left."""
        self.reader, self._writer = os.pipe()
        if sys.platform != "win32":
            os.set_blocking(self.reader, False)
            os.set_blocking(self._writer, False)
        self._lock = threading.RLock()  # a finalizer may wake in the middle of it
        self._woken = False
        """A byte is in the pipe, or about to be, and whoever reads looks at what there is after that."""
        self._closed = False

    def wake(self) -> None:
        """Make the reader readable; nothing happens after `close`."""
        if self._woken:
            return
        with self._lock:
            if not self._closed:
                self._woken = True
                try:
                    os.write(self._writer, b"\0")
                except BlockingIOError:
                    pass  # it is

    def taken(self) -> None:
        """Make the reader silent again; whoever calls it looks afterwards at what there is to do."""
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass
        self._woken = False  # after the read, which takes any byte that was written before

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
