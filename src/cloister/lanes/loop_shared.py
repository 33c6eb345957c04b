"""A shared lane for an event loop: many calls at once, told apart by number, without a thread.

Here is the caller's end for asyncio and uvloop: the loop watches the two descriptors, and the calls are asyncio
futures. All of it belongs to the loop's thread, but for `stop_from_afar`, `disown` and what says that it does not. The
bookkeeping is in `ledger`; the caller's end for threads is `shared_lane`.

**Writing.** A call that finds no other one open is written at once: somebody waits for it, and nothing is there to be
sent with it. All others are collected and written together at the end of this turn of the loop.

**What waits.** At most `MAX_QUEUED_BYTES` of encoded calls wait for a peer that does not read. Later calls, and all
calls before `open`, wait as they are: their arguments are encoded when there is room. Whoever produces calls without
end awaits `room` in between.

**Giving up.** A future that is cancelled, by its task or by hand, is over at once; the peer is told to stop the call,
and its late answer is dropped. The same happens at the call's deadline. A call that was not sent yet never is.

**The end.** When the peer is gone or breaks the rules, `over` is told why, once, and later says with `fail` what the
open calls raise. A loop that is closed properly (`asyncio.run` does) closes its lanes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister import calling
from cloister.errors import CallCancelled, CallTimeout, MarshalError, ProtocolError
from cloister.lanes.frame_lane import READ_BYTES, LaneClosed
from cloister.lanes.ledger import Ledger
from cloister.wire import frames
from cloister.wire.frames import Buffer, FrameDecoder
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.values import Codec

__all__ = ["LoopCall", "LoopShared"]

_PART: Final = int(Kind.PART)

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""What may wait for a peer that does not read; then calls wait unencoded, and `room` waits."""
WRITE_BYTES: Final = 64 * 1024
"""What one write offers to the pipe, whose size it is at most."""
LAST_READS: Final = 64
"""What is read after the end; a pipe holds no more, but a peer that lives might write on."""


class LoopCall(asyncio.Future[Any]):
    """The future of a call on a shared lane of a loop. Cancelling it tells the peer to stop the call."""

    owner: LoopShared
    name = ""
    lane = -1
    number = 0
    """0 until it is sent; `lane` is the number of the lane then."""
    kill_after: float | None = None
    """Seconds after which the domain is ended where the call was given up and has not stopped; None for never."""
    strand = 0
    """Which strand it is; see `calling`. 0 where that was not said."""
    context: contextvars.Context
    """The context of its caller; call-backs that belong to it run in copies."""
    on_part: Callable[[Any], object] | None = None
    """Takes what the call tells before its answer; a ProtocolError of it ends the lane."""
    given_up: Callable[[], None] | None = None
    """Called when the call is cancelled or its time is up; for whoever serves call-backs of it."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the call up, whether it has begun or not; False where it is done."""
        if not super().cancel(msg):
            return False
        self.owner.give_up(self)
        return True


class LoopShared:
    """The caller's end of a shared lane, watched by an event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        codecs: tuple[Codec, Codec],
        rebuild: Callable[[Any], BaseException],
        interrupt: Callable[[LoopCall, Callable[[CallTimeout], None] | None], None],
        over: Callable[[BaseException], None],
    ) -> None:
        """Begin to take calls; they are sent from `open` on. Runs on the loop's thread, with the loop running.

        `codecs` are one for hearing and one for saying. `rebuild` turns a described exception into one; `interrupt`
        tells the peer to stop a call, and then says, once and on any thread, what its caller is to be told; `over` is
        told once why the lane has ended, a LaneClosed or a ProtocolError, and calls `fail` then or later.
        """
        self.loop = loop
        self._thread = threading.get_ident()
        self.number = -1
        """The lane's number; negative before `open`."""
        self._hearing, self._saying = codecs
        self._rebuild, self._interrupt, self._over = rebuild, interrupt, over
        self._end: LaneEnd | None = None
        self._decoder: FrameDecoder | None = None
        self._ledger: Ledger[LoopCall] = Ledger()
        self.strands: dict[int, LoopCall] = {}
        """The open calls by their strands."""
        self._unsent: deque[tuple[LoopCall, tuple[Any, ...], float | None]] = deque()
        """Calls that wait as they are: in the order in which they came."""
        self._queue: deque[Buffer] = deque()
        self._queued = 0
        self._flushing = False
        """A flush is scheduled, or the loop watches for room in the pipe."""
        self._blocked = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._rooms: list[asyncio.Future[None]] = []
        self._error: Callable[[], BaseException] | None = None
        self._ended = False
        self._keeper: AsyncGenerator[None, None] | None = self._close_with_loop()
        _step(self._keeper.__anext__())  # registers it with the loop, which finishes it before it is closed

    def open(self, end: LaneEnd, number: int) -> None:
        """Take over the descriptors, and send what waits."""
        if self._ended or self._end is not None:
            end.close()
            return
        self.number = number
        self._end = end
        self.loop.add_reader(end.reader, self._on_readable)
        if self._unsent:
            self._schedule()

    # -- calls -------------------------------------------------------------------------------------------------------

    def submit(
        self,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None = None,
        deadline: float | None = None,
        flags: int = 0,
    ) -> LoopCall:
        """Send a call; return its future. At its deadline, a time of `time.monotonic`, it fails with CallTimeout.

        Raises MarshalError, and LaneClosed or what `fail` was told after the end. Where the call has to wait before it
        is encoded, its MarshalError is the future's.
        """
        if self._ended:
            raise LaneClosed("the lane is closed") if self._error is None else self._error()
        future = LoopCall(loop=self.loop)
        future.owner, future.name, future.kill_after = self, name, calling.kill_after.get()
        future.context = contextvars.copy_context()
        if options is not None and "strand" in options:
            strand = future.strand = options["strand"]
            self.strands[strand] = future
        ledger = self._ledger
        if self._end is None or self._unsent or self._queued > MAX_QUEUED_BYTES:
            self._unsent.append((future, (target, name, args, kwargs, options, flags), deadline))
            if deadline is not None:
                self._wake_at(deadline)
            return future
        alone = not ledger.waiting
        number, data = ledger.encode(self._saying, target, name, args, kwargs, options, flags)
        self._enter(future, number, data, deadline)
        if alone and not self._flushing:
            self._write()
        elif not self._flushing:
            self._schedule()
        return future

    def give_up(self, call: LoopCall) -> None:
        """Wait for a call no more, and tell the peer. `LoopCall.cancel` does it; does nothing where it is over."""
        if call.number and self._ledger.waiting.pop(call.number, None) is not None:
            self._interrupt(call, None)
        self._leave(call)

    async def room(self) -> None:
        """Wait until calls are encoded and sent at once again. Returns at once where they are, and after the end."""
        while not self._ended and (self._unsent or self._queued > MAX_QUEUED_BYTES):
            waiter = self.loop.create_future()
            self._rooms.append(waiter)
            await waiter

    @property
    def waiting(self) -> list[str]:
        """The names of the calls that have no answer yet."""
        calls = [call.name for call in list(self._ledger.waiting.values())]
        return calls + [call.name for call, _, _ in list(self._unsent) if not call.done()]

    def _leave(self, call: LoopCall) -> None:
        """A call was given up, or nobody knows how it goes on: what serves it here is told."""
        self.strands.pop(call.strand, None)
        if call.given_up is not None:
            call.given_up()

    def _complete(self, call: LoopCall, value: Any, error: BaseException | None) -> None:
        self.strands.pop(call.strand, None)
        if call.done():
            return
        if error is None:
            call.set_result(value)
        elif isinstance(error, StopIteration):  # no future takes one
            call.set_exception(MarshalError("a StopIteration does not travel as an exception"))
        else:
            call.set_exception(error)

    def _enter(self, call: LoopCall, number: int, data: list[Buffer], deadline: float | None) -> None:
        """Note a call that is encoded, and queue its bytes."""
        piece = data[0] if len(data) == 1 else b"".join(data)  # buffers are the caller's, who may change them
        call.lane, call.number = self.number, number
        ledger = self._ledger
        # Nothing may come between these two lines: a finalizer that calls takes the number after this one.
        ledger.said = number
        self._queue.append(piece)
        ledger.waiting[number] = call
        self._queued += len(piece)
        if deadline is not None:
            ledger.until(number, deadline)
            self._wake_at(deadline)

    def _send_unsent(self) -> None:
        """Encode what waited for room."""
        while self._unsent and self._queued <= MAX_QUEUED_BYTES:
            call, (target, name, args, kwargs, options, flags), deadline = self._unsent.popleft()
            if call.done():
                continue
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._complete(call, None, CallTimeout(f"the time for {name}() was up before it was sent"))
                    continue
                if options and "left" in options:
                    options["left"] = int(left * 1e9)
            try:
                number, data = self._ledger.encode(self._saying, target, name, args, kwargs, options, flags)
            except Exception as error:
                self._complete(call, None, error)
                continue
            self._enter(call, number, data, deadline)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        self._flushing = True
        self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._end is None:
            return
        self._send_unsent()
        self._write()
        while self._unsent and not self._flushing and not self._ended:
            self._send_unsent()
            self._write()
        if self._rooms and not self._unsent and self._queued <= MAX_QUEUED_BYTES:
            self._wake_rooms()

    def _write(self) -> None:
        """Write what the pipe takes; where something is left, the loop watches for room."""
        end, queue = self._end, self._queue
        if end is None:
            return
        try:
            while queue:
                piece = queue.popleft()
                if len(queue) and len(piece) < WRITE_BYTES:
                    batch, size = [piece], len(piece)
                    while queue and size + len(queue[0]) <= WRITE_BYTES:
                        piece = queue.popleft()
                        batch.append(piece)
                        size += len(piece)
                    piece = b"".join(batch)
                try:
                    sent = os.write(end.writer, piece)
                except BlockingIOError:
                    sent = 0
                self._queued -= sent
                if sent < len(piece):
                    queue.appendleft(memoryview(piece)[sent:])
                    if not self._blocked:
                        self._blocked = self._flushing = True
                        self.loop.add_writer(end.writer, self._on_writable)
                    return
        except OSError:
            self._finish(LaneClosed("the peer is gone"))

    def _on_writable(self) -> None:
        if self._end is None:
            return
        self._blocked = self._flushing = False
        self.loop.remove_writer(self._end.writer)
        self._flush()

    def _wake_rooms(self) -> None:
        rooms, self._rooms = self._rooms, []
        for waiter in rooms:
            if not waiter.done():
                waiter.set_result(None)

    # -- in ----------------------------------------------------------------------------------------------------------

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
            while (frame := decoder.next_frame()) is not None:
                self._take(frame)
            if decoder.wanted == frames.HEADER_SIZE:  # nothing is left over
                self._decoder = None
        except (LaneClosed, ProtocolError) as error:
            self._finish(error)

    def _take(self, frame: frames.Frame) -> None:
        ledger = self._ledger
        if frame[0] == _PART:
            number, value = ledger.read_part(self._hearing, frame)
            call = ledger.waiting.get(number)
            if call is not None:
                if call.on_part is None:
                    raise ProtocolError(f"{call.name}() told something before its answer that nobody asked for")
                call.on_part(value)
            return
        number, value, error = ledger.read(self._hearing, frame, self._rebuild)
        call = ledger.waiting.pop(number, None)
        if call is not None:  # else its caller has given it up
            self._complete(call, value, error)

    # -- time --------------------------------------------------------------------------------------------------------

    def _wake_at(self, deadline: float) -> None:
        """Look for calls whose time is up at this time, unless that happens earlier anyway."""
        timer = self._timer
        if timer is not None:
            if self._timer_due <= deadline:
                return
            timer.cancel()
        self._timer_due = deadline
        self._timer = self.loop.call_later(max(0.0, deadline - time.monotonic()), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = time.monotonic()
        late, due = self._ledger.expire(now)
        for call in late:
            self._interrupt(call, partial(self._tell, call))
            self._leave(call)
        for call, _, deadline in self._unsent:
            if deadline is not None and not call.done():
                if deadline <= now:
                    self._complete(call, None, CallTimeout(f"the time for {call.name}() was up before it was sent"))
                else:
                    due = deadline if due is None else min(due, deadline)
        if due is not None:
            self._wake_at(due)

    def _tell(self, call: LoopCall, error: CallTimeout) -> None:
        """Tell the caller what became of its call. Any thread."""
        if threading.get_ident() == self._thread:
            self._complete(call, None, error)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
                self.loop.call_soon_threadsafe(self._complete, call, None, error)

    # -- the end -----------------------------------------------------------------------------------------------------

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Close the lane: every open call, and every later use, raises `error()`. Idempotent; the first error holds."""
        if self._error is None:
            self._error = error
            self._hear_the_last()
        self._close_here()
        waiting, self._ledger.waiting = list(self._ledger.waiting.values()), {}
        waiting += [call for call, _, _ in self._unsent]
        self._unsent.clear()
        for call in waiting:
            self._complete(call, None, self._error())
            self._leave(call)

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
        if end is not None:
            end.close()
        self._let_go()

    @property
    def ended(self) -> bool:
        """Whether it takes no calls any more."""
        return self._ended

    def _finish(self, cause: BaseException) -> None:
        """The peer has ended the lane. What waits goes on waiting until `fail` says what it raises."""
        if not self._ended:
            self._close_here()
            self._over(cause)

    def _close_here(self) -> None:
        self._ended = True
        end, self._end = self._end, None
        self._queue.clear()
        self._queued = 0
        self._wake_rooms()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if end is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(end.reader)
                if self._blocked:
                    self.loop.remove_writer(end.writer)
            end.close()
        self._let_go()

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        """Closes the lane when the loop shuts down its asynchronous generators, which it does before it is closed."""
        try:
            yield
        finally:
            self._keeper = None
            if not self._ended:
                self.fail(lambda: CallCancelled("the event loop of this call was closed; other loops go on"))

    def _let_go(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            _step(keeper.aclose())

    def __del__(self) -> None:
        """Close the descriptors of a lane whose loop has been thrown away."""
        end, self._end = getattr(self, "_end", None), None
        if end is not None and not sys.is_finalizing():
            end.close()


def _step(awaitable: Awaitable[None]) -> None:
    """Take a step that waits for nothing."""
    with contextlib.suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().__next__()
