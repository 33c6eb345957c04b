"""A shared lane, served: many calls at once, each on a thread or, as a coroutine, on the loop.

Two threads take turns at the lane. Whoever has read calls lets the other one listen, and does them himself, one after
the other: a call is not handed from thread to thread, which would take several times as long as most calls do. Where
calls wait and none is taken for long, those that run wait for something or take long; then who listens calls threads of
a bounded pool to help.

Whoever has run a call encodes its answer and writes it. What the pipe does not take at once is written by who listens,
so nobody else ever waits for the pipe, and the thread of the loop can't be held up by a host that does not read.
Reading stops while `MAX_WAITING` calls wait for a thread, `MAX_OPEN` coroutines run or `MAX_UNSENT` bytes are not
written, so a host that is too fast waits and this process does not grow. A cancelled call that has not begun is not
begun; one that runs is interrupted. The host's end is `cloister.lanes.shared_lane`.

Encoding may run code of the user's, which may call the host and take long, so it holds no lock: each answer is encoded
with a codec that nobody else has at that moment. A type is described once by each codec, and a codec is given back only
when its frame has its place in the row; so no frame relies on a description that comes after it.
"""

from __future__ import annotations

import contextvars
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import CallCancelled, ProtocolError
from cloister.guest import pool
from cloister.guest.coroutines import Started, is_coroutine
from cloister.guest.interrupts import Interrupted, Running, StopRequested
from cloister.lanes.conversation import Call, answer_frame, part_frame, read_call
from cloister.lanes.frame_lane import READ_BYTES
from cloister.lanes.outgoing import Outgoing
from cloister.lanes.watch import Ready, Watch
from cloister.wire.frames import FrameDecoder
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.guest.host import HostPeer
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.frames import Frame
    from cloister.wire.values import Codec

__all__ = ["SharedServing"]

MAX_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""Calls of one shared lane that run at the same time; as `concurrent.futures` chooses it. Those that wait for the host
do not count."""
MAX_WAITING: Final = 4096
"""Calls that were read and have no thread yet. Reading further ahead than this gains nothing."""
LOOK_S: Final = 0.01
"""How often is looked at what tells nobody that it has changed."""


class SharedServing:
    """One shared lane, and what runs for it."""

    def __init__(self, peer: HostPeer, number: int, end: LaneEnd) -> None:
        """Take over the descriptors of `end`. Raises OSError where none are left."""
        self._peer, self._lane, self._end = peer, number, end
        self._hearing, saying, copying = peer.shared_codecs()
        self._spare: list[tuple[Codec, Codec]] = [(saying, copying)]
        self._heard = 0
        self._state = threading.Lock()
        self._waiting: set[int] = set()
        self._unwanted: set[int] = set()
        self._running: dict[int, Running | Started] = {}
        self._told: set[int] = set()
        """Calls that run and were told to stop."""
        self._watch = Watch(end)
        self._out = Outgoing(end.writer, self._watch.ask_writing)
        self._pool = pool.Pool(MAX_THREADS, MAX_WAITING, f"cloister-shared-{number}", peer.threads)
        self._decoder = FrameDecoder()
        self._working = False
        """One of the two threads does calls; the other one listens."""
        self._paused = False
        """Too much waits here, and nobody listens for calls."""
        self._ended = False
        self._there = 2
        peer.shared[number] = self  # not in `serve`: a cancel may come before its thread does

    def serve(self) -> None:
        """Serve until the host closes the lane. Raises ProtocolError where the host breaks the rules."""
        try:
            self._peer.threads.start(self._take_turns, f"cloister-lane-{self._lane}")
        except RuntimeError:  # the system has no thread left; the pool does the calls
            self._working = True
            self._there = 1
        self._take_turns()

    def interrupt(self, number: int, patient: bool = False) -> bool:
        """Stop a call, or see to it that it does not begin. Called by the control thread; see `Running.interrupt`."""
        with self._state:
            if number > self._heard:
                self._unwanted.add(number)  # the control channel was faster than the lane
            self._waiting.discard(number)
            running = self._running.get(number)
            if running is None:
                return False
            self._told.add(number)
            if type(running) is Started:
                running.cancel()
            elif isinstance(running, Running):
                return running.interrupt(number, patient)
            return False

    def runs(self, number: int) -> bool:
        """Whether a call has begun, and is not over."""
        return number in self._running

    @property
    def running(self) -> list[int]:
        """The numbers of the calls that run."""
        return list(self._running)

    # -- the two threads of the lane ---------------------------------------------------------------------------------

    def _take_turns(self) -> None:
        try:
            while not self._ended:
                ready = self._listen()
                if ready.gone:
                    return
                if ready.writable:
                    self._out.push()
                    if self._out.unsent:
                        self._watch.ask_writing()
                if ready.readable and self._read():
                    self._pool.work()
                    self._working = False
        finally:
            self._end_here()
            self._leave()

    def _listen(self) -> Ready:
        """Wait until there is something to do here; meanwhile see to it that the calls that wait begin."""
        while True:
            patience = pool.LOOK_S if self._pool.look() else LOOK_S if self._paused else None
            ready = self._watch.wait(patience)
            if ready is not None:
                return ready
            self._resume()

    def _end_here(self) -> None:
        """Let both threads end: whoever listens hears of the lane's end, too."""
        self._ended = True
        self._watch.ask_reading()

    def _leave(self) -> None:
        """One of the two threads ends. The first one ends what runs, the last one closes the lane."""
        with self._state:
            self._there -= 1
            last = not self._there
            self._waiting.clear()
            left = list(self._running)
        self._pool.close()
        for number in left:
            self.interrupt(number, patient=True)  # nobody waits for its answer
        self._forget()
        self._out.close()
        if last:
            self._watch.close()
            self._end.close()

    def _forget(self) -> None:
        """Let nobody look for calls here any more, once the lane has ended and none runs."""
        if self._ended and not self._running and self._peer.shared.get(self._lane) is self:
            self._peer.shared.pop(self._lane, None)

    def _read(self) -> bool:
        """Read what is there, and let the other thread listen. True where this one is to do it.

        Only one thread is told that there is something, so nobody else is here before the last lines.
        """
        if self._ended:
            return False
        try:
            data = os.read(self._end.reader, READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._end_here()
            return False
        self._decoder.feed(data)
        while (frame := self._decoder.next_frame()) is not None:
            self._take(frame)
        work = not self._working and self._pool.waiting > 0
        if work:
            self._working = True
            if self._pool.waiting > 1:
                self._watch.ask_writing()  # there is room: the other thread wakes, and sees that calls wait
        if self._pool.full or self._out.full or self._peer.coroutines.full:
            self._paused = True
        else:
            self._watch.ask_reading()
        return work

    def _resume(self) -> None:
        """Read on where that was stopped and there is room again."""
        with self._state:
            if not self._paused or self._pool.full or self._out.full or self._peer.coroutines.full:
                return
            self._paused = False
        self._watch.ask_reading()

    def _take(self, frame: Frame) -> None:
        if frame.kind != Kind.CALL:
            raise ProtocolError(f"a frame of kind {frame.kind} has no place on a shared lane")
        heard = read_call(self._hearing, frame, self._heard + 1)
        with self._state:
            self._heard += 1
            if self._heard in self._unwanted:
                self._unwanted.discard(self._heard)
                return
            self._waiting.add(self._heard)
        if type(heard) is Call:
            self._pool.add(partial(self._run, heard))
        else:
            self._waiting.discard(heard.number)
            self._answer(heard.number, None, heard.error)

    # -- a thread that does a call ---------------------------------------------------------------------------------

    def _run(self, call: Call) -> None:
        number = call.number
        running = _Lent(self._lane, self._pool)
        running.number = number
        context = contextvars.copy_context()
        error: BaseException | None = None
        value: Any = None
        try:
            with self._state:
                if number not in self._waiting:
                    return  # nobody waits for its answer
                self._waiting.discard(number)
                self._running[number] = running
            value = self._peer.serve_shared(running, call, context)
            if is_coroutine(value):
                self._hand_over(call, value, context)
                return
        except Interrupted:
            error = CallCancelled(f"{call.name}() was cancelled")
        except BaseException as raised:
            error = raised
        self._over(number)
        self._out.wait_for_room()
        self._answer(number, value, error, call.copy)

    def _hand_over(self, call: Call, coroutine: Any, context: contextvars.Context) -> None:
        """Let the loop run what the call has returned; this thread is free again."""
        number = call.number

        def done(value: Any, error: BaseException | None) -> None:
            self._over(number)
            self._answer(number, value, error, call.copy)

        started = self._peer.coroutines.start(coroutine, context, call.name, done)
        with self._state:
            if number in self._running:
                self._running[number] = started
            told = number in self._told
        if told:
            started.cancel()

    # -- whoever has run a call --------------------------------------------------------------------------------------

    def _over(self, number: int) -> None:
        with self._state:
            self._running.pop(number, None)
            self._told.discard(number)
        if self._ended:
            self._forget()

    def tell_part(self, number: int, value: Any) -> None:
        """Tell something of a call that runs, before its answer; it has left this process when this returns.

        Raises MarshalError where it can't travel. Not to be called by the loop's thread.
        """
        codecs = self._take_codecs()
        try:
            self._out.put(part_frame(codecs[0], number, value))
        finally:
            self._spare.append(codecs)
        self._out.flush()

    def _answer(self, number: int, value: Any, error: BaseException | None, copy: bool = False) -> None:
        if self._ended or self._peer.stopping or isinstance(error, StopRequested):
            return  # the domain ends, and its host tells the caller so
        codecs = self._take_codecs()
        self._out.put(answer_frame(codecs, number, value, error, copy, self._peer.describe))
        self._spare.append(codecs)

    def _take_codecs(self) -> tuple[Codec, Codec]:
        try:
            return self._spare.pop()
        except IndexError:
            return self._peer.shared_codecs()[1:]


class _Lent(Running):
    """A call that lends its thread to the pool while it waits for the host."""

    __slots__ = ("_pool",)

    def __init__(self, lane: int, own: pool.Pool) -> None:
        super().__init__(lane)
        self._pool = own

    def leave(self) -> None:
        self._pool.leave()
        super().leave()

    def come_back(self) -> None:
        self._pool.come_back()
        super().come_back()
