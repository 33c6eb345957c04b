"""One end of a lane whose descriptors an event loop watches: bytes out and in, and the end. No thread waits here.

What the frames mean is in `loop_shared`, where this side calls, and in `loop_call`, where it serves. Everything belongs
to the loop's thread, but for `stop_from_afar` and `disown`.

The loop closes the lane when it is closed properly, as `asyncio.run` does. A loop that was closed otherwise is found
when the next lane is opened, or the domain ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cloister.errors import CallCancelled, ProtocolError
from cloister.lanes.frame_lane import READ_BYTES, LaneClosed
from cloister.lanes.loop_keeper import keeper_of
from cloister.wire import frames
from cloister.wire.frames import Buffer, FrameDecoder

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd

__all__ = ["LoopEnd"]

WRITE_BYTES: Final = 64 * 1024
"""What one write offers to the pipe, whose size it is at most."""
VIEWED_BYTES: Final = 4096
"""The rest of a longer piece is not copied."""
LAST_READS: Final = 64
"""What is read after the end; a pipe holds no more, but a peer that lives might write on."""


class LoopEnd:
    """One end of a lane, watched by an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs on the loop's thread, with the loop running."""
        self.loop = loop
        self.number = -1
        """The lane's number; negative before it is open."""
        self._end: LaneEnd | None = None
        self._writers: list[int] = []
        """The descriptor to write to, while it is open. The step that writes takes it: so it is no other file's."""
        self._decoder: FrameDecoder | None = None
        self._queue: list[Buffer] = []
        self._queued = 0
        self._blocked = False
        """The loop watches for room in the pipe."""
        self._writing = False
        self._error: Callable[[], BaseException] | None = None
        self._ended = False
        self._keeper = keeper_of(loop)
        self._keeper.add(self)

    def attach(self, end: LaneEnd, number: int) -> bool:
        """Take over the descriptors and watch them; False where the lane has ended, and they were closed."""
        if self._ended or self._end is not None:
            end.close()
            return False
        self.number = number
        self._end = end
        self._writers.append(end.writer)
        self.loop.add_reader(end.reader, self._on_readable)
        return True

    @property
    def ended(self) -> bool:
        """Whether it takes no frames any more."""
        return self._ended

    def detach(self) -> LaneEnd | None:
        """Let go of the descriptors, for another loop to `adopt`; None where the lane has ended."""
        end, self._end = self._end, None
        self._writers.clear()
        if end is not None:
            self.loop.remove_reader(end.reader)
            if self._blocked:
                self.loop.remove_writer(end.writer)
                self._blocked = False
            self._keeper.remove(self)
        return end

    def adopt(self, loop: asyncio.AbstractEventLoop, end: LaneEnd) -> None:
        """Watch what was detached, on this loop, which runs on the calling thread."""
        self.loop = loop
        self._keeper = keeper_of(loop)
        self._keeper.add(self)
        self._end = end
        self._writers.append(end.writer)
        loop.add_reader(end.reader, self._on_readable)
        self._write()

    # -- what the two kinds do in their own ways ---------------------------------------------------------------------

    def _take(self, frame: frames.Frame) -> None:
        """Take a frame that has arrived. Raises ProtocolError where it has no place here."""
        raise NotImplementedError

    def _over(self, cause: BaseException) -> None:
        """The peer has ended the lane, which takes nothing any more: a LaneClosed or a ProtocolError says why."""
        raise NotImplementedError

    def _on_room(self) -> None:
        """The pipe takes more."""
        self._write()

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Close the lane; whoever waits for something on it gets `error()`. Idempotent; the first error holds."""
        raise NotImplementedError

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Write what the pipe takes; where something is left, the loop watches for room."""
        queue = self._queue
        if self._end is None or self._writing:
            return  # whoever writes takes it along: this is a finalizer in the middle of that
        self._writing = True
        try:
            while queue:
                piece = queue[0] if len(queue) == 1 else self._joined()
                size = len(piece)
                if size >= VIEWED_BYTES:
                    piece = memoryview(piece)
                sent: list[int] = []
                try:
                    # One step of Python: how much was written is known, wherever Ctrl-C comes.
                    sent.extend(map(os.write, self._writers, (piece,)))
                except BlockingIOError:
                    sent.append(0)
                finally:
                    if sent:
                        # No call in these lines.
                        rest = piece[sent[0] :]
                        if queue:  # else a finalizer has closed the lane
                            self._queued -= sent[0]
                            if sent[0] < size:
                                queue[0] = rest
                            else:
                                del queue[0]
                if not sent:
                    return  # a finalizer has closed the lane
                if sent[0] < size:
                    self._await_room()
                    return
        except OSError:
            self._finish(LaneClosed("the peer is gone"))
        except BaseException:  # Ctrl-C: else nobody would write what is left
            if queue:
                self._await_room()
            raise
        finally:
            self._writing = False

    def _await_room(self) -> None:
        """Let the loop say when the pipe takes more."""
        end = self._end
        if end is not None and not self._blocked:
            self.loop.add_writer(end.writer, self._on_writable)
            self._blocked = True

    def _joined(self) -> Buffer:
        """The first of what is queued, made one piece with what follows, as long as that is short."""
        queue = self._queue
        count, size = 1, len(queue[0])
        while count < len(queue) and (size := size + len(queue[count])) <= WRITE_BYTES:
            count += 1
        if count == 1:
            return queue[0]
        joined, first = (b"".join(queue[:count]),), slice(count)
        # No call in these lines, and nothing is made.
        if queue:  # else a finalizer has closed the lane
            queue[first] = joined
        return joined[0]

    def _on_writable(self) -> None:
        if self._end is None:
            return
        try:
            self._blocked = False
            self.loop.remove_writer(self._end.writer)
            self._on_room()
        except BaseException:  # Ctrl-C, as above
            self._await_room()
            raise

    def _on_readable(self) -> None:
        end = self._end
        if end is None:
            return
        try:
            data = os.read(end.reader, READ_BYTES)
        except OSError:
            data = b""
        try:
            if not data:
                raise LaneClosed("the peer is gone")
            decoder = self._decoder
            if decoder is None:
                frame = frames.parse(data)
                if frame is not None:
                    self._take(frame)
                    return
                decoder = self._decoder = FrameDecoder()
            decoder.feed(data)
            self._take_all(decoder)
        except (LaneClosed, ProtocolError) as error:
            self._finish(error)

    def take_rest(self) -> None:
        """Take the frames that had arrived before another loop had the lane."""
        if self._decoder is not None:
            try:
                self._take_all(self._decoder)
            except ProtocolError as error:
                self._finish(error)

    def _take_all(self, decoder: FrameDecoder) -> None:
        while self._end is not None and (frame := decoder.next_frame()) is not None:
            self._take(frame)
        if decoder.wanted == frames.HEADER_SIZE:  # nothing is left over
            self._decoder = None

    # -- the end -----------------------------------------------------------------------------------------------------

    def _hear_the_last(self) -> None:
        """Take what lies in the pipe when the lane is closed: a peer that died has answered some calls before."""
        if sys.platform == "win32":
            raise NotImplementedError
        end = self._end
        if end is None:
            return
        poll = select.poll()
        poll.register(end.reader, select.POLLIN)
        decoder = self._decoder or FrameDecoder()
        with contextlib.suppress(OSError, ProtocolError):
            for _ in range(LAST_READS):
                if not poll.poll(0) or not (data := os.read(end.reader, READ_BYTES)):
                    return
                decoder.feed(data)
                while (frame := decoder.next_frame()) is not None:
                    self._take(frame)

    def stop_from_afar(self, error: Callable[[], BaseException]) -> None:
        """`fail` from another thread. Where the loop is closed, nobody waits, and only the descriptors go."""
        try:
            self.loop.call_soon_threadsafe(self.fail, error)
        except RuntimeError:
            self.disown(error)

    def disown(self, error: Callable[[], BaseException]) -> None:
        """Close the descriptors, and leave the loop alone: it is closed, or the parent of this fork has it."""
        self._ended, self._error = True, error
        end, self._end = self._end, None
        self._writers.clear()
        if end is not None:
            end.close()

    def _finish(self, cause: BaseException) -> None:
        """The peer has ended the lane. What waits goes on waiting until `fail` says what it raises."""
        if not self._ended:
            self._close_here()
            self._over(cause)

    def _close_here(self) -> None:
        self._ended = True
        end, self._end = self._end, None
        self._writers.clear()
        self._queue.clear()
        self._queued = 0
        if end is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(end.reader)
                if self._blocked:
                    self.loop.remove_writer(end.writer)
            end.close()
        self._keeper.remove(self)

    def loop_closes(self) -> None:
        """The loop is about to be closed."""
        self.fail(lambda: CallCancelled("the event loop of this call was closed; other loops go on"))

    def __del__(self) -> None:
        """Close the descriptors of a lane whose loop has been thrown away."""
        end, self._end = getattr(self, "_end", None), None
        if end is not None and not sys.is_finalizing():
            end.close()
