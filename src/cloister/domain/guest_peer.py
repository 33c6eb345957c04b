"""The guest, as its host sees it: which lane a call takes, and what a caller is told when the lane fails.

Unlimited concurrency: each host thread has a call lane of its own, from its first call until it ends. The first one is
served by the guest's main thread; `submit`, `map` and their like share one lane for all. A limit of n: there are n call
lanes and nothing else, and an outermost call takes one for as long as it lasts; with a limit of 1 that is always the
main thread's.

Any thread may call. The state of the domain is in `life`; what is open, and its end, in `open_lanes`; the lanes that
many calls share in `shared_lanes`; who has which of a limited number of lanes in `lane_rack`.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import sys
import threading
import time
import weakref
from functools import partial
from sys import modules
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from cloister import calling, travel
from cloister.domain import broken_lanes
from cloister.domain.crew import Crew
from cloister.domain.guest_segments import GuestSegments
from cloister.domain.lane_rack import LaneRack
from cloister.domain.open_lanes import OpenLanes
from cloister.domain.shared_lanes import SharedLanes
from cloister.domain.sizes import bytes_of
from cloister.domain.submitted import Submitted
from cloister.domain.uninterrupted import uninterrupted
from cloister.errors import DeadlockDetected, ProtocolError
from cloister.lanes.call_lane import Asked, CallLane, LaneClosed, Stopping
from cloister.lanes.per_thread import PerThread
from cloister.levels.watcher import watcher
from cloister.objects.exports import Misaimed
from cloister.objects.peer import Peer
from cloister.pipes.duplex import LaneEnd, lane_pair
from cloister.travel import TRACER
from cloister.wire.limits import DEFAULT_LIMITS
from cloister.wire.messages import SERVICE, Role

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from cloister.domain.life import Life
    from cloister.lanes.call_frames import Call
    from cloister.pipes.page import Page

__all__ = ["GuestPeer"]

HURRY_S = 0.01
"""How soon the guest is told of a stream that was dropped, with all others that are until then."""

_ASKED = Asked()


class _Here:
    """What a thread has of one domain."""

    __slots__ = ("begins", "holds", "introduces", "lane", "told")

    def __init__(self) -> None:
        self.lane: CallLane | None = None
        """The lane on which it may call: its own between two calls, and that of a call-back during one. None while a
        call is on its way, so that a finalizer or a signal handler that calls in the middle of it takes another one."""
        self.holds = 0
        """Where lanes are limited: how many it has taken."""
        self.begins: Submitted | None = None
        """Where lanes are limited: the submitted call that this thread is about to make."""
        self.introduces = False
        """Whether its calls say who speaks: it runs for logical threads that are not its own, one after the other on
        one lane, or the first call on it was not sent."""
        self.told: CallLane | None = None
        """Where lanes are limited: the lane on which its one-way calls went."""


class _PerThread(PerThread[_Here]):
    def make(self) -> _Here:
        return _Here()


class GuestPeer(Peer):
    """The other side of the wall, seen from above."""

    _kept: ClassVar = frozenset({"life", "name", "below", "segments", "unsent"})
    """What is asked for after `let_go` too: by what goes with a lane."""

    def __init__(self, name: str, life: Life, page: Page | None, first: LaneEnd, max_concurrency: int | None) -> None:
        super().__init__(name, below=True, service={"resolve": life.resolving.resolve}, limits=DEFAULT_LIMITS)
        self.life = life
        self.segments: GuestSegments = GuestSegments(life, bytes_of(life.options.setup.shared_memory, "shared_memory"))
        self._tokens = itertools.count(1)
        self._page = page
        self._per_thread = _PerThread()
        self._lock = threading.RLock()  # a finalizer may run and call while it is held
        self.lanes = OpenLanes()
        self.shared = SharedLanes(self)
        self._rack: LaneRack | None = None
        if max_concurrency is not None:
            self._rack = LaneRack(max_concurrency, self._new_lane, name)
            self._submitted = Crew(max_concurrency, f"cloister-{name}-submitted")
            self._main_role = Role.MAIN_ONLY if max_concurrency == 1 else Role.MAIN
        else:
            self._main_role = Role.MAIN
        self._hurries = False
        """The watcher will tell soon what was dropped."""
        self.imports.hurry = self._hurry
        self._first: CallLane | None = self._lane(0, first)
        self._main: weakref.ref[CallLane] = weakref.ref(self._first)

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int = 0) -> Any:
        """Call an object of the guest on this thread's lane; see `CallLane.call`. Raises the errors of the domain."""
        entered = calling.entered.get()
        if entered is not None:
            return entered.call_out(self.call, target, name, args, kwargs, flags)
        here = self._per_thread.here
        lane = here.lane
        limit = calling.deadline.get()
        try:
            if lane is None or lane.closed:
                return self._call_first(target, name, args, kwargs, flags, limit)
            here.lane = None
            try:
                if limit is not None or here.introduces or travel.noted or TRACER in modules:
                    introduced = lane if here.introduces else None
                    options = calling.options_down(limit, name, introduced)
                    return lane.call(target, name, args, kwargs, options, flags, limit)
                return lane.call(target, name, args, kwargs, None, flags, None)
            finally:
                here.lane = lane
        except LaneClosed:
            broken_lanes.raise_ended(self.life, name)
        except ProtocolError as error:
            raise broken_lanes.bad_message(self.life, error, name) from None

    def _call_first(
        self, target: int, name: str, args: tuple[Any, ...], kwargs: Any, flags: int, limit: float | None
    ) -> Any:
        """Call from a thread that has no lane at this moment, or whose lane is over."""
        here = self._per_thread.here
        submitted, here.begins = here.begins, None
        here.introduces = calling.serves()
        lane = self._acquire(limit)
        try:
            if submitted is not None:
                submitted.begin(lane)
            value = lane.call(target, name, args, kwargs, calling.options_down(limit, name, lane), flags, limit)
            here.told = None  # the guest has done what it was told before
            self.life.note_answer()
            return value
        finally:
            if not lane.logical:
                here.introduces = True
            if submitted is not None:
                submitted.end()
            self._release(lane)

    def watch(self, what: str) -> None:
        """Let the guest watch something for this side; see `Watching`. From the return on it does."""
        self.call(SERVICE, "watch", ([what],), None)

    def one_way(self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Call without waiting for an answer. It goes on this thread's lane, so it keeps its order with later calls."""
        here = self._per_thread.here
        lane, mine = here.lane, True
        limit = calling.deadline.get()
        try:
            if lane is None or lane.closed:
                lane, mine = self._acquire(limit), False
            here.lane = None
            try:
                lane.tell(target, name, args, kwargs, calling.options_down(limit, name, lane), limit)
                here.told = lane if self._rack is not None else None
            finally:
                if not lane.logical:
                    here.introduces = True
                if mine:
                    here.lane = lane
                else:
                    self._release(lane)
        except LaneClosed:
            broken_lanes.raise_ended(self.life, name)
        except ProtocolError as error:
            raise broken_lanes.bad_message(self.life, error, name) from None

    def submit(
        self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int = 0
    ) -> Future[Any]:
        """Call without waiting; return the future. Its `cancel` stops a running call too."""
        if self._rack is not None:
            return self._submit_limited(target, name, args, kwargs, flags)
        limit = calling.deadline.get()
        try:
            shared = self.shared.free()
            return shared.submit(target, name, args, kwargs, calling.options_beside(limit, name), limit)
        except LaneClosed:
            broken_lanes.raise_ended(self.life, name)

    def _submit_limited(
        self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int
    ) -> Future[Any]:
        """Where lanes are limited, a call that nobody waits for takes one too, on a thread of ours."""
        assert self._rack is not None

        def call(future: Submitted) -> Any:
            self._per_thread.here.begins = future
            return GuestPeer.call(self, target, name, args, kwargs, flags)  # on this thread, in every style of calling

        self.life.wait_ready(calling.deadline.get())
        future = Submitted(name, call, self._rack.resource, partial(self._interrupt_submitted, name))
        self._submitted.run(future.run)
        return future

    def _interrupt_submitted(self, name: str, lane: CallLane, number: int, abandon: Callable[[], None]) -> None:
        self.interrupt(lane, number, name)
        self.life.at(time.monotonic() + broken_lanes.LANE_PATIENCE_S, abandon)

    def send_descriptor(self, fd: int) -> int | None:
        """Send a twin of a descriptor to the guest, ahead of the reference that names its token."""
        if sys.platform == "win32":
            return None
        token = next(self._tokens)
        self.life.wait_ready(calling.deadline.get())
        self.life.speaker.send_descriptor(token, os.dup(fd))
        return token

    def _hurry(self) -> None:
        """Something was dropped that is to be let go soon over there. Called by finalizers."""
        if not self.life.over and not self._hurries:  # of what is over nothing else is left
            self._hurries = True
            watcher.hint(self._tell_soon)

    def _tell_soon(self) -> None:
        """On the watcher's thread, which may take locks. A burst of streams that are left costs one message."""
        self.life.at(time.monotonic() + HURRY_S, self._tell_dropped)

    def _tell_dropped(self) -> None:
        self._hurries = False
        self.life.speaker.send_waiting()

    def broken(self, error: ProtocolError, name: str) -> BaseException:
        """An answer breaks the rules: end the domain."""
        return broken_lanes.bad_message(self.life, error, name)

    # -- lanes -------------------------------------------------------------------------------------------------------

    def _acquire(self, limit: float | None) -> CallLane:
        """A lane for the calling thread; waits until the domain is ready, and for a free one where they are limited."""
        if limit is None and self._rack is None and self.life.serves_soon:
            with self._lock:
                first, self._first = self._first, None
            if first is not None:
                return first  # what is said on it now is there when the guest begins to read
        self.life.wait_ready(limit)
        if self._rack is None:
            return self._new_lane()
        here = self._per_thread.here
        if here.holds and self._main_role is Role.MAIN_ONLY:
            raise DeadlockDetected(
                f"domain {self.name!r} runs one call at a time, and this thread is in the middle of it: what it called"
                " now - from a finalizer, a signal handler or a one-way call-back - would wait for itself"
            )
        here.holds += 1  # at once: opening a lane may run a finalizer that calls
        lane = None
        try:
            lane = self._rack.take(here.told, limit)
        finally:
            if lane is None:
                here.holds -= 1
        if lane is None:
            raise self.life.error()
        return lane

    def _release(self, lane: CallLane) -> None:
        here = self._per_thread.here
        if self._rack is None:
            here.lane = lane
        else:
            here.holds -= 1
            self._rack.give_back(lane)

    def _new_lane(self) -> CallLane:
        with self._lock:
            first, self._first = self._first, None
        return uninterrupted(self._open_lane) if first is None else first

    def _open_lane(self) -> CallLane:
        host, guest = lane_pair()
        with self._lock:
            lane = self._lane(self.lanes.new_number(), host)
            role = Role.CALL
            mine = weakref.ref(lane)
            while role is Role.CALL:
                before = self._main
                main = before()
                if main is not None and not main.closed:
                    break
                # Nothing that could collect stands between this look and the change: a finalizer that calls would take
                # the guest's main thread, and keep it for as long as this lane waits for it.
                if self._main is before:
                    self._main, role = mine, self._main_role
        self.life.speaker.hand_over(lane.number, role, 0, guest)
        return lane

    def _lane(self, number: int, end: LaneEnd) -> CallLane:
        page = self._page
        if page is not None and number < page.slots:
            page.cancels[2 * number + 1] = 0  # what was said of an earlier lane of this number
        lane = CallLane(end, self.converse(), self, number, page)
        self.lanes.add(lane)
        return lane

    def guest_lane(self, number: int, end: LaneEnd) -> CallLane:
        """The host's end of a lane on which a thread of the guest's own calls."""
        with self._lock:
            lane = self._lane(number, end)
            lane.watched = True
            return lane

    # -- what is known, and the end ----------------------------------------------------------------------------------

    def calls(self) -> tuple[str, ...]:
        """The names of the calls that this program waits for at this moment."""
        return self.lanes.calls()

    def has_strand(self, strand: int) -> bool:
        """Whether a strand has a call open in the guest, or belongs to a thread of its own that has called."""
        return self.lanes.has_strand(strand)

    def end(self, error: Callable[[], BaseException], keep: bool = False) -> None:
        """Break every lane: whoever waits, or calls later, gets `error()`.

        `keep`: lanes on which nobody waits are closed when this is called again.
        """
        self._first = self._page = None
        if self._rack is not None:
            self._rack.close()
        self.lanes.end(error, keep)

    def let_go(self) -> None:
        """The domain has ended, and nobody holds it. Who still calls, a map that was not read to its end, is told so.

        The lanes of threads, and most else that is here, know this object: they would wait for the garbage collector.
        """
        self.shared.let_go()
        for name in vars(self).keys() - self._kept:
            vars(self).pop(name, None)
        for name in ("call", "one_way", "submit"):
            vars(self)[name] = partial(_refuse, self.life.error)

    def disown(self, error: Callable[[], BaseException]) -> None:
        """This is a forked child: close every descriptor that it inherited; every later use raises `error()`."""
        self._lock = threading.RLock()
        if self._rack is not None:
            self._rack.disown()
        self.shared.disown()
        self.lanes.disown(error)
        self._first = None

    def interrupt_main(self) -> None:
        """Interrupt the call that the guest's main thread serves, if it serves one."""
        lane = self._main()
        if lane is not None and lane.conversation.waiting:
            self.life.speaker.interrupt(lane.number, lane.conversation.waiting[-1], main=True)

    # -- what a lane needs from its owner ----------------------------------------------------------------------------

    def serve(self, lane: CallLane, call: Call) -> Any:
        """Run a call of the guest's in a copy of this thread's context.

        What it calls may call the guest again, on the same lane, which waits for it. After a one-way call nobody waits:
        what that one calls takes another lane.
        """
        here = self._per_thread.here
        before, here.lane = here.lane, (lane if call.number else None)
        try:
            return contextvars.copy_context().run(self._in_context, lane, call)
        finally:
            here.lane = before

    def _in_context(self, lane: CallLane, call: Call) -> Any:
        if call.options:
            calling.adopt(call.options)
            logical, strand = call.options.get("logical"), call.options.get("strand")
            if type(logical) is int:
                lane.logical, lane.strand = logical, strand if type(strand) is int else 0
        if lane.watched:  # a guest's own thread says who it is once; here any thread may serve it
            calling.join(lane.logical, lane.strand)
            return calling.lend(lane.strand or lane.logical, partial(self.invoke, call))
        return self.invoke(call)

    def interrupt(self, lane: CallLane, number: int, name: str) -> Stopping:
        """Tell the guest to stop serving a call; where the caller wants it, the domain is killed if it does not."""
        grace = calling.kill_after.get()
        stopping: Stopping = _ASKED if grace is None else self.life.stops.watch(lane.number, number, grace, name)
        self.life.speaker.interrupt(lane.number, number, main=self._main() is lane)
        return stopping

    def passes_through(self, error: BaseException) -> bool:
        """A KeyboardInterrupt in a call-back belongs to this program, not to the guest; a forbidden call ends it."""
        return isinstance(error, Misaimed) or not isinstance(error, Exception)

    def unheard(self, name: str, error: BaseException) -> None:
        """A one-way call of the guest's raised here."""
        self.life.unheard(name, error)


def _refuse(error: Callable[[], BaseException], *_: object, **__: object) -> NoReturn:
    raise error()
