"""The calls of a shared lane on their way out, from any thread of the host.

Here is what waits to be written, and for room in the pipe; `shared_lane` numbers the calls, and reads the answers.
Short calls are collected as a row (`rows`), and become one frame when they leave.

All but `wait_for_room` is entered with the lock, which a `__getstate__` or a finalizer enters again in the middle of
anything: what it adds comes after what was added before, and whoever is moving takes it along.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cloister.lanes.rows import ROW_BYTES, calls_frame

if TYPE_CHECKING:
    from cloister.wire.frames import Buffer

__all__ = ["Sending"]

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""What may wait for a guest that does not read; then `submit` waits."""
WRITE_BYTES: Final = 64 * 1024
"""What one write offers to the pipe, whose size it is at most."""


class Sending:
    """What is to be written to one end."""

    def __init__(self, writer: int) -> None:
        """`writer` does not block."""
        self._writer = writer
        self.lock = threading.RLock()  # entered again by a `__getstate__` or a finalizer that submits
        self._room = threading.Condition(self.lock)
        self.row: list[bytes | Sequence[Buffer]] = []
        """Calls that were not framed yet, in the order of their numbers: a short one as its message alone, any other
        one in the pieces of its frame."""
        self.row_bytes = 0
        """About how many bytes these are; it only says when to send."""
        self._queue = bytearray()
        self.stuck = False
        """The pipe did not take what was written last; whoever finds room in it calls `write_on`."""
        self._moving = False
        """The thread with the lock touches the pipe or the queue."""
        self.closed = False

    @property
    def waits(self) -> bool:
        """Whether anything is to be written."""
        return bool(self._queue or self.row)

    @property
    def queued(self) -> bool:
        """Whether anything waits for room in the pipe."""
        return bool(self._queue)

    @property
    def full(self) -> bool:
        """Whether more waits than should."""
        return len(self._queue) > MAX_QUEUED_BYTES

    def send(self) -> None:
        """Write what the pipe takes, and queue the rest, in the order of the calls."""
        if self._moving:
            return  # whoever moves takes it along, or the reading thread does
        self._moving = True
        try:
            while self.row:
                row, self.row, self.row_bytes = self.row, [], 0
                if len(row) == 1 and not self._queue:
                    only = row[0]
                    self._write_at_once((calls_frame((only,)),) if isinstance(only, bytes) else only)
                else:
                    self._line_up(row)
            if self._queue and not self.stuck:
                self._write_queue()
        finally:
            self._moving = False

    def write_on(self) -> None:
        """The pipe has room."""
        self._moving = True
        try:
            self._write_queue()
        finally:
            self._moving = False

    def wait_for_room(self, deadline: float | None) -> bool:
        """Wait until not too much is queued, or the end; False where it is still so at the deadline."""
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return self._room.wait_for(lambda: self.closed or not self.full, left)

    def close(self) -> None:
        """Write nothing any more."""
        self.closed = True
        self.row, self.row_bytes = [], 0
        self._queue.clear()
        self._room.notify_all()

    def disown(self) -> None:
        """This is a forked child, in which nobody waits here; the lock may be held by a thread that is not there."""
        self.closed = True
        self.lock = threading.RLock()
        self._room = threading.Condition(self.lock)

    def _line_up(self, row: Sequence[bytes | Sequence[Buffer]]) -> None:
        """Queue the frames of what was collected."""
        queue = self._queue
        bodies: list[bytes] = []
        size = 0
        for each in row:
            if isinstance(each, bytes):
                bodies.append(each)
                size += len(each)
                if size < ROW_BYTES:
                    continue
            if bodies:
                queue += calls_frame(bodies)
                bodies, size = [], 0
            if not isinstance(each, bytes):
                self._queue_pieces(each)
        if bodies:
            queue += calls_frame(bodies)

    def _queue_pieces(self, data: Sequence[Buffer]) -> None:
        """Queue a frame, or write a long one, which is not copied where nothing waits before it."""
        if sum(map(len, data)) >= ROW_BYTES:
            if self._queue and not self.stuck:
                self._write_queue()
            if not self._queue:
                self._write_at_once(data)
                return
        for piece in data:
            self._queue += piece

    def _write_at_once(self, data: Sequence[Buffer]) -> None:
        """Write what the pipe takes, and queue the rest. Nothing is queued before."""
        for index, piece in enumerate(data):
            try:
                sent = os.write(self._writer, piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the peer is gone; the reading thread says so
            if sent < len(piece):
                self.stuck = True
                self._queue += memoryview(piece)[sent:]
                for later in data[index + 1 :]:
                    self._queue += later
                return

    def _write_queue(self) -> None:
        """Write one portion of what is queued."""
        try:
            with memoryview(self._queue) as view, view[:WRITE_BYTES] as portion:
                sent = os.write(self._writer, portion)
        except BlockingIOError:
            self.stuck = True
        except OSError:  # nobody reads the other end; the reading thread notices it once nothing waits for room
            self._queue.clear()
            self.stuck = False
            self._room.notify_all()
        else:
            self.stuck = sent < min(len(self._queue), WRITE_BYTES)
            del self._queue[:sent]  # cheap: a bytearray only moves its beginning
            if not self.full:
                self._room.notify_all()
