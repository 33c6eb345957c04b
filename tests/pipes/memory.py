"""A pipe within one process, in memory: for tests of what lies above, at its least favourable.

Both ends of `memory_pair` behave as `transport` says, with two settings that no real pipe offers: how many bytes a
receive gives at most (1 is the cruellest), and the number of the operation that fails. Not for use as a real pipe: an
end has no descriptor, and a message of a thread to itself needs none of this.

Both ends share one lock. Any thread may enter.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

from cloister.errors import NotConnected, PipeCancelled, PipeClosed, PipeError, PipeTimeout
from cloister.pipes.deadline import seconds_left
from cloister.pipes.transport import Peer, Transport

__all__ = ["Faults", "MemoryTransport", "memory_pair"]


class Faults:
    """Counts operations, and makes the one with number `nth` fail; 0: none."""

    def __init__(self, nth: int = 0) -> None:
        self.nth = nth
        self.count = 0

    @property
    def reached(self) -> bool:
        """Whether the operation that was to fail has happened."""
        return 0 < self.nth <= self.count

    def step(self) -> None:
        """One operation begins. Raises `PipeError` with EIO for the chosen one."""
        self.count += 1
        if self.count == self.nth:
            raise PipeError(errno.EIO, f"operation {self.nth} failed, as was asked for")


class _Stream:
    """The bytes on their way in one direction."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False  # by the writer: nothing more will come
        self.unread = False  # by the reader: nothing more will be read


class MemoryTransport(Transport):
    """One end of a `memory_pair`."""

    def __init__(
        self, changed: threading.Condition, inward: _Stream, outward: _Stream, step: int, room: int, faults: Faults
    ) -> None:
        self._changed = changed
        self._inward = inward
        self._outward = outward
        self._step = step
        self._room = room
        self._faults = faults
        self._generation = 0
        self._closed = False

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def peer(self) -> Peer:
        return Peer(None, None)

    def receive_some(self, limit: int, deadline: float | None, since: int) -> bytes:
        stream = self._inward
        with self._changed:
            self._enter(since)
            self._wait(lambda: bool(stream.data) or stream.ended, deadline, since, "no data came")
            count = min(limit, self._step)
            data = bytes(stream.data[:count])
            del stream.data[:count]
            self._changed.notify_all()
            return data

    def send_some(self, data: bytes | memoryview, deadline: float | None, since: int) -> int:
        stream = self._outward
        with self._changed:
            self._enter(since)
            self._wait(
                lambda: stream.unread or len(stream.data) < self._room, deadline, since, "the peer does not read"
            )
            if stream.unread:
                raise PipeClosed(errno.EPIPE, "the peer closed its end, and does not read any more")
            sent = min(len(data), self._step, self._room - len(stream.data))
            stream.data += data[:sent]
            self._changed.notify_all()
            return sent

    def _enter(self, since: int) -> None:
        self._check(since)
        if self._closed:
            raise NotConnected("the pipe is closed on this side")
        self._faults.step()

    def _check(self, since: int) -> None:
        if since != self._generation:
            how = "closed on this side" if self._closed else "cancelled"
            raise PipeCancelled(f"the operation on the pipe was {how} while it waited")

    def _wait(self, ready: Callable[[], bool], deadline: float | None, since: int, otherwise: str) -> None:
        while not ready():
            self._check(since)
            left = seconds_left(deadline)
            if not left:
                raise PipeTimeout(f"{otherwise} in the time given")
            self._changed.wait(left)

    def cancel(self) -> None:
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            if not self._closed:
                self._closed = True
                self._outward.ended = True
                self._inward.unread = True
                self.cancel()

    def fileno(self) -> int:
        if self._closed:
            raise NotConnected("the pipe is closed on this side")
        raise PipeError("a pipe in memory has no descriptor")


def memory_pair(
    *, step: int = 1, room: int = 65536, faults: Faults | None = None
) -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected ends. `step`: bytes moved at most at a time. `room`: bytes on their way at most, per direction.
    `faults`: for the first end alone; the second never fails."""
    changed = threading.Condition(threading.RLock())
    there, back = _Stream(), _Stream()
    return (
        MemoryTransport(changed, back, there, step, room, faults or Faults()),
        MemoryTransport(changed, there, back, step, room, Faults()),
    )
