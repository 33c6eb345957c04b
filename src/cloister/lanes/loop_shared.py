"""A shared lane for an event loop: many calls at once, told apart by number, without a thread.

Here is the caller's end for asyncio and uvloop: the loop watches the two descriptors, and the calls are asyncio
futures. All of it belongs to the loop's thread, but for `stop_from_afar`, `disown` and what says that it does not. The
bookkeeping is in `ledger`; the caller's end for threads is `shared_lane`.

**Writing.** A call that finds no other one open is written at once: somebody waits for it, and nothing is there to be
sent with it. All others are collected, and written together at the end of this turn of the loop, or when they are
enough for one frame: so the peer begins while the rest is encoded.

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
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from cloister import calling
from cloister.errors import CallTimeout, MarshalError, ProtocolError
from cloister.lanes.frame_lane import LaneClosed
from cloister.lanes.ledger import Ledger
from cloister.lanes.loop_end import LoopEnd
from cloister.lanes.rows import REPLIES, ROW_BYTES, calls_frame, framed, read_replies
from cloister.wire import frames
from cloister.wire.frames import HEADER_SIZE, SHORT_BYTES, Buffer
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.values import Codec

__all__ = ["LoopCall", "LoopShared"]

_PART: Final = int(Kind.PART)
_CALL_HEADS: Final = frames.short_heads(int(Kind.CALL))

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""What may wait for a peer that does not read; then calls wait unencoded, and `room` waits."""
WRITE_BYTES: Final = 64 * 1024
"""What one write offers to the pipe, whose size it is at most."""
LAST_READS: Final = 64
"""What is read after the end; a pipe holds no more, but a peer that lives might write on."""
LEFT_STRANDS: Final = 1024
"""How many calls that were given up are remembered, for what the peer asks before it hears of that."""


class Caller(Protocol):
    """Who has made a call."""

    def give_up(self, call: LoopCall) -> None:
        """Tell the peer that nobody waits for a call any more."""


class LoopCall(asyncio.Future[Any]):
    """The future of a call on a shared lane of a loop. Cancelling it tells the peer to stop the call."""

    owner: Caller
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
    served: set[asyncio.Task[Any]] | None = None
    """What runs here for the peer because of this call; cancelled where the call is given up."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the call up, whether it has begun or not; False where it is done."""
        if not super().cancel(msg):
            return False
        self.owner.give_up(self)
        return True

    def stop_served(self) -> None:
        """The call was given up, or the peer is gone: what runs here for it is for nobody."""
        # Not at once: what is cancelled may wait for calls that others are served for, and so on, however deep.
        for task in list(self.served or ()):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                task.get_loop().call_soon(task.cancel)

    def complete(self, value: Any, error: BaseException | None) -> None:
        """Set the result or the exception; does nothing where the call is done."""
        if self.done():
            return
        if error is None:
            self.set_result(value)
        elif isinstance(error, StopIteration):  # no future takes one
            self.set_exception(MarshalError("a StopIteration does not travel as an exception"))
        else:
            self.set_exception(error)


class LoopShared(LoopEnd):
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
        super().__init__(loop)
        self._thread = threading.get_ident()
        self._hearing, self._saying = codecs
        self._rebuild, self._interrupt, self._tell_over = rebuild, interrupt, over
        self._ledger: Ledger[LoopCall] = Ledger()
        self.strands: dict[int, LoopCall] = {}
        """The open calls by their strands."""
        self.left: deque[int] = deque(maxlen=LEFT_STRANDS)
        """The strands of the calls that were given up last: what the peer still asks for them is for nobody."""
        self._unsent: deque[tuple[LoopCall, tuple[Any, ...], float | None]] = deque()
        """Calls that wait as they are: in the order in which they came."""
        self._row: list[bytes | list[Buffer]] = []
        """Calls that were not framed yet, in their order: a short one as its message alone, any other as its frame."""
        self._row_bytes = 0
        self._framing = False
        self._scheduled = False
        """A flush comes at the end of this turn of the loop."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._rooms: list[asyncio.Future[None]] = []

    def open(self, end: LaneEnd, number: int) -> None:
        """Take over the descriptors, and send what waits."""
        if self.attach(end, number) and self._unsent:
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
        kind: type[LoopCall] = LoopCall,
    ) -> LoopCall:
        """Send a call; return its future. At its deadline, a time of `time.monotonic`, it fails with CallTimeout.

        Raises MarshalError, and LaneClosed or what `fail` was told after the end. Where the call has to wait before it
        is encoded, its MarshalError is the future's.
        """
        if self._ended:
            raise self._refusal()
        future = kind(loop=self.loop)
        future.owner, future.name, future.kill_after = self, name, calling.kill_after.get()
        future.context = contextvars.copy_context()
        if options is not None and "strand" in options:
            future.strand = options["strand"]
        ledger = self._ledger
        if self._end is None or self._unsent or self._queued > MAX_QUEUED_BYTES:
            self._open_strand(future)
            self._unsent.append((future, (target, name, args, kwargs, options, flags), deadline))
            if deadline is not None:
                self._wake_at(deadline)
            return future
        if deadline is not None and deadline <= time.monotonic():  # else a quick answer might come before the timer
            self._complete(future, None, CallTimeout(f"the time for {name}() was up before it was sent"))
            return future
        alone = not ledger.waiting and not self._scheduled
        while True:
            number, data = ledger.encode(self._saying, target, name, args, kwargs, options, flags)
            if type(data) is not bytes or deadline is not None:
                if self._enter(future, number, data, deadline):
                    break
                continue
            # The same for nearly every call, with less on the way.
            size = len(data)
            frame = _CALL_HEADS[size] + data if alone and size < SHORT_BYTES and not self._row else None
            # Nothing may come between these lines, as in `_enter`.
            if self._ended:
                raise self._refusal()
            if ledger.said >= number:
                continue
            future.lane, future.number = self.number, number
            ledger.said = number
            ledger.waiting[number] = future
            if future.strand:
                self.strands[future.strand] = future
            if frame is not None and not self._queue:
                self._queued += HEADER_SIZE + size
                self._queue.append(frame)
                self._write()
                return future
            self._row_bytes += size
            self._queued += size
            self._row.append(data)
            break
        if not self._blocked:
            if alone or self._row_bytes >= ROW_BYTES:
                self._frame_row()
                self._write()
            elif not self._scheduled:
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

    def _open_strand(self, call: LoopCall) -> None:
        if call.strand:
            self.strands[call.strand] = call

    def _leave(self, call: LoopCall) -> None:
        """A call was given up, or nobody knows how it goes on: what serves it here is told."""
        if self.strands.pop(call.strand, None) is not None:
            self.left.append(call.strand)
        call.stop_served()

    def _complete(self, call: LoopCall, value: Any, error: BaseException | None) -> None:
        self.strands.pop(call.strand, None)
        call.complete(value, error)

    def _refusal(self) -> BaseException:
        return LaneClosed("the lane is closed") if self._error is None else self._error()

    def _enter(self, call: LoopCall, number: int, data: bytes | list[Buffer], deadline: float | None) -> bool:
        """Note a call that is encoded, and collect its bytes; False where it is to be encoded again.

        Raises as `submit` after the end.
        """
        if not isinstance(data, bytes):  # buffers are the caller's, who may change them
            data = data if len(data) == 1 else [b"".join(data)]
        ledger = self._ledger
        size = len(data) if isinstance(data, bytes) else len(data[0])
        # Nothing may come between these lines, neither Ctrl-C, as no call is before the last one, nor a finalizer that
        # calls. One that came before has taken the number, or ended the lane.
        if self._ended:
            raise self._refusal()
        if ledger.said >= number:
            return False
        call.lane, call.number = self.number, number
        ledger.said = number
        ledger.waiting[number] = call
        if call.strand:
            self.strands[call.strand] = call
        self._row_bytes += size
        self._queued += size
        self._row.append(data)
        if deadline is not None:
            ledger.until(number, deadline)
            self._wake_at(deadline)
        return True

    def _send_unsent(self) -> None:
        """Encode what waited for room."""
        while self._unsent and self._queued <= MAX_QUEUED_BYTES:
            self._send_first(*self._unsent[0])
            if self._unsent:  # else the lane has ended meanwhile
                del self._unsent[0]  # not before, for Ctrl-C, and so that what its arguments submit comes after it

    def _send_first(self, call: LoopCall, arguments: tuple[Any, ...], deadline: float | None) -> None:
        target, name, args, kwargs, options, flags = arguments
        while not (call.done() or call.number):
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._complete(call, None, CallTimeout(f"the time for {name}() was up before it was sent"))
                    return
                if options and "left" in options:
                    options["left"] = int(left * 1e9)
            try:
                number, data = self._ledger.encode(self._saying, target, name, args, kwargs, options, flags)
                if call.done():
                    return  # what its arguments ran has cancelled it
                if self._enter(call, number, data, deadline):
                    return
            except Exception as error:
                self._complete(call, None, error)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _frame_row(self) -> None:
        """Queue what was collected, short calls in common frames."""
        if self._framing:
            return  # whoever does takes it along: this is a finalizer in the middle of that
        self._framing = True
        try:
            while size := self._row_bytes:  # what a finalizer adds after this look is settled in the next round
                row = self._row[:]
                new = [frame if isinstance(frame, bytes) else frame[0] for _, frame in framed(row, calls_frame)]
                count, more = len(row), sum(map(len, new)) - size
                # No call in these lines: Ctrl-C comes before all of them, or after.
                if self._ended:
                    return
                self._queue += new
                del self._row[:count]
                self._row_bytes -= size
                self._queued += more
        finally:
            self._framing = False

    def _schedule(self) -> None:
        self._scheduled = True
        try:
            self.loop.call_soon(self._flush)
        except BaseException:  # Ctrl-C: else nobody would schedule it again
            self._scheduled = False
            raise

    def _flush(self) -> None:
        self._scheduled = False
        if self._end is None:
            return
        try:
            while True:
                self._send_unsent()
                self._frame_row()
                self._write()
                if not self._unsent or self._blocked or self._ended:
                    break
        except BaseException:  # Ctrl-C, as above
            self._await_room()
            raise
        if self._rooms and not self._unsent and self._queued <= MAX_QUEUED_BYTES:
            self._wake_rooms()

    def _on_room(self) -> None:
        self._flush()

    def _wake_rooms(self) -> None:
        rooms, self._rooms = self._rooms, []
        for waiter in rooms:
            if not waiter.done():
                waiter.set_result(None)

    # -- in ----------------------------------------------------------------------------------------------------------

    def _take(self, frame: frames.Frame) -> None:
        ledger = self._ledger
        if frame[0] == REPLIES:
            self._take_row(read_replies(self._hearing, frame, ledger.said))
            return
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
        if call is None:
            return  # its caller has given it up
        if error is not None:
            self._complete(call, value, error)
            return
        self.strands.pop(call.strand, None)
        if not call.done():
            call.set_result(value)

    def _take_row(self, replies: list[list[Any]]) -> None:
        take, forget = self._ledger.waiting.pop, self.strands.pop
        for number, value in replies:
            call = take(number, None)
            if call is not None:  # else its caller has given it up
                forget(call.strand, None)
                if not call.done():
                    call.set_result(value)

    # -- time --------------------------------------------------------------------------------------------------------

    def _wake_at(self, deadline: float) -> None:
        """Look for calls whose time is up at this time, unless that happens earlier anyway."""
        before = self._timer
        if before is not None and self._timer_due <= deadline:
            return
        timer = self.loop.call_later(max(0.0, deadline - time.monotonic()), self._on_time)
        self._timer, self._timer_due = timer, deadline
        if before is not None:
            before.cancel()

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
        self._row.clear()
        self._forget_waits()
        waiting, self._ledger.waiting = list(self._ledger.waiting.values()), {}
        waiting += [call for call, _, _ in self._unsent]
        self._unsent.clear()
        for call in waiting:
            self._complete(call, None, self._error())
            self._leave(call)

    def _over(self, cause: BaseException) -> None:
        self._forget_waits()
        self._tell_over(cause)

    def _forget_waits(self) -> None:
        self._wake_rooms()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
