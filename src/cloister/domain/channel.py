"""The host's end of a control channel: frames out without waiting, frames in as they come.

Here bytes and descriptors are moved; what a message means is in `listener`. `send` may be called by any thread, the
rest by the watcher's only. What the socket does not take at once is queued, and bounded, in bytes and in descriptors: a
guest that reads nothing and is still told things has stopped taking part.

**No lock.** The garbage collector, or a signal, may run code of the user's in the middle of `send`, and that code may
call, open a lane and wait for the answer. Whatever `send` held meanwhile, the watcher could be waiting for. So a short
message, which the kernel takes whole or not at all, is sent by its own thread as soon as nothing waits; it does not
matter whether it comes before or after the one that was interrupted. All else is queued, and only the watcher writes
what is queued. The socket is closed by whoever leaves `send` last after the end.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cloister.errors import ProtocolError
from cloister.pipes.duplex import close_quietly, receive_without_descriptors, send_with_descriptors
from cloister.wire import frames
from cloister.wire.frames import Frame, FrameDecoder
from cloister.wire.limits import WireLimits
from cloister.wire.values import Codec, encode_once

if TYPE_CHECKING:
    from cloister.wire.messages import Kind

__all__ = ["Channel"]

MAX_QUEUED_BYTES = 16 * 1024 * 1024
MAX_QUEUED_DESCRIPTORS = 256
WHOLE_BYTES = 2048
"""A message up to this length is never cut by the kernel: Linux takes 32 KiB as one piece, macOS this much."""
READ_BYTES = 64 * 1024
LIMITS = WireLimits(frame_bytes=4 * 1024 * 1024, message_bytes=4 * 1024 * 1024, buffers=0)
"""What a guest may say on a control channel: signs of life, log records, exceptions; nothing large."""


class Channel:
    """One control channel."""

    def __init__(self, channel: socket.socket) -> None:
        """The socket, which must not block, belongs to this object from here on."""
        self._socket = channel
        self._hearing = Codec(LIMITS, clock=time.thread_time_ns)
        self._decoder = FrameDecoder(LIMITS)
        self._queue: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued = self._queued_descriptors = 0
        self._flushing = False
        """The watcher writes what is queued; what is sent meanwhile by code that interrupted it goes before that."""
        self._torn = False
        """A part of the first queued message was written, so nothing else may be."""
        self._inside: list[None] = []
        """One item for each `send` that is under way."""
        self._over = False
        self.closed = False
        """The guest has closed its end, or this end is closed."""
        self.error: OSError | None = None
        """What the system reported when the channel failed."""

    def send(self, kind: Kind, body: Sequence[Any], descriptors: tuple[int, ...] = (), watching: bool = False) -> bool:
        """Send a message; True where it waits for the watcher to `flush`. The descriptors are closed here.

        `watching`: this is the watcher's thread. Raises ProtocolError where too much waits. A channel that is closed
        takes everything, and sends nothing.
        """
        # A codec of its own: making one costs a microsecond, sharing one would need a lock.
        data = b"".join(frames.serialize(kind, encode_once([*body])))
        self._inside.append(None)
        try:
            at_once = not self._queue or (watching and self._flushing and not self._torn)
            if at_once and len(data) <= WHOLE_BYTES and self._write(memoryview(data), descriptors) is not None:
                return False
            if self.closed:
                close_quietly(*descriptors)
                return False
            if self._queued > MAX_QUEUED_BYTES or (
                descriptors and self._queued_descriptors + len(descriptors) > MAX_QUEUED_DESCRIPTORS
            ):
                close_quietly(*descriptors)
                raise ProtocolError("the guest does not read its control channel")
            self._queued += len(data)  # two threads at once may lose one's bytes; the bounds need not be exact
            self._queued_descriptors += len(descriptors)
            self._queue.append((memoryview(data), descriptors))
            if self.closed:
                self._drop()
            return True
        finally:
            self._inside.pop()
            self._close_if_left()

    def flush(self) -> bool:
        """Write what waits; True where something still does. Watcher's thread."""
        if self._flushing:
            return True
        if self.closed:
            self._drop()
            return False
        self._flushing = True
        try:
            while self._queue:
                data, descriptors = self._queue[0]
                self._torn = self._torn or len(data) > WHOLE_BYTES
                sent = self._write(data, descriptors)
                if sent is None:
                    return True
                self._queued -= sent
                self._queued_descriptors -= len(descriptors)
                if sent < len(data):
                    self._queue[0] = (data[sent:], ())
                else:
                    self._queue.popleft()
                    self._torn = False
            self._queued = self._queued_descriptors = 0
            return False
        finally:
            self._flushing = False

    def _write(self, data: memoryview, descriptors: tuple[int, ...]) -> int | None:
        """Write once; how many bytes were taken, None where the socket takes none. Where the guest is gone: all."""
        if self.closed:
            close_quietly(*descriptors)
            return len(data)
        try:
            if descriptors:
                sent = send_with_descriptors(self._socket, bytes(data), descriptors)
                close_quietly(*descriptors)
                return sent
            return self._socket.send(data)
        except BlockingIOError:
            return None
        except OSError:  # its end is noticed elsewhere
            close_quietly(*descriptors)
            return len(data)

    def _drop(self) -> None:
        while self._queue:
            try:
                _, descriptors = self._queue.popleft()
            except IndexError:  # another thread drops them too
                return
            close_quietly(*descriptors)

    def receive(self, reads: int = 1) -> Iterator[Frame]:
        """Give the frames that have arrived, after at most so many reads; there may be more.

        One read is what the watcher does at a time: most often it takes all, and a guest that sends without end leaves
        the others their turns.

        Raises ProtocolError for what is no frame, or for descriptors.
        """
        for _ in range(reads):
            if self.closed:
                return
            try:
                data, with_descriptors = receive_without_descriptors(self._socket, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self.error = error
                data, with_descriptors = b"", False
            if with_descriptors:
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
        """Send nothing any more, and close the socket as soon as no `send` is under way. Idempotent."""
        self.closed = self._over = True
        self._hearing.let_go()
        self._drop()
        self._close_if_left()

    def _close_if_left(self) -> None:
        if self._over and not self._inside:
            self._socket.close()

    def disown(self) -> None:
        """Close the socket in a forked child, where no other thread is left in `send`."""
        self._inside = []
        self.close()
