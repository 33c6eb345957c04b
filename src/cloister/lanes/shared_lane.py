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
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from cloister.daemons import daemons
from cloister.errors import CallTimeout, DeadlockDetected, ProtocolError
from cloister.lanes.frame_lane import READ_BYTES, LaneClosed
from cloister.lanes.ledger import Ledger
from cloister.lanes.numbered import Numbered, settle
from cloister.lanes.outgoing import Wake
from cloister.lanes.rows import REPLIES, ROW_BYTES, read_replies
from cloister.lanes.sending import Sending
from cloister.wire.frames import FrameDecoder
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.frames import Frame
    from cloister.wire.values import Codec

__all__ = ["SharedLane"]

_PART: Final = int(Kind.PART)
_strand: Final = attrgetter("strand")

MAX_LAST_BYTES: Final = 1024 * 1024
"""What is read after the end; a pipe holds no more, but a guest that lives might write on."""
BURST_S: Final = 0.001
"""A call that comes so soon after the one before waits for the next ones, to be written with them by the thread."""
LOCK_S: Final = 0.005
"""How long the reading thread waits for the lock before it goes on reading."""


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
        self._sending = Sending(end.writer)
        self._last = 0.0
        """When the last call was submitted."""
        self._closed = False
        self._again = False
        """The reading thread did not get the lock to send what waits, and tries again."""
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
        sending, ledger = self._sending, self._ledger
        with sending.lock:
            if sending.full or self._closed:
                self._wait_for_room(name, deadline)
            future = Numbered(self, 0, name)
            if options is not None:
                future.strand = options.get("strand", 0)
            if prepare is not None:
                prepare(future)
            number, data = ledger.encode(self._saying, target, name, args, kwargs, options, flags)
            now = time.monotonic()
            alone, self._last = now - self._last > BURST_S or not ledger.waiting, now
            size = len(data) if type(data) is bytes else ROW_BYTES
            try:
                # Nothing may come between the next four lines, neither Ctrl-C, as no call is before the last one, nor a
                # finalizer that submits: it finds this call numbered and on its way, and comes after it.
                future.number = ledger.said = number
                ledger.waiting[number] = future
                sending.row_bytes += size
                sending.row.append(data)
                if deadline is not None:
                    ledger.until(number, deadline)
                if alone or sending.row_bytes >= ROW_BYTES:
                    sending.send()
                if deadline is not None or sending.waits:
                    self._wake.wake()
            except BaseException:  # Ctrl-C: the thread sends what waits, this call and those of others
                self._wake.wake()
                raise
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
        if get_ident() == self._thread.ident:
            return not self._telling
        return bool(self._sending.lock._is_owned())  # type: ignore[attr-defined]  # what every Condition asks it

    def check_wait(self, name: str) -> None:
        """Send what is queued, because somebody is about to wait for an answer.

        Refuses that on the thread that reads the answers: raises DeadlockDetected there.
        """
        sending = self._sending
        if sending.waits and not sending.stuck:
            taken: list[bool] = []
            try:
                taken.extend(map(sending.lock.acquire, (False,)))  # noted in the same step: Ctrl-C comes after both
                if taken[0]:
                    sending.send()
            finally:
                if taken and taken[0]:
                    sending.lock.release()
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
        self._sending.disown()
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

    def has_strand(self, strand: int) -> bool:
        """Whether a strand is one of the calls that wait for their answers."""
        return strand in map(_strand, list(self._ledger.waiting.values()))

    def _wait_for_room(self, name: str, deadline: float | None) -> None:
        others = threading.current_thread() is not self._thread and not self._closed
        if others and not self._sending.wait_for_room(deadline):
            raise CallTimeout(f"the time for {name}() was up before it was sent; too many calls wait before it")
        if self._closed:
            raise LaneClosed("the lane is closed")

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        cause: BaseException = LaneClosed("the peer is gone")
        try:
            self._loop()
        except Exception as error:
            cause = error
        self._closed = self._sending.closed = True
        # Who has the lock may be a finalizer that waits for one of these futures.
        lock = self._sending.lock
        at_once = lock.acquire(timeout=LOCK_S)
        outcome: BaseException | None = None
        if not at_once:
            outcome = self._fail_all(cause, outcome)
            lock.acquire()
        try:
            self._sending.close()
            self._end.close()
        finally:
            lock.release()
        self._wake.close()
        self._fail_all(cause, outcome)
        self._hearing.let_go()
        self._saying.let_go()

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
        sending = self._sending
        while not self._closed:
            poll.register(writer, select.POLLOUT if sending.queued else 0)
            wait = self._expire()
            if self._again:
                wait = LOCK_S * 1000 if wait is None else min(wait, LOCK_S * 1000)
            ready = dict(poll.poll(wait))
            if self._wake.reader in ready or self._again:
                self._wake.taken()
                self._again = not self._acquire()
                if not self._again:
                    try:
                        sending.send()
                    finally:
                        sending.lock.release()
            if ready.get(writer, 0) & select.POLLOUT and self._acquire():
                try:
                    sending.write_on()
                finally:
                    sending.lock.release()
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
        return self._sending.lock.acquire(timeout=LOCK_S)

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
        kind = frame[0]
        if kind == REPLIES:
            self._hear_row(read_replies(self._hearing, frame, self._ledger.said))
            return
        if kind != _PART:
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

    def _expire(self) -> float | None:
        """Fail the calls whose time is up; return the milliseconds until the next one's is, None for never."""
        if not self._ledger.timed:
            return None
        if not self._acquire():
            return LOCK_S * 1000
        try:
            late, due = self._ledger.expire(time.monotonic())
        finally:
            self._sending.lock.release()
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

    def _hear_row(self, replies: list[list[Any]]) -> None:
        """Complete the calls of a row: first all that nobody watches, under one lock, then those that tell somebody."""
        watched = settle(self._ledger.waiting, replies)
        if watched:
            for future, value in watched:
                self._tell(future, value, None)

    def _tell(self, future: Numbered, value: Any, error: BaseException | None) -> None:
        self._telling = True
        try:
            future.complete(value, error)
        finally:
            self._telling = False
