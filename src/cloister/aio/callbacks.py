"""Call-backs of a guest, served on event loops: each call of a guest's thread becomes a task, or a plain call.

A thread of the guest that calls this program gets a lane, which a loop watches. The call runs on the loop of the call
that it belongs to, in a copy of the context of that call's caller: a coroutine is awaited, a plain function is called
on the loop, and blocks it. While it runs, a call of its own to the same domain takes the same lane, so that the thread
that waits over there serves it. A call that belongs to none that is open (of a thread of the guest's own) runs on a
loop that uses the domain; where there is none, it fails in the guest.

What runs for a call that was given up, or for a guest that has gone, is cancelled: nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister import calling
from cloister.aio.limited import as_coroutine
from cloister.domain.guest_threads import GuestThreads
from cloister.errors import CallCancelled, ProtocolError
from cloister.lanes.loop_call import LoopCallLane, Turn
from cloister.lanes.loop_keeper import keeper_of
from cloister.objects.exports import Misaimed
from cloister.pipes.duplex import lane_pair
from cloister.report import Reason
from cloister.wire.messages import Role

if TYPE_CHECKING:
    from cloister.aio.limited import Errand
    from cloister.aio.peer import LoopPeer
    from cloister.domain.guest_shared import Answer
    from cloister.domain.life import Life
    from cloister.errors import CallTimeout
    from cloister.lanes.call_frames import Call
    from cloister.lanes.loop_shared import LoopCall

__all__ = ["LoopThreads", "serving"]

MIND_S: Final = 0.5
"""How soon it is seen that a loop was closed on which a call of a guest's coroutine runs, or was to run."""

_log = logging.getLogger("cloister")

_NO_LOOP: Final = "no event loop of the host uses this domain now, so none can run the call"

serving: ContextVar[tuple[LoopCallLane, Turn] | None] = ContextVar("cloister.aio.serving", default=None)
"""The lane and the turn for which this context runs; None where it serves nobody."""


class LoopThreads(GuestThreads):
    """The lanes of one guest's threads that call this program."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self._loop_lanes: set[LoopCallLane] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._for_coroutines: set[asyncio.Task[Any]] = set()
        """Those that coroutines of the guest have asked for."""
        self._open_shared: dict[Answer, asyncio.AbstractEventLoop] = {}
        """What such calls are to be answered with, and the loop that runs each: one that is closed never does."""
        self._minding = False

    @property
    def _peer(self) -> LoopPeer:
        from cloister.aio.peer import LoopPeer

        peer = self._life.peer
        assert isinstance(peer, LoopPeer)
        return peer

    # -- lanes -------------------------------------------------------------------------------------------------------

    def open_lane(self, ticket: int, role: Role = Role.GUEST) -> None:
        """Open a lane for the thread that asked with this ticket. Raises ProtocolError where it has too many.

        Runs on the watcher's thread; the rest follows on a loop. Where no loop uses the domain any more, the thread in
        the guest gets no lane, and its call fails there after a while.
        """
        if role is not Role.GUEST:
            super().open_lane(ticket, role)
            return
        life = self._life
        if life.over or life.stopping:
            return
        if len(self._loop_lanes) >= life.options.max_guest_lanes:
            raise ProtocolError(f"more than {life.options.max_guest_lanes} of its threads want to call the host")
        for loop in self._peer.loops():
            with contextlib.suppress(RuntimeError):  # it was closed this moment
                loop.call_soon_threadsafe(self._open_on, loop, ticket)
                return
        _log.error("domain %r: a thread of its own can't call this program: no event loop uses it now", life.name)

    def run_shared(self, call: Call, answer: Answer) -> None:
        """Run a call of a loop of the guest's on the loop of the call that it belongs to, else on one that there is."""
        caller = self._peer.caller(_strand_of(call))
        for loop in self._peer.loops() if caller is None else [caller.get_loop()]:
            self._open_shared[answer] = loop
            try:
                loop.call_soon_threadsafe(self._begin_shared, loop, call, answer)
            except RuntimeError:  # it was closed this moment
                if self._open_shared.pop(answer, None) is None:
                    return  # that was seen, and the call has its answer
                continue
            self._mind_loops()
            return
        answer(None, RuntimeError(_NO_LOOP))

    def _mind_loops(self) -> None:
        """Look whether loops were closed without ceremony, from now on, as long as calls of the guest's run on some."""
        if self._open_shared and not self._minding:
            self._minding = True
            self._life.at(time.monotonic() + MIND_S, self._look_at_loops)

    def _look_at_loops(self) -> None:
        self._minding = False
        for answer, loop in list(self._open_shared.items()):
            if loop.is_closed():
                self._answer_shared(answer, None, RuntimeError(_NO_LOOP))
        stopped = [task for task in list(self._for_coroutines) if task.get_loop().is_closed()]
        self._for_coroutines.difference_update(stopped)
        self._tasks.difference_update(stopped)
        self._mind_loops()

    def _answer_shared(self, answer: Answer, value: Any, error: BaseException | None) -> None:
        """Answer such a call, once."""
        if self._open_shared.pop(answer, None) is not None:
            self._crew.run(partial(answer, value, error))  # it may wait for the guest, and a loop may not

    def _begin_shared(self, loop: asyncio.AbstractEventLoop, call: Call, answer: Answer) -> None:
        caller = self._peer.caller(_strand_of(call))
        if caller is None and keeper_of(loop).closing:  # it has begun to meanwhile; a task would never end
            other = self.another(loop)
            if other is not None:
                with contextlib.suppress(RuntimeError):
                    self._open_shared[answer] = other
                    other.call_soon_threadsafe(self._begin_shared, other, call, answer)
                    return
            self._answer_shared(answer, None, RuntimeError(_NO_LOOP))
            return
        context = contextvars.copy_context() if caller is None else caller.context.copy()

        def end(value: Any, error: BaseException | None) -> None:
            if isinstance(error, asyncio.CancelledError):
                error = CallCancelled(f"{call.name}() was cancelled in the host")
            self._peer.mark_ended(call, error)
            self._answer_shared(answer, value, error)

        def invoke() -> Any:
            if call.number and caller is None and self._peer.given_up(_strand_of(call)):
                raise asyncio.CancelledError
            serving.set(None)
            return self._invoke_shared(call)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            self._for_coroutines.discard(task)
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            end(task.result() if error is None else None, error)

        try:
            value = context.run(invoke)
        except BaseException as error:
            end(None, error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
            return
        if not inspect.isawaitable(value):
            end(value, None)
            return
        task = loop.create_task(as_coroutine(value), name=f"call-back {call.name}()", context=context)
        self._tasks.add(task)
        self._for_coroutines.add(task)
        task.add_done_callback(done)
        if call.number:
            _tie(task, caller)

    def _open_on(self, loop: asyncio.AbstractEventLoop, ticket: int) -> None:
        life, peer = self._life, self._peer
        if life.over or life.stopping:
            return
        if keeper_of(loop).closing and (other := self.another(loop)) is not None:  # it has begun to meanwhile
            with contextlib.suppress(RuntimeError):
                other.call_soon_threadsafe(self._open_on, other, ticket)
                return
        try:
            host, guest = lane_pair()
        except OSError as error:
            _log.error("domain %r: a thread of its own can't call this program: %s", life.name, error)
            return
        lane = LoopCallLane(loop, peer.converse(), self, peer)
        self._loop_lanes.add(lane)
        lane.attach(host, peer.lanes.new_number())
        life.speaker.hand_over(lane.number, Role.GUEST, ticket, guest)

    def leave_closed_loops(self) -> None:
        """Close the lanes of loops that were closed without ceremony; whoever waits over there is told so."""
        for lane in [each for each in list(self._loop_lanes) if each.loop.is_closed()]:
            self._loop_lanes.discard(lane)
            lane.disown(self._life.error)

    def close(self) -> None:
        """Close every lane: the domain has ended."""
        super().close()
        self.stop(self._life.error)

    def stop(self, error: Callable[[], BaseException]) -> None:
        """Close every lane, from any thread."""
        for lane in list(self._loop_lanes):
            lane.stop_from_afar(error)
        self._loop_lanes.clear()

    def disown(self, error: Callable[[], BaseException]) -> None:
        """This is a forked child."""
        for lane in list(self._loop_lanes):
            lane.disown(error)
        self._loop_lanes.clear()

    def has_strand(self, strand: int) -> bool:
        """Whether a strand is that which has spoken last on a lane of the guest's threads."""
        return any((lane.strand or lane.logical) == strand for lane in list(self._loop_lanes))

    def serves(self, strand: int) -> list[asyncio.Task[Any]]:
        """What runs here for a strand while threads of the guest wait for it. Any thread."""
        tasks = (lane.task_of(strand) for lane in list(self._loop_lanes))
        return [task for task in tasks if task is not None]

    def waiting(self) -> list[str]:
        """The names of the nested calls that wait for the guest."""
        return [name for lane in list(self._loop_lanes) for name in lane.waiting]

    def serves_coroutine(self, task: asyncio.Task[Any]) -> bool:
        """Whether a coroutine of the guest has asked for this; it may do something else until it has its answer."""
        return task in self._for_coroutines

    # -- what a lane needs from its owner ----------------------------------------------------------------------------

    def place(self, lane: LoopCallLane, call: Call) -> asyncio.AbstractEventLoop:
        """The loop of the call that this one belongs to; else the one that has the lane."""
        if call.options:
            logical, strand = call.options.get("logical"), call.options.get("strand")
            if type(logical) is int:
                lane.logical, lane.strand = logical, strand if type(strand) is int else 0
        caller = lane.caller or self._peer.caller(lane.strand)
        return lane.loop if caller is None else caller.get_loop()

    def another(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop | None:
        """Another loop that uses the domain."""
        return next((other for other in self._peer.loops() if other is not loop), None)

    def begin(self, lane: LoopCallLane, call: Call, turn: Turn) -> None:
        """Run a call of the guest's."""
        turn.strand = lane.strand or lane.logical
        caller = lane.caller_of(turn) or self._peer.caller(lane.strand)
        context = contextvars.copy_context() if caller is None else caller.context.copy()
        try:
            value = context.run(self._invoke, lane, call, turn)
        except BaseException as error:
            self._end(lane, call, turn, None, error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
            return
        if not inspect.isawaitable(value):
            self._end(lane, call, turn, value, None)
            return
        task = lane.loop.create_task(as_coroutine(value), name=f"call-back {call.name}()", context=context)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(lane, call, turn, task))
        if call.number:
            turn.task = task
            _tie(task, caller)

    def _invoke(self, lane: LoopCallLane, call: Call, turn: Turn) -> Any:
        if call.number and self._peer.given_up(lane.strand):
            raise asyncio.CancelledError
        if call.options:
            calling.adopt(call.options)
        calling.join(lane.logical, lane.strand)
        serving.set((lane, turn) if call.number else None)
        return self._peer.invoke(call)

    def _done(self, lane: LoopCallLane, call: Call, turn: Turn, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._end(lane, call, turn, None, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._end(lane, call, turn, None, error)
        else:
            self._end(lane, call, turn, task.result(), None)

    def _end(self, lane: LoopCallLane, call: Call, turn: Turn, value: Any, error: BaseException | None) -> None:
        if isinstance(error, Misaimed):
            self._life.end_for(Reason.BAD_MESSAGE, str(error))
            return
        if isinstance(error, asyncio.CancelledError):
            error = CallCancelled(f"{call.name}() was cancelled in the host")
        self._peer.mark_ended(call, error)
        if call.number:
            lane.finish(turn, value, error)
        elif error is not None:
            self._life.unheard(call.name, error)

    def describe(self, error: BaseException) -> Any:
        """Turn an exception into what travels."""
        return self._peer.describe(error)

    def rebuild(self, described: Any) -> BaseException:
        """Turn what travelled into an exception."""
        return self._peer.rebuild(described)

    def interrupt(self, call: LoopCall, told: Callable[[CallTimeout], None] | None) -> None:
        """Tell the guest to stop a nested call."""
        self._peer.shared.interrupt(call, told)

    def unheard(self, name: str, error: BaseException) -> None:
        """A one-way call of the guest's can't be read here."""
        self._life.unheard(name, error)

    def lane_over(self, lane: LoopCallLane, cause: BaseException, waits: bool) -> None:
        """A thread of the guest has ended, or the whole guest, or it breaks the rules."""
        self._loop_lanes.discard(lane)
        if waits or isinstance(cause, ProtocolError):
            self._peer.lane_over(lane, cause)
        else:
            lane.fail(self._life.error)


def _tie(task: asyncio.Task[Any], caller: LoopCall | Errand | None) -> None:
    """See to it that what runs for a call is cancelled where the call is given up."""
    if caller is not None:
        if caller.served is None:
            caller.served = set()
        caller.served.add(task)
        task.add_done_callback(caller.served.discard)


def _strand_of(call: Call) -> int:
    strand = call.options.get("strand", call.options.get("logical"))
    return strand if type(strand) is int else 0
