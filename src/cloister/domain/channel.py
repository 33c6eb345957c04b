"""The host's end of a control channel: frames out without waiting, frames in as they come.

Here bytes and descriptors are moved; what a message means is in `listener`. `send` may be called by any thread, the
rest by the watcher's only. What the socket does not take at once is queued, and bounded: a guest that reads nothing and
is still told things has stopped taking part.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cloister.errors import ProtocolError
from cloister.pipes.duplex import close_quietly, receive_with_descriptors, send_with_descriptors
from cloister.wire import frames
from cloister.wire.frames import Frame, FrameDecoder
from cloister.wire.limits import WireLimits
from cloister.wire.values import Codec

if TYPE_CHECKING:
    from cloister.wire.messages import Kind

__all__ = ["Channel"]

MAX_QUEUED_BYTES = 16 * 1024 * 1024
READ_BYTES = 64 * 1024
READS_AT_ONCE = 4
"""So that a guest that sends without end leaves the watcher time for the others."""
LIMITS = WireLimits(frame_bytes=4 * 1024 * 1024, message_bytes=4 * 1024 * 1024, buffers=0)
"""What a guest may say on a control channel: signs of life, log records, exceptions; nothing large."""


class Channel:
    """One control channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel
        self._lock = threading.RLock()  # a finalizer that runs in the middle of `send` may call, and so send
        self._writing = False
        self._saying, self._hearing = Codec(), Codec(LIMITS, clock=time.thread_time_ns)
        self._decoder = FrameDecoder(LIMITS)
        self._queue: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued = 0
        self.closed = False
        """The guest has closed its end, or this end is closed."""
        self.error: OSError | None = None
        """What the system reported when the channel failed."""

    def send(self, kind: Kind, body: Sequence[Any], descriptors: tuple[int, ...] = ()) -> bool:
        """Send a message; True where a part of it waits for the watcher to `flush`. The descriptors are closed here.

        Raises ProtocolError where too much waits. A channel that is closed takes everything, and sends nothing.
        """
        with self._lock:
            data = b"".join(frames.serialize(kind, self._saying.encode([*body])))
            if self.closed:
                close_quietly(*descriptors)
                return False
            if self._queued > MAX_QUEUED_BYTES:
                close_quietly(*descriptors)
                raise ProtocolError("the guest does not read its control channel")
            self._queue.append((memoryview(data), descriptors))
            self._queued += len(data)
            return self._write()

    def flush(self) -> bool:
        """Write what waits; True where something still does."""
        with self._lock:
            return not self.closed and self._write()

    def _write(self) -> bool:
        if self._writing:  # the thread is in the middle of it, further down
            return True
        self._writing = True
        try:
            return self._write_queued()
        finally:
            self._writing = False

    def _write_queued(self) -> bool:
        while self._queue:
            data, descriptors = self._queue[0]
            try:
                if descriptors:
                    sent = send_with_descriptors(self._socket, bytes(data), descriptors)
                    close_quietly(*descriptors)
                else:
                    sent = self._socket.send(data)
            except BlockingIOError:
                return True
            except OSError:  # the guest is gone; its end is noticed elsewhere
                self._drop()
                return False
            self._queued -= sent
            if sent == len(data):
                self._queue.popleft()
            else:
                self._queue[0] = (data[sent:], ())
        return False

    def _drop(self) -> None:
        for _, descriptors in self._queue:
            close_quietly(*descriptors)
        self._queue.clear()
        self._queued = 0

    def receive(self, reads: int = READS_AT_ONCE) -> Iterator[Frame]:
        """Give the frames that have arrived, after at most so many reads; there may be more.

        Raises ProtocolError for what is no frame, or for descriptors.
        """
        for _ in range(reads):
            if self.closed:
                return
            try:
                data, descriptors = receive_with_descriptors(self._socket, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self.error = error
                data, descriptors = b"", []
            if descriptors:
                close_quietly(*descriptors)
                raise ProtocolError("a guest sent descriptors; only a host makes pipes")
            if not data:
                self.closed = True
                return
            self._decoder.feed(data)
            while (frame := self._decoder.next_frame()) is not None:
                yield frame

    def decode(self, frame: Frame) -> Any:
        """The body of a frame. Raises ProtocolError, and MarshalError for a value that can't be had here."""
        return self._hearing.decode(frame.body, frame.buffers)

    def close(self) -> None:
        """Send nothing any more. The socket is closed by its owner."""
        with self._lock:
            self.closed = True
            self._drop()

    def disown(self) -> None:
        """Send nothing from a forked child, whose parent may have held the lock at the fork."""
        self._lock = threading.RLock()
        self.close()
