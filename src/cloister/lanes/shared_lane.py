"""A shared lane: many calls at once, told apart by number, from any thread of the host.

Here is the host's end. Any thread may `submit`; it waits for the pipe only where `MAX_QUEUED_BYTES` wait before it. One
thread reads the answers, writes what the pipe did not take, and completes the futures, so the done-callbacks of a
future run on it. What a guest does with the calls is in `cloister.guest.shared`, the futures are in `numbered`.

A call that comes alone is written at once. In a row of calls the thread writes those that came meanwhile together;
whoever waits for an answer, or queues more than a few KiB, does so before.

A cancel is a message, never a close: the future is over at once, the guest is told to stop, and its late answer is
thrown away. The same happens to a call whose time is up.

A finalizer, a signal handler or a `__getstate__` may run in the middle of `submit`, and may wait for an answer there.
So the reading thread waits for nobody: it hears answers without the lock, and comes back for what needs it. What such
code submits takes another lane, see `busy_here`.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.daemons import daemons
from cloister.errors import CallTimeout, DeadlockDetected, ProtocolError
from cloister.lanes.frame_lane import READ_BYTES, LaneClosed
from cloister.lanes.ledger import Ledger
from cloister.lanes.numbered import Numbered
from cloister.lanes.outgoing import Wake
from cloister.wire.frames import Buffer, Frame, FrameDecoder
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.values import Codec

__all__ = ["SharedLane", "read_frames", "write_all"]

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""What may wait for a guest that does not read; then `submit` waits."""
MAX_LAST_BYTES: Final = 1024 * 1024
"""What is read after the end; a pipe holds no more, but a guest that lives might write on."""
WRITE_BYTES: Final = 64 * 1024
"""What one write offers to the pipe, whose size it is at most."""
BURST_S: Final = 0.00005
"""A call that comes so soon after the one before waits for the next ones, to be written with them by the thread."""
BATCH_BYTES: Final = 8 * 1024
"""So many bytes are written at once, in a row of calls too."""
LOCK_S: Final = 0.005
"""How long the reading thread waits for the lock before it goes on reading."""


def read_frames(reader: int) -> Iterator[Frame]:
    """Read frames until the peer closes; each read blocks. Raises ProtocolError for what is no frame."""
    decoder = FrameDecoder()
    while True:
        while (frame := decoder.next_frame()) is not None:
            yield frame
        try:
            data = os.read(reader, READ_BYTES)
        except OSError:
            return
        if not data:
            return
        decoder.feed(data)


def write_all(writer: int, data: Sequence[Buffer]) -> None:
    """Write all pieces to an end that does not block, waiting as long as it takes. Raises OSError as `os.write`."""
    if sys.platform == "win32":
        raise NotImplementedError
    for piece in data:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(writer, rest) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(writer, select.POLLOUT)
                poll.poll()


class SharedLane:
    """The host's end of a shared lane, with its reading thread."""

    def __init__(
        self,
        end: LaneEnd,
        number: int,
        codecs: tuple[Codec, Codec],
        rebuild: Callable[[Any], BaseException],
        failed: Callable[[BaseException], BaseException],
        interrupt: Callable[[Numbered, Callable[[CallTimeout], None] | None], None],
        name: str,
    ) -> None:
        """Take over the descriptors. Raises OSError where none are left; `end` stays the caller's then.

        `codecs` are one for hearing and one for saying, because two threads may do so at once. `rebuild` turns a
        described exception into one; `failed` is told why the lane ended and says what its futures raise; `interrupt`
        tells the guest to stop a call, and then says, once, what its caller is to be told.
        """
        self.number = number
        self._wake = Wake()
        self._end = end
        self._hearing, self._saying = codecs
        self._ledger: Ledger[Numbered] = Ledger()
        self._rebuild, self._failed, self._interrupt = rebuild, failed, interrupt
        self._lock = threading.RLock()  # entered again by a `__getstate__` or a finalizer that submits here
        self._room = threading.Condition(self._lock)
        self._ready: dict[int, Sequence[Buffer]] = {}
        """Calls that are numbered and not yet written or queued. Their numbers are their order."""
        self._queue = bytearray()
        self._full = False
        """The pipe did not take what was written last; the thread waits for room."""
        self._last = 0.0
        """When the last call was submitted."""
        self._moving = False
        """The thread with the lock touches the pipe or the queue; what it runs in the middle of that only adds to
        `_ready`."""
        self._closed = False
        self._again = False
        """The reading thread did not get the lock, and tries again."""
        self._telling = False
        """The reading thread runs code that waits for answers: done-callbacks, and what takes parts."""
        self._thread = threading.Thread(target=self._run, name=f"cloister-{name}-shared", daemon=daemons())
        self._thread.start()

    # -- any thread --------------------------------------------------------------------------------------------------

    def submit(
        self,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None = None,
        deadline: float | None = None,
        flags: int = 0,
        prepare: Callable[[Numbered], object] | None = None,
    ) -> Numbered:
        """Send a call; return its future. At its deadline, a time of `time.monotonic`, it fails with CallTimeout.

        `prepare` gets the future before anything is sent: a done-callback that it adds runs on the reading thread.
        Raises MarshalError, CallTimeout where there is no room to send it in time, and LaneClosed after the end.
        """
        with self._lock:
            self._wait_for_room(name, deadline)
            ledger = self._ledger
            number, data = ledger.encode(self._saying, target, name, args, kwargs, options, flags)
            now = time.monotonic()
            together, self._last = now - self._last < BURST_S and bool(ledger.waiting), now
            ledger.said = number
            # From here on a finalizer may submit as well: it finds this call numbered, and comes after it.
            self._ready[number] = data
            future = ledger.waiting[number] = Numbered(self, number, name)
            if options is not None:
                future.strand = options.get("strand", 0)
            if prepare is not None:
                prepare(future)
            if deadline is not None:
                ledger.until(number, deadline)
            self._send_ready(together)
            if self._queue or self._ready or deadline is not None:
                self._wake.wake()
        return future

    def give_up(self, future: Numbered) -> bool:
        """Wait for a call no more, and tell the guest; False where it has its answer already."""
        if self._ledger.waiting.pop(future.number, None) is None:
            return False
        self._interrupt(future, None)
        return True

    @property
    def busy_here(self) -> bool:
        """Whether the calling thread is in the middle of something here, so that it must not wait for an answer."""
        if threading.current_thread() is self._thread:
            return not self._telling
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # what every Condition asks it

    def check_wait(self, name: str) -> None:
        """Send what is queued, because somebody is about to wait for an answer.

        Refuses that on the thread that reads the answers: raises DeadlockDetected there.
        """
        if self._queue and not self._full and self._lock.acquire(blocking=False):
            try:
                self._send_ready()
            finally:
                self._lock.release()
        if threading.current_thread() is self._thread and not self._closed:
            raise DeadlockDetected(
                f"{name}() was waited for on thread {self._thread.name!r}, which reads its answer: from a done-callback"
                " or a finalizer. Give the future a done-callback instead, or wait on another thread"
            )

    def close(self) -> None:
        """End the lane: what still waits fails as `failed` says. Returns at once; `join` waits for the thread."""
        self._closed = True
        self._wake.wake()

    def disown(self) -> None:
        """Close the lane in a forked child, which has no reading thread; nobody waits for its futures there."""
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        if not self._closed:
            self._closed = True
            for fd in self._end:
                os.close(fd)
            self._wake.disown()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the reading thread has ended."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    @property
    def waiting(self) -> list[str]:
        """The names of the calls that wait for their answers."""
        return [future.name for future in list(self._ledger.waiting.values())]

    @property
    def strands(self) -> set[int]:
        """The strands of the calls that wait for their answers."""
        return {future.strand for future in list(self._ledger.waiting.values())}

    def _wait_for_room(self, name: str, deadline: float | None) -> None:
        if len(self._queue) > MAX_QUEUED_BYTES and threading.current_thread() is not self._thread:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._room.wait_for(lambda: self._closed or len(self._queue) <= MAX_QUEUED_BYTES, left):
                raise CallTimeout(f"the time for {name}() was up before it was sent; too many calls wait before it")
        if self._closed:
            raise LaneClosed("the lane is closed")

    def _send_ready(self, together: bool = False) -> None:
        """Write or queue what is ready, in the order of the numbers. The lock is held.

        With `together` a little is only queued: the thread writes it, when it gets its turn.
        """
        if self._moving:
            return  # whoever moves takes it along, or the reading thread does
        self._moving = True
        try:
            while self._ready:
                ready = self._ready
                data = ready.pop(min(ready) if len(ready) > 1 else next(iter(ready)))
                if self._queue or (together and len(data) == 1 and len(data[0]) < BATCH_BYTES):
                    for piece in data:
                        self._queue += piece
                else:
                    self._write_at_once(data)
            if self._queue and not self._full and (not together or len(self._queue) >= BATCH_BYTES):
                self._write_queue()
        finally:
            self._moving = False

    def _write_at_once(self, data: Sequence[Buffer]) -> None:
        """Write what the pipe takes, and queue the rest. The lock is held, and nothing is queued."""
        for index, piece in enumerate(data):
            try:
                sent = os.write(self._end.writer, piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the peer is gone; the reading thread says so
            if sent < len(piece):
                self._full = True
                self._queue += memoryview(piece)[sent:]
                for later in data[index + 1 :]:
                    self._queue += later
                return

    def _write_queue(self) -> None:
        """Write one portion of what is queued. The lock is held."""
        try:
            with memoryview(self._queue) as view, view[:WRITE_BYTES] as portion:
                sent = os.write(self._end.writer, portion)
        except BlockingIOError:
            self._full = True
        except OSError:  # nobody reads the other end; the reading thread notices it once nothing waits for room
            self._queue.clear()
            self._full = False
            self._room.notify_all()
        else:
            self._full = sent < min(len(self._queue), WRITE_BYTES)
            del self._queue[:sent]  # cheap: a bytearray only moves its beginning
            if len(self._queue) <= MAX_QUEUED_BYTES:
                self._room.notify_all()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        cause: BaseException = LaneClosed("the peer is gone")
        try:
            self._loop()
        except Exception as error:
            cause = error
        self._closed = True
        # Who has the lock may be a finalizer that waits for one of these futures.
        at_once = self._lock.acquire(timeout=LOCK_S)
        outcome: BaseException | None = None
        if not at_once:
            outcome = self._fail_all(cause, outcome)
            self._lock.acquire()
        try:
            self._ready.clear()
            self._queue.clear()
            self._room.notify_all()
            self._end.close()
        finally:
            self._lock.release()
        self._wake.close()
        self._fail_all(cause, outcome)

    def _fail_all(self, cause: BaseException, outcome: BaseException | None) -> BaseException:
        """Fail what still waits, in the order of the calls. Returns what it fails with, where that is not given."""
        if outcome is None:
            outcome = self._failed(cause)
        waiting = self._ledger.waiting
        for number in list(waiting):
            future = waiting.pop(number, None)
            if future is not None:
                self._tell(future, None, outcome)
        return outcome

    def _loop(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        reader, writer = self._end
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(self._wake.reader, select.POLLIN)
        decoder = FrameDecoder()
        while not self._closed:
            poll.register(writer, select.POLLOUT if self._queue else 0)
            ready = dict(poll.poll(self._expire()))
            if self._wake.reader in ready or self._again:
                self._wake.taken()
                if self._acquire():
                    try:
                        self._send_ready()
                    finally:
                        self._lock.release()
            if ready.get(writer, 0) & select.POLLOUT:
                self._drain()
            if reader not in ready:
                if writer in ready and not ready[writer] & select.POLLOUT:
                    return  # nobody reads the other end
                continue
            data = os.read(reader, READ_BYTES)
            if not data:
                return
            decoder.feed(data)
            while (frame := decoder.next_frame()) is not None:
                self._take(frame)
        self._hear_the_last(decoder, poll)

    def _acquire(self) -> bool:
        """Get the lock, or come back for it: who has it may be waiting for an answer that this thread must read."""
        got = self._lock.acquire(timeout=LOCK_S)
        self._again = not got
        return got

    def _hear_the_last(self, decoder: FrameDecoder, poll: Any) -> None:
        """Take what lies in the pipe when the lane is closed: a guest that died has answered some calls before."""
        if sys.platform == "win32":
            raise NotImplementedError
        reader = self._end.reader
        taken = 0
        while taken < MAX_LAST_BYTES and dict(poll.poll(0)).get(reader, 0) & select.POLLIN:
            data = os.read(reader, READ_BYTES)
            if not data:
                return
            taken += len(data)
            decoder.feed(data)
            while (frame := decoder.next_frame()) is not None:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        if frame.kind != Kind.PART:
            self._hear(frame)
            return
        number, value = self._ledger.read_part(self._hearing, frame)
        future = self._ledger.waiting.get(number)
        if future is None:
            return  # its caller has given it up
        if future.on_part is None:
            raise ProtocolError(f"{future.name}() told something before its answer that nobody asked for")
        self._telling = True
        try:
            future.on_part(value)
        finally:
            self._telling = False

    def _drain(self) -> None:
        """The pipe has room: write on."""
        if not self._acquire():
            return
        self._moving = True
        try:
            self._write_queue()
        finally:
            self._moving = False
            self._lock.release()

    def _expire(self) -> float | None:
        """Fail the calls whose time is up; return the milliseconds until the next one's is, None for never."""
        if not self._ledger.timed:
            return None
        if not self._acquire():
            return LOCK_S * 1000
        try:
            late, due = self._ledger.expire(time.monotonic())
        finally:
            self._lock.release()
        self._telling = True
        try:
            for future in late:
                self._interrupt(future, partial(future.complete, None))
        finally:
            self._telling = False
        return None if due is None else max(0.0, due - time.monotonic()) * 1000 + 1

    def _hear(self, frame: Frame) -> None:
        number, value, error = self._ledger.read(self._hearing, frame, self._rebuild)
        future = self._ledger.waiting.pop(number, None)
        if future is not None:  # else its caller has given it up
            self._tell(future, value, error)

    def _tell(self, future: Numbered, value: Any, error: BaseException | None) -> None:
        self._telling = True
        try:
            future.complete(value, error)
        finally:
            self._telling = False
