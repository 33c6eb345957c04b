"""The life of one domain: started, ready, stopping, ended.

Here are the states and who may move them. What the guest is told is in `speaker`, what it says is taken in by
`listener`, its own threads are served by `guest_threads`, its signs of life are judged by `guard`; what it needs before
it begins is in `preparation`, how it ends in `end`. What outlives all of them, the end of this program and its forks,
is in `living`. The state machine::

    STARTING --became_ready--> READY --stop--> STOPPING --has_ended--> ENDED
        \\------ stop, has_ended, the start time-out ----------------^

Who does what: a user's thread starts, waits, asks to stop; the watcher's thread does all else. Only `end` ends a life,
and only after the kernel has said that the process has ended.

Facts that hold: the first cause of the end is kept (`doom`), later ones are ignored, and so is ours where the process
has ended before. With ENDED `report` is set. A moment later no descriptor is open and every lane is broken; that is
what `wait_ended` waits for.
"""

from __future__ import annotations

import itertools
import time
import weakref
from typing import TYPE_CHECKING, Any

from cloister.domain import diagnosis, events, living
from cloister.domain.broken_lanes import KILL_S, LANE_PATIENCE_S
from cloister.domain.crew import Queue, workers
from cloister.domain.end import End
from cloister.domain.farewell import Farewell
from cloister.domain.guard import DUMP_S, Guard
from cloister.domain.guest_peer import GuestPeer
from cloister.domain.guest_threads import GuestThreads
from cloister.domain.guest_waits import GuestWaits
from cloister.domain.listener import Listener
from cloister.domain.moments import Moments
from cloister.domain.output import Output
from cloister.domain.parts import Parts
from cloister.domain.preparation import Preparation
from cloister.domain.reloading import Durables
from cloister.domain.resolving import Resolving
from cloister.domain.speaker import Speaker
from cloister.domain.state import State
from cloister.domain.stops import Stops
from cloister.domain.subscriptions import Subscriptions
from cloister.domain.suspension import Suspension
from cloister.domain.watching import Watching
from cloister.errors import CallTimeout, CannotUnload, DeadlockDetected, ProtocolError, WrongProcess
from cloister.levels import template
from cloister.levels.inside import Inside
from cloister.levels.watcher import Timer, watcher
from cloister.report import Reason, Report
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.domain.options import Options

__all__ = ["FLUSH_S", "KILL_S", "Life"]

FLUSH_S = 1.0
"""How long the last lines and events of a domain that is unloaded may take to be shown and handled."""
REFILL_S = 0.002
"""How long after a start its template is asked for another spare; whoever has started a guest waits for its answer."""
MAX_WAITING_WORK = 10_000

_identities = itertools.count(1)


class Life(Parts):
    """One domain, from start to report."""

    def __init__(
        self,
        name: str,
        options: Options,
        peer: type[GuestPeer] = GuestPeer,
        guest_threads: Callable[[Life], GuestThreads] = GuestThreads,
    ) -> None:
        """Start the guest, and return before it is ready. Raises StartFailed where nothing could be started.

        `peer` and `guest_threads` are how calls are made and served: by threads, or by event loops.
        """
        super().__init__()
        self.name = name
        self.identity = next(_identities)
        self.options = options
        self.state = State.STARTING
        self.report: Report | None = None
        self.python = ""
        """The Python version of the guest, once it has greeted."""
        self.stacks = ""
        """What it did when it was found to be unresponsive."""
        self.last_words: tuple[Reason, int | None, str] | None = None
        """Why it ends, as it says itself."""
        self.doom: tuple[Reason, str] | None = None
        """Why this program ends it: the first cause."""
        self._failure: BaseException | None = None
        self._was_ready = False
        self.foreign = False
        self.moments = Moments()
        self._lock = self.moments.lock
        self._timers: list[Timer] = []
        self.subscriptions = Subscriptions(options.handlers)
        self.queue = self.subscriptions.queue
        self.work = Queue(workers, MAX_WAITING_WORK, MAX_WAITING_WORK)
        self.watching = Watching(self)
        self.resolving = Resolving(self)
        self.durables = Durables()
        self.preparation = Preparation(name, self.identity, options, bool(self.watching.anything))
        order = self.preparation.order
        self.building = order is not None
        """Whether its virtual environment is being made; it greets when that is there."""
        self.oom_kills = diagnosis.oom_kills_lately(time.monotonic())
        self.process, page, lane = self.preparation.begin()
        self.started = time.monotonic()
        self.speaker = Speaker(self, page)
        self.listener = Listener(self)
        self.listener.set_up_early()
        self.peer = peer(name, self, page, lane, options.max_concurrency)
        self.output = Output(self, options.echo)
        self.guard = Guard(self)
        self.guest_threads = guest_threads(self)
        self.stops = Stops(self)
        self.waits = GuestWaits(self)
        self.farewell = Farewell(self)
        self.suspension = Suspension(self)
        self._end = End(self)
        living.add(self)
        if order is not None:
            self.guard.vitals.suspended = True
            self.speaker.send(Kind.BUILD, order)
        watcher.soon(self._attach)

    def keep_alive(self, domain: Any) -> None:
        """Let every proxy hold the domain, so that it is not forgotten while one is in use."""
        self.peer.imports.keep = weakref.ref(domain)

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether it serves calls."""
        return self.state is State.READY

    @property
    def serves_soon(self) -> bool:
        """Whether it was forked, and is ready as soon as it has run some lines of ours: a call need not wait for that,
        unless this is the thread that would hear of it."""
        return self.state is State.STARTING and self.process.forked and not (self.foreign or watcher.here)

    def note_answer(self) -> None:
        """It has answered a call: so it is ready, and that is known in a moment."""
        if self.serves_soon:
            self.moments.wait_moved(LANE_PATIENCE_S)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state is State.ENDED

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end, and has not yet."""
        return self.state is State.STOPPING

    @property
    def unloaded(self) -> bool:
        """Whether this program has ended the domain on purpose before."""
        return self.doom is not None and self.doom[0] in (Reason.UNLOADED, Reason.STOP_TIMEOUT)

    @property
    def inside(self) -> Inside | None:
        """Its place, where that is in this process: nothing can kill it there."""
        return self.process if isinstance(self.process, Inside) else None

    @property
    def lingers(self) -> bool:
        """Whether it was asked to end, and its code does not let it."""
        return self.inside is not None and self.state is State.STOPPING

    @property
    def unload_s(self) -> float:
        """How many seconds unloading takes at most."""
        return self.options.stop_timeout if self.inside else self.patience + KILL_S

    @property
    def patience(self) -> float:
        """How many seconds all steps of a stop take at most, but for the kernel's."""
        return self.options.stop_timeout * (2 if self.farewell.wanted else 1) + DUMP_S

    def error(self) -> BaseException:
        """What every use of this domain raises after its end, or while it is ending."""
        if self.foreign:
            return WrongProcess(f"domain {self.name!r} belongs to the parent of this process; make one here")
        report = self.report
        if report is None:
            reason, detail = self.doom or (Reason.UNKNOWN, "")
            lived = time.monotonic() - self.started
            report = Report(domain=self.name, pid=self.process.pid, reason=reason, detail=detail, seconds=lived)
        return diagnosis.verdict(report, self.unloaded, self._failure, self._was_ready)

    # -- any thread: wait, stop, kill --------------------------------------------------------------------------------

    def wait_ready(self, limit: float | None = None) -> None:
        """Wait until calls are served. `limit` is a time of `time.monotonic`.

        Raises CallTimeout at the limit, StartFailed, DomainCrashed or DomainUnloaded where it never will be, and
        DeadlockDetected in a finalizer that the garbage collector runs on the watcher's thread.
        """
        if self.state is State.READY:
            return
        if not self.foreign:
            if watcher.here and self.state is State.STARTING:
                raise DeadlockDetected(
                    f"domain {self.name!r} is not ready yet, and this finalizer runs on the thread that would learn of"
                    " it: its call was not made. Call wait_ready() before an object with such a finalizer is dropped"
                )
            left = None if limit is None else max(0.0, limit - time.monotonic())
            if not self.moments.wait_moved(left):
                raise CallTimeout(f"the time for the call was up before domain {self.name!r} was ready")
            state: State = self.state
            if state is State.READY:
                return
            if self.inside and not self.unloaded and not watcher.here:
                self.moments.wait_known(LANE_PATIENCE_S)  # for the report, unless its start hangs
        raise self.error()

    def stop(self) -> None:
        """Ask the guest to end; every further step follows by itself. Returns at once; idempotent.

        A guest that can't be asked, as there is no memory left for that, is killed; so is one that was being asked when
        a KeyboardInterrupt came, which is raised.
        """
        if self.foreign or self.process.has_ended() or not self.begin_use():
            return  # its end was first; `End` is on its way
        try:
            if self._begin_stop():
                self._end.ask()
        except Exception as error:  # who unloads a domain wants it to be gone, and may do so because memory is short
            self._kill_unasked(error)
        except BaseException as error:
            if self.doom is not None:  # it counts as asked by now, and nobody would ask again
                self._kill_unasked(error)
            raise
        finally:
            self.end_use()

    def _kill_unasked(self, error: BaseException) -> None:
        detail = f"it could not be asked to end: {type(error).__name__}: {error}"
        self.end_for(Reason.STOP_TIMEOUT, detail)
        self.stops_late(detail)

    def _begin_stop(self) -> bool:
        """Whether the guest is to be asked now."""
        with self._lock:
            if self.state in (State.STOPPING, State.ENDED):
                return False
            if self.doom is None:
                self.doom = (Reason.UNLOADED, "")
            self.suspension.resume()
            if self.state is State.READY and self.farewell.begin():
                return False
            self.state = State.STOPPING
            self.moments.moved()
            return True

    def forget(self) -> None:
        """Stop, where nobody holds the domain any more. May be called by a finalizer: takes no lock of this object."""
        if not self.foreign:
            watcher.soon(self.stop)

    def unload(self) -> None:
        """Stop, and wait until the domain has ended and its events were handled, the latter for at most `FLUSH_S`.

        Raises CannotUnload where the kernel, or at a level within this process its own code, does not let it end.
        """
        self.stop()
        if not watcher.here:
            self.queue.run_rest()  # a handler unloads it: those of `Unloading` come next, and would wait for this one
            self._wait_gone(self.unload_s)
            self.queue.wait_empty(FLUSH_S)

    def kill(self) -> None:
        """Kill the domain's whole tree, and wait until it has ended. Idempotent."""
        self.end_for(Reason.KILLED, "")
        self._wait_gone(KILL_S)

    def wait_ended(self, timeout: float | None = None) -> bool:
        """Wait for the end; False where it has not come in time."""
        return self.foreign or self.moments.wait_ended(timeout)

    def _wait_gone(self, timeout: float) -> None:
        self._end.hurry()
        if not self.wait_ended(timeout):
            raise self.not_gone()

    def not_gone(self) -> CannotUnload:
        """What whoever waits for the end is told who has waited long enough."""
        where = None if self.inside is None else self.inside.where()
        return diagnosis.still_there(self.name, self.process.pid, self.options.level, self.unload_s, where)

    def end_for(self, reason: Reason, detail: str) -> None:
        """Kill the tree; the first reason is kept, and that of the process itself where it has ended before."""
        if self.foreign or self.process.has_ended():
            return
        with self._lock:
            if self.state is State.ENDED:
                return
            if self.doom is None:
                self.doom = (reason, detail)
            if self.inside and self.state is not State.STOPPING:  # it may take long to end, or for ever
                self.state = State.STOPPING
                self.moments.moved()
        self.process.kill()
        if self.inside:
            self.peer.end(self.error)

    # -- any thread: tell ----------------------------------------------------------------------------------------------

    def unheard(self, where: str, error: BaseException) -> None:
        """Tell of an exception that nobody waits for."""
        self.tell(events.UnhandledException(self.name, self.process.pid, where, error))

    def tell(self, event: events.Event, size: int = 256) -> None:
        """Tell all who want to know; see `Subscriptions.tell`."""
        self.subscriptions.tell(event, size)

    # -- the watcher's thread ----------------------------------------------------------------------------------------

    def at(self, due: float, action: Callable[[], None]) -> Timer | None:
        """Run an action at a time of `time.monotonic`, unless the life is over by then. Any thread."""
        with self._lock:
            if self.state is State.ENDED:
                return None
            self._timers = [timer for timer in self._timers if timer.action is not None]
            timer = watcher.at(due, action)
            self._timers.append(timer)
            return timer

    def became_ready(self) -> None:
        """The guest has said that it serves calls."""
        with self._lock:
            if self.state is State.READY:
                raise ProtocolError("it was ready twice")
            if self.state is not State.STARTING:
                return
            self.state, self._was_ready = State.READY, True
            self.moments.moved()
            self.guard.vitals.began(time.monotonic())
            self.tell(events.Ready(self.name, self.process.pid))  # before `Unloading`, which another thread may begin
        if self.process.forked:
            watcher.at(time.monotonic() + REFILL_S, template.refill)

    def built(self) -> None:
        """The environment is there and the guest has greeted: the time for its start begins."""
        self.building = False
        now = time.monotonic()
        self.guard.vitals.resume(now)
        self._end.limit_start(now)

    def failed(self, error: BaseException) -> None:
        """The set-up has failed; the guest ends by itself."""
        if self.state is State.READY:
            raise ProtocolError("its set-up failed after it was ready")
        self._failure = error
        self.last_words = (Reason.START_FAILED, None, f"{type(error).__name__}: {error}")
        self.leaves()

    def leaves(self) -> None:
        """The guest has said its last words. Where no process ends with it, its lanes must be closed here."""
        if self.inside and self.last_words is not None:
            reason, _, detail = self.last_words
            self.end_for(reason, detail)

    def has_children(self) -> None:
        """The guest has processes of its own: it says so once while it serves, and again when it was told to stop.

        Raises ProtocolError where it can't have any.
        """
        if self.inside:
            raise ProtocolError("it told of its children, and is no process")
        self._end.note_children()

    def _attach(self) -> None:
        self.listener.watch()
        self._end.watch()
        self.guard.start()

    def stops_late(self, detail: str) -> None:
        """It did not end in the time that it had for that."""
        with self._lock:
            if self.doom is not None and self.doom[0] is Reason.UNLOADED:
                self.doom = (Reason.STOP_TIMEOUT, detail)

    def has_ended(self, report: Report) -> bool:
        """Its process has ended, and nothing happens to it by a timer any more. Whether a caller has its error now."""
        self.report = report
        with self._lock:
            self.state = State.ENDED
            timers, self._timers = self._timers, []
            awaited = self.moments.known()
        for timer in timers:
            timer.cancel()
        return awaited

    # -- a forked child of the host ----------------------------------------------------------------------------------

    def disown(self) -> None:
        """This is a forked child: close what it inherited, send nothing, and raise on every use."""
        self.foreign = True
        self.moments.disown()
        self._lock = self.moments.lock
        self.state = State.ENDED
        self._timers = []
        self.subscriptions.close()
        self.stops.disown()
        self.guest_threads.disown_shared()
        self.speaker.channel.disown()
        self.process.disown()
        self.peer.disown(self.error)
