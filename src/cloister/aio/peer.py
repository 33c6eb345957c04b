"""The guest, as an event loop sees it: calls are futures of the running loop, and no thread waits for any.

Each loop that calls a domain has one shared lane to it, from its first call until the loop or the domain ends. Calls
that are made before the domain is ready wait on the lane, in their order. Where concurrency is limited, a call waits
for a lane of the rack instead.

`LoopPeer.call` belongs to the threads of loops; what ends or disowns it may come from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from cloister import calling, waits
from cloister.aio import asleep
from cloister.aio.callbacks import LoopThreads, serving
from cloister.aio.limited import Desk, Errand, desk, home
from cloister.aio.moments import running_loop
from cloister.domain import broken_lanes
from cloister.domain.guest_peer import GuestPeer
from cloister.domain.state import State
from cloister.domain.submitted import Submitted
from cloister.domain.watching import run_aside
from cloister.errors import CallTimeout, CloisterError, ProtocolError
from cloister.lanes.loop_end import LoopEnd
from cloister.lanes.loop_shared import LoopCall, LoopShared
from cloister.lanes.method_call import MethodCall, MethodFuture
from cloister.objects.awaited import make_awaited_class
from cloister.pipes.duplex import SHARED_PIPE_BYTES, lane_pair
from cloister.report import Reason
from cloister.wire.messages import SERVICE, Role

if TYPE_CHECKING:
    from cloister.domain.life import Life
    from cloister.lanes.call_frames import Call
    from cloister.lanes.call_lane import CallLane
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page

__all__ = ["FUTURES", "METHODS", "Kind", "LoopPeer"]

Kind = tuple[type[LoopCall], type[asyncio.Future[Any]]]
METHODS: Kind = (MethodCall, MethodFuture)
FUTURES: Kind = (LoopCall, asyncio.Future)
"""What a call gives: on a lane of the loop, and where concurrency is limited."""


class LoopPeer(GuestPeer):
    """The other side of the wall, called from event loops."""

    _kept = GuestPeer._kept | {"_lock", "_loops", "_errands"}  # `asleep` asks every peer that there is

    def __init__(self, name: str, life: Life, page: Page | None, first: LaneEnd, max_concurrency: int | None) -> None:
        super().__init__(name, life, page, first, max_concurrency)
        self.awaits = True
        self.imports.make_class = make_awaited_class
        aside = life.resolving.resolve_aside  # a handler may block; the loop must not
        self._service["resolve"] = lambda *asked: asyncio.wrap_future(aside(*asked))
        self._loops: dict[asyncio.AbstractEventLoop, LoopShared] = {}
        self._errands: dict[int, Errand] = {}
        """The open calls where lanes are limited, by their strands."""
        asleep.watch(self)

    @property
    def _threads(self) -> LoopThreads:
        threads = self.life.guest_threads
        assert isinstance(threads, LoopThreads)
        return threads

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(
        self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int = 0
    ) -> asyncio.Future[Any]:
        """Call an object of the guest; return the future of the running loop, which may be used as a coroutine too.

        Every error is the future's.
        """
        return self.start(METHODS, target, name, args, kwargs, flags)

    def submit(
        self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int = 0
    ) -> Any:
        """As `call`, for a future that is nothing else."""
        return self.start(FUTURES, target, name, args, kwargs, flags)

    def start(
        self,
        kind: Kind,
        target: int,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        flags: int = 0,
    ) -> asyncio.Future[Any]:
        """As `call`, for a future of this kind."""
        loop = running_loop(self.name, f"{name}()")
        try:
            return self.begin(loop, target, name, args, kwargs, flags, kind)
        except Exception as error:
            future = kind[1](loop=loop)
            future.set_exception(error)
            return future

    def awaiting(self) -> bool:
        """Every call is."""
        return True

    def watch(self, what: str) -> None:
        """As the guest's, but nobody waits: asked on another thread, which is not a loop's."""
        run_aside(partial(_watch, super().call, what))

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        target: int,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        flags: int = 0,
        kind: Kind = FUTURES,
    ) -> asyncio.Future[Any]:
        """As `call`, on this loop, which runs on the calling thread; raises what can be said at once."""
        if self._rack is not None:
            return self._begin_limited(kind[1](loop=loop), target, name, args, kwargs, flags)
        limit = calling.deadline.get()
        here = serving.get()
        if here is not None and here[0].loop is loop and here[0].peer is self:
            nested = here[0].ask(here[1], target, name, args, kwargs, limit, flags, kind[0])
            if nested is not None:
                return nested
        lane = self._loops.get(loop)
        if lane is None or lane.ended:
            lane = self._lane_of(loop)
        options = calling.options_beside(limit, name)
        return lane.submit(target, name, args, kwargs, options, limit, flags, kind[0])

    def _begin_limited(self, call: asyncio.Future[Any], *args: Any) -> asyncio.Future[Any]:
        """Take a lane of the rack, on its thread; see `limited`."""
        loop, at = call.get_loop(), desk.get()
        if at is not None and at.peer is self and at.loop is loop and at.open:
            _couple(at.ask(args[1], partial(super().call, *args)), call)
            return call
        errand = Errand(loop)
        errand.call = call
        if self.life.state is State.STARTING:
            self.life.moments.when_moved(lambda: _on_loop(loop, self._begin_now, call, errand, args))
        else:
            self._send(call, errand, args)
        return call

    def _begin_now(self, call: asyncio.Future[Any], errand: Errand, args: tuple[Any, ...]) -> None:
        """The domain is ready, or never will be."""
        if call.done():
            return
        if self.life.over:  # its lanes may have been let go of
            call.set_exception(self.life.error())
            return
        try:
            self._send(call, errand, args)
        except Exception as error:
            call.set_exception(error)

    def _send(self, call: asyncio.Future[Any], errand: Errand, args: tuple[Any, ...]) -> None:
        """Let a thread of the crew make a call when it has a lane.

        Raises DeadlockDetected where the code that calls belongs to a call that has all the lanes.
        """
        assert self._rack is not None
        with waits.waiting(self._rack.resource, calling.deadline.get() is not None):
            pass  # it does not wait itself, but for a call that will
        submitted = errand.context.run(self._submit_limited, *args)
        assert isinstance(submitted, Submitted)
        strand = submitted.strand
        self._errands[strand] = errand

        def over(submitted: Future[Any]) -> None:
            self._errands.pop(strand, None)
            if submitted.cancelled() or isinstance(submitted.exception(), CallTimeout):
                errand.give_up()

        submitted.add_done_callback(over)
        _couple(submitted, call)

    def lane_here(self) -> CallLane | None:
        """The lane that this thread serves at this moment."""
        lane: CallLane | None = self._per_thread.here.lane
        return lane

    def serve(self, lane: CallLane, call: Call) -> Any:
        """Where lanes are limited: let the caller's loop run a call-back; on the thread of the lane."""
        errand = home.get()
        if errand is None:
            return super().serve(lane, call)
        here = self._per_thread.here
        before, here.lane = here.lane, (lane if call.number else None)
        try:
            return Desk(self, errand).run(call.name, lambda: self._in_context(lane, call))
        finally:
            here.lane = before

    def one_way(self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Call without waiting for an answer; what it raises over there becomes an event."""
        call = self.begin(running_loop(self.name, f"{name}()"), target, name, args, kwargs)

        def heard(call: asyncio.Future[Any]) -> None:
            error = None if call.cancelled() else call.exception()
            if error is not None and not self.life.over:
                self.life.unheard(name, error)

        call.add_done_callback(heard)

    # -- lanes -------------------------------------------------------------------------------------------------------

    def _lane_of(self, loop: asyncio.AbstractEventLoop) -> LoopShared:
        """Open the lane of a loop. Raises the errors of the domain."""
        life = self.life
        if life.foreign or life.state in (State.STOPPING, State.ENDED):
            raise life.error()
        hearing, saying, _ = self.shared_codecs()
        lane = LoopShared(
            loop, (hearing, saying), self.rebuild, self.shared.interrupt, lambda cause: self.lane_over(lane, cause)
        )
        with self._lock:
            for other in [each for each in self._loops if each.is_closed()]:
                self._loops.pop(other).disown(life.error)
            self._loops[loop] = lane
        self._threads.leave_closed_loops()
        if life.state is State.READY:
            self._open(lane)
        else:
            life.moments.when_moved(lambda: _on_loop(loop, self._open, lane))
        return lane

    def _open(self, lane: LoopShared) -> None:
        """The domain is ready, or never will be."""
        life = self.life
        if lane.ended:
            return
        if life.state is not State.READY:
            lane.fail(life.error)
            return
        try:
            host, guest = lane_pair(SHARED_PIPE_BYTES)
        except OSError as error:
            unopened = error
            lane.fail(lambda: unopened)
            return
        number = self.lanes.new_number()
        lane.open(host, number)
        life.speaker.hand_over(number, Role.SHARED, 0, guest)

    def lane_over(self, lane: LoopEnd, cause: BaseException) -> None:
        """The guest has ended the lane: find out why, without holding up the loop, and tell its callers."""
        life = self.life
        if isinstance(cause, ProtocolError):
            life.end_for(Reason.BAD_MESSAGE, f"{cause} (while calls of an event loop were answered)")
        self._follow(lane, broken_lanes.ending(life, "a call of an event loop"))

    def _follow(self, lane: LoopEnd, steps: Iterator[float]) -> None:
        seconds = None if self.life.over else next(steps, None)
        if seconds is None:
            lane.fail(self.life.error)
            return
        timer = lane.loop.call_later(seconds, self._follow, lane, steps)
        self.life.moments.when_known(lambda: _on_loop(lane.loop, self._cut_short, lane, timer))

    def _cut_short(self, lane: LoopEnd, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        lane.fail(self.life.error)

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """The loops that use the domain, the first one first."""
        with self._lock:
            loops = [loop for loop, lane in self._loops.items() if not (lane.ended or loop.is_closed())]
        loops += [loop for errand in list(self._errands.values()) if not (loop := errand.get_loop()).is_closed()]
        return list(dict.fromkeys(loops))

    def caller(self, strand: int) -> LoopCall | Errand | None:
        """The open call of a loop that is this strand."""
        errand = self._errands.get(strand)
        if errand is not None:
            return errand
        for lane in list(self._loops.values()):
            call = lane.strands.get(strand)
            if call is not None:
                return call
        return None

    def waits_for(self, strand: int) -> list[asyncio.Task[Any]]:
        """The tasks for which a strand waits in the guest; empty where it may do more than to wait. Any thread."""
        caller = self.caller(strand)
        if isinstance(caller, Errand):
            return caller.waits_for()
        threads = vars(self.life).get("guest_threads")
        if threads is None:
            return []  # nothing of the domain is left
        if caller is None:  # it has begun over there, or in another domain
            found: list[asyncio.Task[Any]] = threads.serves(strand)
            return found
        tasks = list(caller.served or ())
        return [] if any(map(threads.serves_coroutine, tasks)) else tasks

    def strand_of(self, call: asyncio.Future[Any]) -> int:
        """The strand whose answer a future is, where lanes are limited; 0 where it is none. Any thread."""
        return next((strand for strand, errand in list(self._errands.items()) if errand.call is call), 0)

    def has_strand(self, strand: int) -> bool:
        """As of every peer; with the calls of loops."""
        own = any(strand in lane.strands for lane in list(self._loops.values()))
        return own or self._threads.has_strand(strand) or super().has_strand(strand)

    def given_up(self, strand: int) -> bool:
        """Whether this strand is a call of a loop that nobody waits for any more."""
        return strand != 0 and any(strand in lane.left for lane in list(self._loops.values()))

    # -- what is known, and the end ----------------------------------------------------------------------------------

    def calls(self) -> tuple[str, ...]:
        """The names of the calls that this program waits for at this moment."""
        with self._lock:
            lanes = list(self._loops.values())
        names = [name for lane in lanes for name in lane.waiting]
        return (*super().calls(), *names, *self._threads.waiting())

    def end(self, error: Callable[[], BaseException], keep: bool = False) -> None:
        """Break every lane; each loop tells its callers."""
        super().end(error, keep)
        with self._lock:
            lanes = list(self._loops.values())
            self._loops.clear()
        for lane in lanes:
            lane.stop_from_afar(error)
        for errand in list(self._errands.values()):
            errand.give_up()
        self._threads.stop(error)

    def let_go(self) -> None:
        """As the guest's; whoever still calls is told so by the future."""
        error = self.life.error
        super().let_go()

        def refuse(*_: object) -> NoReturn:
            raise error()

        vars(self)["begin"] = refuse

    def disown(self, error: Callable[[], BaseException]) -> None:
        """This is a forked child."""
        super().disown(error)
        for lane in list(self._loops.values()):
            lane.disown(error)
        self._loops.clear()
        self._threads.disown(error)


def _couple(submitted: Future[Any], call: asyncio.Future[Any]) -> None:
    """Let a future of the loop have the outcome of one of a thread, which is cancelled with it."""
    call.add_done_callback(lambda call: submitted.cancel() if call.cancelled() else None)
    submitted.add_done_callback(lambda submitted: _on_loop(call.get_loop(), _copy, submitted, call))


def _copy(submitted: Future[Any], call: asyncio.Future[Any]) -> None:
    if not call.done():
        if submitted.cancelled():
            call.cancel()
        elif (error := submitted.exception()) is not None:
            call.set_exception(error)
        else:
            call.set_result(submitted.result())


def _on_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Call a function on the thread of a loop; a loop that is closed needs nothing any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


def _watch(call: Callable[..., Any], what: str) -> None:
    try:
        call(SERVICE, "watch", ([what],), None)
    except CloisterError:
        pass  # it has ended: there is nothing to watch
