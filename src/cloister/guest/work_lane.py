"""The lane of a pool's worker, served: one piece of work after the other, in their order, on one thread.

The host sends work ahead of time, so that a worker has the next piece when it is done with one. Three promises make
that harmless, whatever a piece of work does to this process:

1. A piece of work begins when the one before it is over, and its answer has left this process: nothing that was done is
   lost when the next one is the end of all.
2. The number of the call that begins, and of the item in it, is noted in the page that both sides share, where it
   outlives any death (`cloister.guest.tasks` does so). What is not noted has not begun.
3. What has not begun can be taken back, while another piece runs: it is given back at once, with a PART of nil and an
   empty answer, and never begins.

Every call is answered exactly once. The arguments of a call are decoded when it is its turn. One thread reads and runs;
`interrupt` and `recall` belong to the control thread, `tell_part` to whoever runs the work. The host's end is a
`cloister.lanes.shared_lane`; calls that may run beside each other are served by `cloister.guest.shared`.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from cloister.errors import CallCancelled, ProtocolError
from cloister.guest.answers import Answers
from cloister.guest.coroutines import Started, is_coroutine
from cloister.guest.interrupts import Interrupted, Running
from cloister.lanes.call_frames import Call, Unreadable, part_frame, read_call, reply_frame
from cloister.lanes.frame_lane import READ_BYTES
from cloister.lanes.outgoing import Outgoing
from cloister.lanes.rows import CALLS, read_calls
from cloister.wire.frames import FrameDecoder
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from cloister.guest.host import HostPeer
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.frames import Frame

__all__ = ["WorkServing"]


class WorkServing:
    """The lane of one worker, and the thread that serves it."""

    def __init__(self, peer: HostPeer, number: int, end: LaneEnd) -> None:
        """Take over the descriptors of `end`."""
        self._peer, self._lane, self._end = peer, number, end
        self._hearing, *codecs = peer.shared_codecs()
        self._giving_back = peer.shared_codecs()[1]
        """That of the control thread."""
        self._decoder = FrameDecoder()
        self._calls: deque[Frame | Call] = deque()
        """What was read: a row is decoded as it comes, nothing in it can do harm; anything else when it is its turn."""
        self._out = Outgoing(end.writer, self._flush_beside)
        self._answers = Answers(peer, self._out, (codecs[0], codecs[1]))
        self._gives = threading.Lock()
        """Held while the control thread gives something back: it may be about to write what this thread has put."""
        self._flushing = False
        self._state = threading.Lock()
        """Guards the next two; held for a few steps, in which nothing is made."""
        self._reached = 0
        """The last call that has begun, or was passed over."""
        self._unwanted: set[int] = set()
        """Calls that were given back before they were reached."""
        self._running: Running | None = None
        """What the thread runs; None before it has begun."""
        self._current = 0
        """The call that has begun and is not over."""
        self._coroutine: tuple[int, Started] | None = None
        """The call that runs as a task while the thread waits for it."""
        self._told = 0
        """The call that was told to stop last."""
        peer.calls.shared[number] = self  # not in `serve`: a cancel may come before its thread does

    def serve(self) -> None:
        """Serve until the host closes the lane, or breaks the rules: that is reported as an event."""
        me = self._running = Running(self._lane)
        try:
            while self._read():
                while self._calls:
                    self._run(self._next(), me)
        except Interrupted:
            pass  # it came too late for its call, in the middle of our own work: the lane is lost
        except Exception as error:
            self._peer.report(f"lane {self._lane} of a pool", error)
        finally:
            self._out.close()
            self._peer.calls.shared.pop(self._lane, None)
            self._end.close()

    # -- the control thread --------------------------------------------------------------------------------------------

    def interrupt(self, number: int, patient: bool = False) -> bool:
        """Stop a call, or give it back where it has not begun; see `Running.interrupt`."""
        if self._take_out(number):
            return False
        self._told = number  # before the look: who makes a task of the call looks at this after that
        coroutine, running = self._coroutine, self._running
        if coroutine is not None and coroutine[0] == number:
            coroutine[1].cancel()
            return False
        return running is not None and running.interrupt(number, patient)

    def recall(self, numbers: Iterable[int]) -> None:
        """Give back those of these calls that have not begun."""
        for number in numbers:
            self._take_out(number)

    def runs(self, number: int) -> bool:
        """Whether a call has begun, and is not over."""
        return number in self.running

    @property
    def running(self) -> list[int]:
        """The number of the call that runs, if one does."""
        number = self._current
        return [number] if number else []

    def _take_out(self, number: int) -> bool:
        """Give a call back; False where it has begun, or was given back before."""
        with self._state:
            if number <= self._reached or number in self._unwanted:
                return False
            self._unwanted.add(number)
        codec = self._giving_back
        with self._gives:
            self._out.put(part_frame(codec, number, None) + reply_frame(codec, number, None))
        return True

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Read once; False at the end."""
        try:
            data = os.read(self._end.reader, READ_BYTES)
        except OSError:
            return False
        self._decoder.feed(data)
        while (frame := self._decoder.next_frame()) is not None:
            if frame[0] == CALLS:
                self._calls.extend(read_calls(self._hearing, frame, self._reached + len(self._calls) + 1))
            elif frame[0] == Kind.CALL:
                self._calls.append(frame)
            else:
                raise ProtocolError(f"a frame of kind {frame.kind} has no place on the lane of a pool")
        return bool(data)

    def _next(self) -> Call | Unreadable:
        """The next call, also where it was given back: it may describe a type."""
        call = self._calls.popleft()
        return call if type(call) is Call else read_call(self._hearing, call, self._reached + 1)

    def _run(self, call: Call | Unreadable, me: Running) -> None:
        number = call.number
        error: BaseException | None = None
        value: Any = None
        copy = False
        try:
            if not self._begin(number, me if type(call) is Call else None):
                return
            if type(call) is Call:
                copy, context = call.copy, contextvars.copy_context()
                value = self._peer.serve_shared(me, call, context)
                if is_coroutine(value):
                    value, error = self._wait_for(call, value, context)
            else:
                error = call.error
        except Interrupted:
            error = CallCancelled("the task was cancelled")
        except BaseException as raised:
            error = raised
        me.number = self._current = 0
        self._answer(number, value, error, copy)

    def _begin(self, number: int, me: Running | None) -> bool:
        """Let a call be over, or run on the thread of `me` from now on. False where it was given back."""
        with self._state:
            self._reached = number
            if number in self._unwanted:
                self._unwanted.discard(number)
                return False
            if me is not None:
                me.number = self._current = number  # from here on it may be interrupted
        return True

    def _wait_for(
        self, call: Call, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> tuple[Any, BaseException | None]:
        """Let the loop run what a call has returned, and wait until it is over, also where it was told to stop."""
        over = threading.Lock()
        over.acquire()
        outcome: list[tuple[Any, BaseException | None]] = []

        def done(value: Any, error: BaseException | None) -> None:
            outcome.append((value, error))
            over.release()

        started = self._peer.coroutines.start(coroutine, context, call.name, done)
        self._coroutine = call.number, started
        if self._told == call.number:
            started.cancel()
        over.acquire()
        self._coroutine = None
        return outcome.pop()

    def tell_part(self, number: int, value: Any, last: bool = False) -> None:
        """Tell something of the call that runs, before its answer; it has left this process when this returns.

        On the loop's thread it leaves when the pipe has room. With `last` it leaves with the answer, which comes next.
        Raises MarshalError where it can't travel.
        """
        self._answers.part(number, value, last)

    def _answer(self, number: int, value: Any, error: BaseException | None, copy: bool = False) -> None:
        """Answer a call, and wait until the pipe has taken it."""
        self._answers.answer(number, value, error, copy)
        with self._gives:
            pass
        if self._out.unsent or self._out.holds:
            self._out.flush()

    def _flush_beside(self) -> None:
        """The pipe is full. Where the thread of this lane is in the middle of work, somebody else has to wait."""
        running = self._running
        if running is None or running.thread == threading.get_ident() or self._flushing:
            return
        self._flushing = True
        try:
            self._peer.threads.start(self._flush, f"cloister-lane-{self._lane}-rest")
        except RuntimeError:  # no thread is left: it goes out before the next answer of this lane
            self._flushing = False

    def _flush(self) -> None:
        self._out.flush()
        self._flushing = False
        self._out.push()
