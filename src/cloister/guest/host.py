"""The host, as a guest sees it: the lanes that it serves, and the ones on which its own threads call.

Each serving thread belongs to one lane. What a call means is in `service` and `cloister.objects`; which ones run, and
how they are stopped, in `open_calls`; opening lanes is asked for by `control`. Any thread may enter `HostPeer.call`.
"""

from __future__ import annotations

import contextvars
import weakref
from contextvars import copy_context
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from cloister import calling, travel
from cloister.errors import CallCancelled
from cloister.guest.coroutines import Coroutines, is_coroutine, task_here
from cloister.guest.interrupts import Interrupted, MainThread, Running, StopRequested
from cloister.guest.open_calls import OpenCalls
from cloister.guest.pool import Pool
from cloister.guest.threads import Threads
from cloister.lanes.call_lane import LATER, CallLane, LaneClosed
from cloister.lanes.per_thread import PerThread
from cloister.objects import targets
from cloister.objects.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cloister.guest.awaiting import Awaiting
    from cloister.lanes.call_frames import Call
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page

__all__ = ["HostPeer"]


class _Here:
    """The lane of a thread, and what it runs."""

    __slots__ = ("lane", "later", "own", "running", "served")

    def __init__(self) -> None:
        self.served: CallLane | None = None
        """The lane that it serves."""
        self.lane: CallLane | None = None
        """The lane on which it may call the host: in a call, the one that it serves; else one of its own. None while a
        call is on its way, so that a finalizer or a signal handler that calls in the middle of it takes another one."""
        self.own: CallLane | None = None
        """In a thread that serves: its own lane, for one-way calls that call the host."""
        self.running: Running | None = None
        """What it runs for the host; None in a thread of the guest's own."""
        self.later: Callable[[Callable[[], None]], None] | None = None
        """Where it runs a message loop: has something done by that loop. Coroutines of its lane are answered so."""


class _PerThread(PerThread[_Here]):
    def make(self) -> _Here:
        return _Here()


class HostPeer(Peer):
    """The other side of the wall, seen from within."""

    def __init__(
        self,
        name: str,
        service: dict[str, Callable[..., Any]],
        limits: Any,
        page: Page | None,
        threads: Threads | None = None,
    ) -> None:
        super().__init__(name, below=False, service=service, limits=limits, resolve=targets.resolve_type)
        self.page = page
        self.threads = threads or Threads()
        self.open_lane: Callable[[], tuple[int, LaneEnd]] = _no_lane
        """Asks the host for a lane of the calling thread's own; set by the control channel."""
        self.open_shared: Callable[[Callable[[int, LaneEnd], None], Callable[[str], None]], None] = _no_shared_lane
        """Asks the host for a shared lane for a loop; set by the control channel."""
        self.report: Callable[[str, BaseException], None] = _nowhere
        """Tells the host of an exception that no caller waits for; set by the control channel."""
        self.report_event: Callable[[str, list[Any]], None] = _nowhere
        """Tells the host what it wants to know of events of this name; set by the control channel."""
        self.calls = OpenCalls()
        self.coroutines = Coroutines(self.threads)
        """Where coroutines run."""
        self.stopping = False
        """The host waits for no answer any more: what is interrupted now was not cancelled by its caller."""
        self._awaiting: Awaiting | None = None
        self._lanes: weakref.WeakSet[CallLane] = weakref.WeakSet()
        self._per_thread = _PerThread()
        self.graves = graves = Pool(1, "cloister-releases", self.threads)
        self.exports.bury = lambda gone: graves.run(gone.clear)  # the control thread runs no destructors

    # -- calls of the host -------------------------------------------------------------------------------------------

    def serve_lane(self, number: int, end: LaneEnd, main: MainThread | None = None) -> None:
        """Serve a lane on the calling thread until the host closes it. `main` is where signals find the main thread."""
        lane = self.begin_lane(number, end, main)
        try:
            while not lane.closed and lane.serve_one():
                pass
        except Interrupted:
            pass  # it came too late for its call, in the middle of our own work: the lane is lost
        finally:
            self.end_lane(lane, main)

    def run_loop(self, later: Callable[[Callable[[], None]], None]) -> None:
        """The calling thread, the main one, runs a message loop; `later` has something done by it."""
        self._per_thread.here.later = later

    def begin_lane(self, number: int, end: LaneEnd, main: MainThread | None) -> CallLane:
        """Make a lane the one that the calling thread serves."""
        lane = CallLane(end, self.converse(), self, number, self.page, side=1)
        self._lanes.add(lane)
        running = Running(number, lane.conversation.serving)
        self.calls.begin(running)
        here = self._per_thread.here
        here.served, here.running = lane, running
        if main is not None:
            main.running = running
            # The signal may have come before this thread did.
            running.unwanted = main.asked_for(number) or running.unwanted
        return lane

    def end_lane(self, lane: CallLane, main: MainThread | None) -> None:
        """The calling thread serves this lane no more."""
        here = self._per_thread.here
        running = here.running
        if main is not None:
            main.running = None
        here.served = here.lane = here.own = here.running = None
        if running is not None and running.stop is None:  # else its task is still on its way, and may be stopped
            self.calls.end(running)
        lane.close()

    def serve(self, lane: CallLane, call: Call) -> Any:
        """Run a call of the host, in a copy of this thread's context."""
        here = self._per_thread.here
        running = here.running
        number, _, name, _, _, options, _ = call  # the items of a tuple cost less than their names
        if not number:
            self._serve_one_way(here, call)
            return None
        if options:
            calling.join(options.get("logical"), options.get("strand"))
        if running is None or here.served is not lane:  # a lane that the host opened for a thread of our own
            return self._serve_on_own(here, lane, call)
        outer, away, before = running.number, running.away, here.lane
        running.number, running.away, here.lane = number, False, lane
        value: Any = None
        try:
            if number == running.unwanted:
                raise CallCancelled(f"{name}() was given up before it began")
            context = copy_context()
            value = context.run(self.in_context if options else self.invoke, call)
            if type(value) is CoroutineType:
                if here.later is None or lane.conversation.waiting:
                    return self.coroutines.wait(value, context, name, running)
                self._answer_later(lane, call, value, context, running)
                value = LATER
            return value
        except Interrupted as error:
            raise CallCancelled(f"{name}() was interrupted: its caller does not wait any more") from error
        finally:
            running.away, here.lane = away, before
            if value is not LATER:
                running.number = outer
                if running.cancelling:
                    running.settle(number)

    def _serve_on_own(self, here: _Here, lane: CallLane, call: Call) -> Any:
        """Run a nested call, on a lane that the host opened for a thread of our own. The host may stop it alone."""
        before, outer = here.lane, here.running
        running = Running(lane.number, lane.conversation.serving)
        running.number = call.number
        around, unwanted = self.calls.begin_nested(running)
        here.lane, here.running = lane, running
        try:
            if unwanted:
                raise CallCancelled(f"{call.name}() was given up before it began")
            context = contextvars.copy_context()
            made = context.run(self.in_context, call)
            return self.coroutines.wait(made, context, call.name, running) if is_coroutine(made) else made
        except Interrupted as error:
            raise CallCancelled(f"{call.name}() was interrupted: its caller does not wait any more") from error
        finally:
            running.number = 0
            if running.cancelling:
                running.settle(call.number)
            here.lane, here.running = before, outer
            self.calls.end_nested(running, around)

    def _answer_later(self, lane: CallLane, call: Call, coroutine: Any, context: Any, running: Running) -> None:
        """Let a coroutine run, and answer its call when it is done; the loop of this thread goes on meanwhile."""
        here = self._per_thread.here
        later, torn = here.later, False
        assert later is not None

        def done(value: Any, error: BaseException | None) -> None:
            later(partial(answer, value, error))

        def answer(value: Any, error: BaseException | None) -> None:
            if torn:
                return
            running.number, running.stop = 0, None
            if here.running is not running:  # the host has closed the lane meanwhile
                self.calls.end(running)
            lane.answer_late(call, value, error)

        try:
            running.wait_for(self.coroutines.start(coroutine, context, call.name, done).cancel)
        except BaseException:
            torn = True
            raise

    def _serve_one_way(self, here: _Here, call: Call) -> None:
        """Run a call that nobody waits for: what it calls takes a lane of its own, because nobody reads this one."""
        running, here.running = here.running, None
        lane, here.lane = here.lane, here.own
        number = 0 if running is None else running.number
        if running is not None:
            running.number, running.one_way = 0, True
        try:
            context = contextvars.copy_context()
            value = context.run(self.in_context, call)
            if is_coroutine(value):
                self._start_one_way(call.name, value, context)
        finally:
            if running is not None:
                running.number, running.one_way = number, False
            here.own, here.lane = here.lane, lane
            here.running = running

    def _start_one_way(self, name: str, coroutine: Any, context: contextvars.Context) -> None:
        """Begin a coroutine that nobody waits for; what it returns is thrown away."""

        def done(value: Any, error: BaseException | None) -> None:
            if error is not None:
                self.unheard(name, error)

        if not self.coroutines.here:
            self.coroutines.wait_for_room()
        self.coroutines.start(coroutine, context, name, done)

    def serve_shared(self, running: Running, call: Call, context: contextvars.Context) -> Any:
        """Run a call of a shared lane, on a thread of its pool; where it gives a coroutine, that is returned."""
        here = self._per_thread.here
        here.running = running
        try:
            return context.run(self.in_context, call)
        except Interrupted as error:
            raise CallCancelled(f"{call.name}() was cancelled") from error
        finally:
            running.number = 0
            if running.cancelling:
                running.settle(call.number)
            here.running = None

    def in_context(self, call: Call) -> Any:
        """Run a call, inside the copy of a context that is its own."""
        if call.options:
            calling.adopt(call.options)
            travel.take(call.options)
        return self.invoke(call)

    def interrupt(self, lane: CallLane, number: int, name: str) -> None:
        """A guest does not interrupt its host."""

    def passes_through(self, error: BaseException) -> bool:
        """Everything that code over here raises travels, even SystemExit: it ends the call, not the domain."""
        return isinstance(error, StopRequested)

    def unheard(self, name: str, error: BaseException) -> None:
        """An exception of a one-way call becomes an event."""
        if isinstance(error, Interrupted):
            return  # the domain ends
        self.report(name, error)

    def teller(self) -> Callable[[Any, bool], None]:
        """Give what tells the host something of the call that this thread serves now, before its answer.

        Any thread may use it while the call runs. It raises MarshalError where a value can't travel. Raises
        RuntimeError where this thread serves no call of a shared lane.
        """
        running = self._per_thread.here.running
        shared = None if running is None else self.calls.shared.get(running.lane)
        if running is None or shared is None:
            raise RuntimeError("only a call on a shared lane can tell something before its answer")
        return partial(shared.tell_part, running.number)

    @property
    def serving_here(self) -> tuple[int, int]:
        """(lane, number) of the call that this thread serves; (-1, 0) where it serves none."""
        running = self._per_thread.here.running
        return (-1, 0) if running is None else (running.lane, running.number)

    def runs_here(self) -> Running | None:
        """What this thread serves; None where it serves nothing."""
        running: Running | None = self._per_thread.here.running
        return running

    def stop_all(self, told: set[tuple[int, int]]) -> None:
        """Break every lane, and interrupt every call that runs and is not among `told`, and add it there.

        For a guest that does not end with a process: the host waits for none of its calls any more. Called by the
        control thread.
        """
        self.stopping = True
        for lane in list(self._lanes):
            lane.break_with(_stopped)
        for call in self.calls.running():
            if call not in told and not self.calls.stop(*call, patient=True):
                told.add(call)
        self.calls.stop_one_way()

    def rests(self) -> bool:
        """Whether nothing of the user's runs for the host, or has to be unwound. Called by the control thread."""
        return not self.coroutines.used and self.graves.rests and self.calls.rest

    # -- calls to the host -------------------------------------------------------------------------------------------

    def awaiting(self) -> bool:
        """Whether a call of the host's objects is awaited here: in a task."""
        return task_here()

    def _await(
        self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int
    ) -> Awaitable[Any]:
        awaiting = self._awaiting
        if awaiting is None:
            from cloister.guest.awaiting import Awaiting

            awaiting = self._awaiting = Awaiting(self)
        return awaiting.call(target, name, args, kwargs, flags)

    def call(self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int = 0) -> Any:
        """Call an object of the host: on the lane that this thread serves, or on one of its own.

        In a task of an asyncio loop it is not waited for: the future of the result is returned; see `awaiting`.

        Raises what the host raised, CallTimeout, MarshalError, and CallCancelled where the host waits no more for what
        this thread does.
        """
        if task_here():
            return self._await(target, name, args, kwargs, flags)
        entered = calling.entered.get()
        if entered is not None:
            return entered.call_out(self.call, target, name, args, kwargs, flags)
        here = self._per_thread.here
        lane, running = here.lane, here.running
        limit = calling.deadline.get()
        options = None
        if lane is None or lane is not here.served:
            if lane is None or lane.closed:
                number, end = self.open_lane()
                lane = CallLane(end, self.converse(), self, number, self.page, side=1)
                self._lanes.add(lane)
                self.calls.expect(number)  # what is to be stopped on it may be told before it is heard
                weakref.finalize(lane, self.calls.expect_no_more, number).atexit = False
            options = calling.options(limit, name, lane)
        elif limit is not None:
            options = calling.options(limit, name)
        here.lane = None
        try:
            if running is None:
                return lane.call(target, name, args, kwargs, options, flags, limit)
            try:
                running.leave()
                return lane.call(target, name, args, kwargs, options, flags, limit)
            finally:
                running.come_back()
        except LaneClosed:
            raise CallCancelled(f"{name}() was not answered: the host does not wait any more") from None
        finally:
            here.lane = lane


def _stopped() -> BaseException:
    return LaneClosed("the domain ends")


def _no_lane() -> tuple[int, LaneEnd]:
    raise RuntimeError("the control channel is not up yet")


def _no_shared_lane(opened: Callable[[int, LaneEnd], None], refused: Callable[[str], None]) -> None:
    raise RuntimeError("the control channel is not up yet")


def _nowhere(name: str, what: Any) -> None:
    pass
