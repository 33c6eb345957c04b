"""A shared lane, served: many calls at once, each on a thread or, as a coroutine, on the loop.

One thread reads the lane and does the calls itself, one after the other: a call is not handed from thread to thread,
which would take several times as long as most calls do. Who *stands by* looks after a millisecond whether the reader is
held up by a call; then another thread of a bounded pool reads on, and what waits is done by both. A call that waits for
the host lets another one read at once.

Whoever has run a call encodes its answer, see `answers`. What the pipe does not take is written by who stands
by, so nobody else ever waits for the pipe, and the thread of the loop can't be held up by a host that does not read.
Nothing is read while calls wait for a thread, `MAX_OPEN` coroutines run or `MAX_UNSENT` bytes are not written, so a
host that is too fast waits and this process does not grow. A cancelled call that has not begun is not begun; one that
runs is interrupted. The host's end is `cloister.lanes.shared_lane`.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections import deque
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import CallCancelled, ProtocolError
from cloister.guest.answers import Answers
from cloister.guest.coroutines import Started
from cloister.guest.interrupts import Interrupted, Running
from cloister.guest.lent import Lent
from cloister.guest.pool import Pool
from cloister.lanes.call_frames import Call, read_call
from cloister.lanes.frame_lane import READ_BYTES
from cloister.lanes.outgoing import Outgoing
from cloister.lanes.rows import CALLS, read_calls
from cloister.lanes.watch import Watch
from cloister.wire.frames import FrameDecoder
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloister.guest.host import HostPeer
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.frames import Frame

__all__ = ["SharedServing"]

MAX_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""Calls of one shared lane that run at the same time; as `concurrent.futures` chooses it. Those that wait for the host,
and those that were told to stop, do not count."""
LOOK_S: Final = 0.001
"""How long the reader may be held up by one call until another thread reads on."""
MOST_LOOK_S: Final = 0.004
"""How seldom is looked where calls are brisk."""
IN_VAIN_LOOK_S: Final = 0.016
"""How seldom is looked where nobody can read on, because each thread is in a call."""
BRISK: Final = 4
"""Calls that begin between two looks where another thread would only be in the way."""
MOST_KNOWN: Final = 1000
"""Names of code that are noted."""

_CALL: Final = int(Kind.CALL)


def _code_of(call: Call) -> str | None:
    """What a call runs, as far as its name tells; None where that does not."""
    if call[1]:
        return call[2]
    args = call[3]  # of the service: what is to be called comes first
    plain = args[0] if args else None
    return plain[1] if type(plain) is list and len(plain) == 2 and type(plain[1]) is str else None


class SharedServing:
    """One shared lane, and what runs for it."""

    def __init__(self, peer: HostPeer, number: int, end: LaneEnd) -> None:
        """Take over the descriptors of `end`. Raises OSError where none are left."""
        self._peer, self._lane, self._end = peer, number, end
        self._hearing, saying, copying = peer.shared_codecs()
        self._decoder = FrameDecoder()
        self._heard = 0
        """The number of the last call that was read."""
        self._calls: deque[Call] = deque()
        self._waiting: set[int] = set()
        """The numbers of those that were read and have not begun. Who takes one out decides whether it begins."""
        self._unwanted: set[int] = set()
        """Those that were given up before they were read."""
        self._running: dict[int, Lent | Started] = {}
        self._told: set[int] = set()
        """Calls that run and were told to stop."""
        self._watch = Watch(end)
        self._out = Outgoing(end.writer, self._watch.ask)
        self._answers = Answers(peer, self._out, (saying, copying))
        self._pool = Pool(MAX_THREADS + 1, f"cloister-shared-{number}", peer.threads)
        self._state = threading.Lock()
        """Guards the next two, and the end."""
        self._reader: Running | None = None
        """What the thread runs that reads; None while it is held up and another one is on its way."""
        self._reading = False
        """The reader reads, or waits until it may."""
        self._begun = 0
        """About how many calls have begun; two threads may count as one."""
        self._asleep = False
        """Who stands by waits without looking, and is to be woken by who begins a call."""
        self._known: set[str] = set()
        """What has run here before while answers were held; see `_code_of`."""
        self._slow: set[str] = set()
        """What has held up the reader before; it is not among the known."""
        self._ended = self._left = False
        peer.calls.shared[number] = self  # not in `serve`: a cancel may come before its thread does

    def serve(self) -> None:
        """Serve until the host closes the lane, or breaks the rules: that is reported as an event."""
        self._pool.run(self._read_on)
        try:
            self._stand_by()
        finally:
            self._leave()

    def interrupt(self, number: int, patient: bool = False) -> bool:
        """Stop a call, or see to it that it does not begin. Called by the control thread; see `Running.interrupt`."""
        if number > self._heard:
            self._unwanted.add(number)  # the control channel was faster than the lane
            if number > self._heard:
                return False
            self._unwanted.discard(number)
        try:
            self._waiting.remove(number)
        except KeyError:  # it has begun
            self._told.add(number)  # before the look: who makes a task of the call looks at this after that
            running, again = self._running.get(number), False
            if type(running) is Started:
                running.cancel()
            elif isinstance(running, Lent):
                running.lose(number)
                again = running.interrupt(number, patient)
            if number not in self._running:
                self._told.discard(number)  # it was over before, or meanwhile
            return again
        return False

    def recall(self, numbers: Iterable[int]) -> None:
        """Nothing is given back: here calls wait for nobody who runs long."""

    def runs(self, number: int) -> bool:
        """Whether a call has begun, and is not over."""
        return number in self._running

    @property
    def running(self) -> list[int]:
        """The numbers of the calls that run."""
        return list(self._running)

    # -- who stands by -----------------------------------------------------------------------------------------------

    def _stand_by(self) -> None:
        """Write what the pipe did not take, and let another thread read where the reader is held up."""
        seen, looked, patience = 0, time.monotonic(), LOOK_S
        idle = False
        while True:
            if idle:
                self._asleep = True
                idle = self._begun == seen  # whoever begins a call counts it first, and then looks for who sleeps
            room = self._watch.wait(None if idle else patience)
            self._asleep = False
            if self._ended or (room is not None and room.gone):
                return
            self._out.push()
            now = time.monotonic()
            if idle:
                looked, patience, idle = now, LOOK_S, False
            elif now - looked >= patience:
                begun = self._begun
                if begun - seen >= BRISK:
                    patience = min(2 * patience, MOST_LOOK_S)
                elif self._reading:
                    patience, idle = LOOK_S, begun == seen
                else:
                    self._note_slow()
                    patience = LOOK_S if self._relieve() else min(2 * patience, IN_VAIN_LOOK_S)
                looked, seen = now, begun

    def _note_slow(self) -> None:
        """The reader is held up: answers are not to wait for what it runs, the next time."""
        reader = self._reader
        call = reader.call if isinstance(reader, Lent) else None
        code = None if call is None else _code_of(call)
        if code is not None and len(self._slow) < MOST_KNOWN:
            self._slow.add(code)
            self._known.discard(code)

    def _relieve(self) -> bool:
        """Let another thread read on, unless the reader does. False where nobody was held up."""
        with self._state:
            held_up = self._reader is not None and not self._reading
            if held_up:
                self._reader = None
        if held_up or (self._reader is None and not self._pool.has_jobs):
            self._pool.run(self._read_on)  # one reader too many finds nothing to do
        else:
            self._pool.help()
        return held_up

    def pass_on(self, running: Running) -> None:
        """A call waits for the host, on the thread of `running`: let another one read."""
        if self._reader is running:
            self._relieve()

    # -- the reader, and who does calls beside it --------------------------------------------------------------------

    def _read_on(self) -> None:
        """Do the calls that wait, and read more, until another thread does that."""
        me = Lent(self._lane, self._pool, self)
        calls = self._calls
        try:
            while self._claim(me):
                while calls:
                    try:
                        call = calls.popleft()
                    except IndexError:
                        break
                    self._run(call, me)
                    del call
                self._out.push()
                if not self._may_read(me):
                    break
                if not self._read():
                    self._end_here()
        except Exception as error:
            self._end_here()
            self._peer.report(f"shared lane {self._lane}", error)
        except BaseException:
            self._end_here()
            raise

    def _claim(self, me: Running) -> bool:
        """Be the reader where there is none. False where there is nothing to do for this thread."""
        reader = self._reader
        if reader is None:
            with self._state:
                if self._reader is None:
                    self._reader = me
        elif reader is not me:
            return bool(self._calls) and not self._ended
        return not self._ended

    def _may_read(self, me: Running) -> bool:
        """Whether this thread is the one to read; it does so at once, when there is room for what follows."""
        with self._state:
            if self._ended or self._reader is not me:
                return False
            self._reading = True
        if self._out.full:
            self._out.wait_for_room()
        if self._peer.coroutines.full:
            self._peer.coroutines.wait_for_room()
        return True

    def _read(self) -> bool:
        """Read once, and take the calls in. False at the end."""
        try:
            data = os.read(self._end.reader, READ_BYTES)
            if data:
                frame = self._decoder.take(data)
                while frame is not None:
                    self._take(frame)
                    frame = self._decoder.next_frame()
        except OSError:
            data = b""
        finally:
            with self._state:
                self._reading = False
                close = self._left
            if close:
                self._end.close()
        return bool(data)

    def _take(self, frame: Frame) -> None:
        if frame[0] == CALLS:
            self._take_row(read_calls(self._hearing, frame, self._heard + 1))
            return
        if frame[0] != _CALL:
            raise ProtocolError(f"a frame of kind {frame.kind} has no place on a shared lane")
        number = self._heard + 1
        heard = read_call(self._hearing, frame, number)
        self._waiting.add(number)
        self._heard = number
        if number in self._unwanted:
            self._unwanted.discard(number)
            self._waiting.discard(number)
        elif type(heard) is Call:
            self._calls.append(heard)
        else:
            self._waiting.discard(number)
            self._answers.answer(number, None, heard.error)

    def _take_row(self, calls: list[Call]) -> None:
        before, last = self._heard, calls[-1][0]
        self._waiting.update(range(before + 1, last + 1))
        self._heard = last
        if self._unwanted:  # `_run` finds them not to be waiting
            for number in range(before + 1, last + 1):  # the control thread adds to it: it is never gone through
                if number in self._unwanted:
                    self._unwanted.discard(number)
                    self._waiting.discard(number)
        self._calls.extend(calls)

    def _run(self, call: Call, me: Lent) -> None:
        number = call[0]
        self._begun += 1
        if self._asleep:
            self._asleep = False
            self._watch.ask()
        error: BaseException | None = None
        value: Any = None
        try:
            me.number = number
            self._running[number] = me
            try:
                self._waiting.remove(number)  # from here on it may be interrupted
            except KeyError:  # nobody waits for its answer any more
                del self._running[number]
                me.number = 0
                return
            me.call = call
            if self._out.has_some and (code := _code_of(call)) not in self._known:
                # It may be what ends this process, or takes long: what was answered before leaves first.
                self._out.hand_on()
                if len(self._known) < MOST_KNOWN and code is not None and code not in self._slow:
                    self._known.add(code)
            context = copy_context()
            value = self._peer.serve_shared(me, call, context)
            if type(value) is CoroutineType:
                me.call = None
                self._hand_over(call, value, context)
                me.find()
                return
        except Interrupted:
            error = CallCancelled(f"{call.name}() was cancelled")
        except BaseException as raised:
            error = raised
        me.call = None  # what it holds would live on
        self._over(number)
        if self._out.full:
            self._out.wait_for_room()
        if not self._ended:
            self._answers.answer(number, value, error, call[6], bool(self._calls))

    def _hand_over(self, call: Call, coroutine: Any, context: contextvars.Context) -> None:
        """Let the loop run what the call has returned; this thread is free again."""
        number = call.number

        over: list[bool] = []

        def done(value: Any, error: BaseException | None) -> None:
            over.append(True)
            self._over(number)
            if not self._ended:
                self._answers.answer(number, value, error, call.copy)

        started = self._peer.coroutines.start(coroutine, context, call.name, done)
        if number in self._running:
            self._running[number] = started
        if over:
            self._over(number)  # the loop was so fast that it came between the look and the change
        elif number in self._told:
            started.cancel()

    # -- whoever has run a call --------------------------------------------------------------------------------------

    def _over(self, number: int) -> None:
        running = self._running.pop(number, None)
        if self._told:  # else nobody has told it to stop, and from here on nobody does
            self._told.discard(number)
            if type(running) is Lent:
                running.find()
        if self._ended:
            self._forget()

    def tell_part(self, number: int, value: Any, last: bool = False) -> None:
        """Tell something of a call that runs, before its answer; see `Answers.part`."""
        self._answers.part(number, value, last)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end_here(self) -> None:
        """Let who stands by end."""
        self._ended = True
        self._watch.ask()

    def _leave(self) -> None:
        """Who stands by ends: what runs is ended, and the lane closed."""
        with self._state:
            self._ended = self._left = True
            close = not self._reading
        self._calls.clear()
        self._waiting.clear()
        self._pool.close()
        for number in list(self._running):
            self.interrupt(number, patient=True)  # nobody waits for its answer
        self._forget()
        self._out.close()
        self._watch.close()
        if close:
            self._end.close()

    def _forget(self) -> None:
        """Let nobody look for calls here any more, once the lane has ended and none runs."""
        if self._ended and not self._running and self._peer.calls.shared.get(self._lane) is self:
            self._peer.calls.shared.pop(self._lane, None)
