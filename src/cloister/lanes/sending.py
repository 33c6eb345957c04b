"""The calls of a shared lane on their way out, from any thread of the host.

Here is what waits to be written, and for room in the pipe; `shared_lane` numbers the calls, and reads the answers.
Short calls are collected as a row (`rows`), and become one frame when they leave.

All but `wait_for_room` is entered with the lock, which a `__getstate__` or a finalizer enters again in the middle of
anything: what it adds comes after what was added before, and whoever is moving takes it along.

A KeyboardInterrupt comes to the main thread wherever Python looks for signals: after a call, when a function begins, in
a loop. It must leave each call in the row, in the queue, or in the pipe, and none of them torn. So a call leaves the
row when its frame is in the queue, in one step without a place for it; and how much was written is noted in the step
that writes. What is left is sent by whoever comes next.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final

from cloister.conditions import Condition
from cloister.lanes.rows import ROW_BYTES, calls_frame, framed

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
        self._room = Condition(self.lock)
        self.row: list[bytes | list[Buffer]] = []
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
            while row := self.row:
                self.row_bytes = 0
                if len(row) == 1 and not self._queue and not self.stuck and isinstance(first := row[0], bytes):
                    self._write_only(calls_frame((first,)))
                else:
                    self._line_up()
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
        self._room = Condition(self.lock)

    def _write_only(self, frame: bytes) -> None:
        """Write the frame of a call that came alone; where the pipe does not take it, it stays in the row."""
        sent: list[int] = []
        try:
            # One step of Python: how much was written is known, wherever Ctrl-C comes.
            sent.extend(map(os.write, (self._writer,), (frame,)))
        except BlockingIOError:
            self.stuck = True
        except OSError:
            del self.row[:1]  # the peer is gone; the reading thread says so
        finally:
            if sent:
                # No call in these two lines: Ctrl-C comes before both, or after both.
                self._queue += frame[sent[0] :]
                del self.row[:1]

    def _line_up(self) -> None:
        """Queue the frames of what was collected; a long one is written where nothing waits before it."""
        for count, frame in framed(self.row[:], calls_frame):
            if not isinstance(frame, bytes):
                if sum(map(len, frame)) >= ROW_BYTES:
                    if self._queue and not self.stuck:
                        self._write_queue()
                    if not self._queue:
                        self._write_long(frame)
                        continue
                frame = b"".join(frame)
            self._queue += frame  # no call here, as above
            del self.row[:count]

    def _write_long(self, frame: Sequence[Buffer]) -> None:
        """Write the first of the row, of which nothing is copied but what the pipe does not take. Nothing is queued."""
        sent: list[int] = []
        try:
            self._write_pieces(frame, sent)
            self._queue_rest(frame, sent)
        except BaseException:  # Ctrl-C, which comes once
            self._queue_rest(frame, sent)
            raise

    def _write_pieces(self, frame: Sequence[Buffer], sent: list[int]) -> None:
        for piece in frame:
            try:
                sent.extend(map(os.write, (self._writer,), (piece,)))
            except BlockingIOError:
                self.stuck = True
                return
            except OSError:
                sent[:] = map(len, frame)  # the peer is gone; the reading thread says so
                return
            if sent[-1] < len(piece):
                self.stuck = True
                return

    def _queue_rest(self, frame: Sequence[Buffer], sent: Sequence[int]) -> None:
        """Queue what was not sent of the first of the row, so many bytes of each piece; nothing where that was done."""
        rest = bytearray()
        for count, piece in zip(chain(sent, repeat(0)), frame, strict=False):
            rest += piece[count:]
        if self.row and self.row[0] is frame:
            self._queue = rest
            del self.row[:1]

    def _write_queue(self) -> None:
        """Write one portion of what is queued."""
        queue = self._queue
        sent: list[int] = []
        try:
            if len(queue) <= WRITE_BYTES:
                sent.extend(map(os.write, (self._writer,), (queue,)))
            else:
                with memoryview(queue) as view, view[:WRITE_BYTES] as portion:
                    sent.extend(map(os.write, (self._writer,), (portion,)))
                self._room.notify_all()
        except BlockingIOError:
            self.stuck = True
        except OSError:  # nobody reads the other end; the reading thread notices it once nothing waits for room
            queue.clear()
            self.stuck = False
            self._room.notify_all()
        else:
            self.stuck = sent[0] < min(len(queue), WRITE_BYTES)
        finally:
            if sent:
                del queue[: sent[0]]  # cheap: a bytearray only moves its beginning
