"""The life of one domain: started, ready, stopping, ended.

Here are the states, who may move them, and the end with its report. What the guest says is taken in by `listener`, its
own threads are served by `guest_threads`, its signs of life are judged by `guard`, and what outlives all of them, the
end of this program and its forks, is in `living`. The state machine::

    STARTING --became_ready--> READY --stop--> STOPPING --_on_exit--> ENDED
        \\------ stop, _on_exit, the start time-out -----------------^

Who does what: a user's thread starts, waits, asks to stop; the watcher's thread does all else. Only `_on_exit` ends a
life, and only after the kernel has said that the process has ended.

Facts that hold: the first cause of the end is kept (`_doom`), later ones are ignored, and so is ours where the process
has ended before. After ENDED no descriptor is open, every lane is broken, and `report` is set. Every step of a stop is
bounded in time: tell those who want to know, `stop_timeout`; ask, `stop_timeout`; dump the stacks, `DUMP_S`; kill.
"""

from __future__ import annotations

import itertools
import selectors
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from cloister.domain import diagnosis, events, living, start, temporary
from cloister.domain.channel import Channel
from cloister.domain.crew import Crew, Queue
from cloister.domain.farewell import Farewell
from cloister.domain.guard import DUMP_S, Guard
from cloister.domain.guest_peer import GuestPeer
from cloister.domain.guest_threads import GuestThreads
from cloister.domain.listener import Listener
from cloister.domain.moments import Moments
from cloister.domain.output import Output
from cloister.domain.reloading import Durables
from cloister.domain.resolving import Resolving
from cloister.domain.shadow import Shadow
from cloister.domain.state import State
from cloister.domain.stops import Stops
from cloister.domain.subscriptions import Subscriptions
from cloister.domain.suspension import Suspension
from cloister.domain.watching import Watching
from cloister.errors import (
    CallTimeout,
    CannotUnload,
    DeadlockDetected,
    ProtocolError,
    StartFailed,
    WrongProcess,
)
from cloister.guest import interrupts
from cloister.levels.inside import Inside
from cloister.levels.watcher import Timer, watcher
from cloister.report import Reason, Report
from cloister.wire.messages import Kind, Role

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from cloister.domain.options import Options
    from cloister.levels.process import Process
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page

__all__ = ["Life"]

KILL_S = 10.0
"""How long a killed process may take to be gone. The kernel frees 20 GiB in a second; more than this is a broken disk
or driver, and then the domain can't be unloaded."""
LANE_PATIENCE_S = 1.0
"""How long a guest may live on after it has closed a lane. One that ends does it a moment before."""
FLUSH_S = 1.0
"""How long the last lines and events of a domain that is unloaded may take to be shown and handled."""
MAX_WAITING_WORK = 10_000

_workers = Crew(8, "cloister-work")
"""Runs what is ours but may run a destructor or a reducer of the user's."""
_identities = itertools.count(1)


class Life:
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
        self.name = name
        self._make_peer = peer
        self.identity = next(_identities)
        self.options = options
        self.state = State.STARTING
        self.report: Report | None = None
        self.python = ""
        self.stacks = ""
        self.last_words: tuple[Reason, int | None, str] | None = None
        self.oom_kills = 0
        self._doom: tuple[Reason, str] | None = None
        self._failure: BaseException | None = None
        self._was_ready = False
        self._foreign = False
        self._moments = Moments()
        self._lock = self._moments.lock
        self._timers: list[Timer] = []
        self.subscriptions = Subscriptions(options.handlers)
        self.queue = self.subscriptions.queue
        self.work = Queue(_workers, MAX_WAITING_WORK, MAX_WAITING_WORK)
        self.watching = Watching(self)
        self.resolving = Resolving(self)
        plan = start.plan(name, options.setup, options.level)
        self.building = plan.order is not None
        """Whether its virtual environment is being made; it greets when that is there."""
        self.setup = start.setup_message(name, self.identity, options.setup, options.watchdog, plan)
        if options.setup.preload and self.watching.anything:
            self.setup["shared"] = False  # its imports are told, so it makes them itself
        self.durables = Durables()
        self.shadow = None if not options.setup.shadow_copy else Shadow(name, self.setup["search"])
        self._folders: list[str] = []
        if self.shadow is not None:
            self.setup["search"] = self.shadow.search
            self._folders.append(self.shadow.folder)
        if options.setup.temp:
            self._folders.append(temporary.make(name))
            plan = plan.with_temp(self._folders[-1])
        try:
            watcher.enter()
            try:
                self._spawn(plan)
            except BaseException:
                watcher.leave()
                raise
        except (OSError, RuntimeError) as error:
            temporary.remove(*self._folders)
            raise StartFailed(f"domain {name!r} could not be started: {error}{living.advice(error)}") from error
        self.output = Output(self, options.echo)
        self.guard = Guard(self)
        self.listener = Listener(self)
        self.guest_threads = guest_threads(self)
        self.stops = Stops(self)
        self.farewell = Farewell(self)
        self.suspension = Suspension(self)
        living.add(self)
        if plan.order is not None:
            self.guard.vitals.suspended = True
            self.send(Kind.BUILD, plan.order)
        watcher.soon(self._attach)

    def _spawn(self, plan: start.Plan) -> None:
        self.oom_kills = diagnosis.oom_kills()
        self.process: Process | Inside
        self._page: Page | None = None
        if self.options.level == "process":
            self.process, self._page, lane = start.spawn_guest(plan, self.options.setup, self.setup)
        else:
            self.process, lane = start.begin_inside(self.options.level, self.name)
        self.started = time.monotonic()
        self.channel = Channel(self.process.control)
        self.peer = self._make_peer(self.name, self, self._page, lane, self.options.max_concurrency)

    def keep_alive(self, domain: Any) -> None:
        """Let every proxy hold the domain, so that it is not forgotten while one is in use."""
        self.peer.imports.keep = weakref.ref(domain)

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def lock(self) -> threading.RLock:
        """What the state and the moments change under."""
        return self._lock

    @property
    def ready(self) -> bool:
        """Whether it serves calls."""
        return self.state is State.READY

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
        return self._doom is not None and self._doom[0] in (Reason.UNLOADED, Reason.STOP_TIMEOUT)

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

    @property
    def foreign(self) -> bool:
        """Whether this process is a fork of the one that the domain belongs to."""
        return self._foreign

    def error(self) -> BaseException:
        """What every use of this domain raises after its end, or while it is ending."""
        if self._foreign:
            return WrongProcess(f"domain {self.name!r} belongs to the parent of this process; make one here")
        report = self.report
        if report is None:
            reason, detail = self._doom or (Reason.UNKNOWN, "")
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
        if not self._foreign:
            if watcher.here and self.state is State.STARTING:
                raise DeadlockDetected(
                    f"domain {self.name!r} is not ready yet, and this finalizer runs on the thread that would learn of"
                    " it: its call was not made. Call wait_ready() before an object with such a finalizer is dropped"
                )
            left = None if limit is None else max(0.0, limit - time.monotonic())
            if not self._moments.wait_moved(left):
                raise CallTimeout(f"the time for the call was up before domain {self.name!r} was ready")
            state: State = self.state
            if state is State.READY:
                return
            if self.inside and not self.unloaded and not watcher.here:
                self._moments.wait_ended(LANE_PATIENCE_S)  # for the report, unless its start hangs
        raise self.error()

    def ended(self, name: str) -> BaseException:
        """What a caller is told whose lane has failed: waits, for a bounded time, until the report is there."""
        for seconds in self.ending(name):
            self._moments.wait_ended(seconds)
        return self.error()

    def ending(self, name: str) -> Iterator[float]:
        """The steps of `ended`, for callers that wait in their own way: give how many seconds to wait for the end."""
        if self._foreign:
            return
        yield LANE_PATIENCE_S
        if self.state is State.READY and not self.process.has_ended():
            words = self.last_words
            if words is None:
                # The guest lives, but has closed this lane: only its own misbehaviour does that.
                self.end_for(Reason.BAD_MESSAGE, f"it closed the lane on which {name}() waited")
            else:
                yield self.options.stop_timeout
                if not self.over:
                    late = f"its exit hooks took longer than {self.options.stop_timeout:g} s, and it was killed in them"
                    self.end_for(words[0], f"{words[2]}\n{late}".lstrip())
        yield KILL_S

    def bad_message(self, error: ProtocolError, name: str) -> BaseException:
        """End the domain because of what it sent; returns what the caller is told."""
        self.end_for(Reason.BAD_MESSAGE, f"{error} (while {name}() was called)")
        self._moments.wait_ended(KILL_S)
        return self.error()

    def when_moved(self, tell: Callable[[], object]) -> None:
        """As `Moments.when_moved`."""
        self._moments.when_moved(tell)

    def when_ended(self, tell: Callable[[], object]) -> None:
        """As `Moments.when_ended`."""
        self._moments.when_ended(tell)

    def stop(self) -> None:
        """Ask the guest to end; every further step follows by itself. Returns at once; idempotent."""
        if self._foreign or self.process.has_ended():
            return  # its end was first; `_on_exit` is on its way
        with self._lock:
            if self.state in (State.STOPPING, State.ENDED):
                return
            if self._doom is None:
                self._doom = (Reason.UNLOADED, "")
            self.suspension.resume()
            if self.state is State.READY and self.farewell.begin():
                return
            self.state = State.STOPPING
            self._moments.moved()
        if not self.python:  # nothing of the user's has run in it yet
            self.process.kill()
            return
        _workers.run(self.process.remember_descendants)
        self.peer.end(self.error)
        self.send(Kind.STOP, int(self.options.stop_timeout * 1000))
        if self.inside:
            return  # there is no further step
        self.at(time.monotonic() + self.options.stop_timeout, self._dump_then_kill)

    def forget(self) -> None:
        """Stop, where nobody holds the domain any more. May be called by a finalizer: takes no lock of this object."""
        if not self._foreign:
            watcher.soon(self.stop)

    def unload(self) -> None:
        """Stop, and wait until the domain has ended and its events were handled, the latter for at most `FLUSH_S`.

        Raises CannotUnload where the kernel, or at a level within this process its own code, does not let it end.
        """
        self.stop()
        if not watcher.here:
            self._wait_gone(self.unload_s)
            self.queue.wait_empty(FLUSH_S)

    def kill(self) -> None:
        """Kill the domain's whole tree, and wait until it has ended. Idempotent."""
        self.end_for(Reason.KILLED, "")
        self._wait_gone(KILL_S)

    def wait_ended(self, timeout: float | None = None) -> bool:
        """Wait for the end; False where it has not come in time."""
        return self._foreign or self._moments.wait_ended(timeout)

    def _wait_gone(self, timeout: float) -> None:
        if not self.wait_ended(timeout):
            raise self.not_gone()

    def not_gone(self) -> CannotUnload:
        """What whoever waits for the end is told who has waited long enough."""
        where = None if self.inside is None else self.inside.where()
        return diagnosis.still_there(self.name, self.process.pid, self.options.level, self.unload_s, where)

    def end_for(self, reason: Reason, detail: str) -> None:
        """Kill the tree; the first reason is kept, and that of the process itself where it has ended before."""
        if self._foreign or self.process.has_ended():
            return
        with self._lock:
            if self.state is State.ENDED:
                return
            if self._doom is None:
                self._doom = (reason, detail)
            if self.inside and self.state is not State.STOPPING:  # it may take long to end, or for ever
                self.state = State.STOPPING
                self._moments.moved()
        self.process.kill()
        if self.inside:
            self.peer.end(self.error)

    # -- any thread: say, tell ---------------------------------------------------------------------------------------

    def send(self, kind: Kind, *body: Any) -> None:
        """Send a message on the control channel; never waits. A guest that reads none ends for it."""
        self._send(kind, body)

    def hand_over(self, number: int, role: Role, ticket: int, end: LaneEnd) -> None:
        """Give the guest its end of a lane. The descriptors are the channel's from here on."""
        self._send(Kind.LANE, (number, int(role), ticket), end)

    def send_descriptor(self, token: int, fd: int) -> None:
        """Give the guest a descriptor. It is the channel's from here on."""
        self._send(Kind.DESCRIPTOR, (token,), (fd,))

    def hand_segment(self, number: int, size: int, upwards: bool, ticket: int, fd: int) -> None:
        """Give the guest a segment of shared memory. The descriptor is the channel's from here on."""
        self._send(Kind.SEGMENT, (number, size, upwards, ticket), (fd,))

    def _send(self, kind: Kind, body: tuple[Any, ...], descriptors: tuple[int, ...] = ()) -> None:
        try:
            if self.channel.send(kind, body, descriptors, watcher.here):
                watcher.soon(self.listener.watch)
        except ProtocolError as error:
            self.end_for(Reason.BAD_MESSAGE, str(error))

    def interrupt(self, lane: int, number: int, main: bool) -> None:
        """Stop the code that serves a call; ignored where the call is over."""
        page = self._page
        if main and page is not None and lane < page.slots:
            page.cancels[2 * lane + 1] = number
            self.process.signal(interrupts.INTERRUPT)
        # Also after a signal: where the main thread was held up, another one serves its lane.
        self.send(Kind.CANCEL, lane, number)

    def dump(self) -> None:
        """Let the guest write the stacks of all its threads into the page, where it has come far enough for that."""
        if self.python:  # before its greeting the signal would end it
            self.process.signal(interrupts.DUMP)

    def take_stacks(self) -> str:
        """What the guest has written since the last time; empty where it has not."""
        page = self._page
        stacks = "" if page is None else page.take_stacks()
        if stacks:
            self.send(Kind.REWIND)
        return stacks

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
            self._moments.moved()
            self.tell(events.Ready(self.name, self.process.pid))  # before `Unloading`, which another thread may begin

    def built(self) -> None:
        """The environment is there and the guest has greeted: the time for its start begins."""
        self.building = False
        now = time.monotonic()
        self.guard.vitals.resume(now)
        self.at(now + self.options.start_timeout, self._on_start_timeout)

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

    def _attach(self) -> None:
        process = self.process
        self.listener.watch()
        for index, fd in enumerate(process.output):
            watcher.watch(fd, selectors.EVENT_READ, partial(self._on_output, index))
        if process.pidfd >= 0:
            watcher.watch(process.pidfd, selectors.EVENT_READ, self._on_exit)
        elif self.inside:
            self.inside.when_ended(partial(watcher.soon, self._on_exit))
        else:
            self._poll_exit()
        if not self.building:
            self.at(self.started + self.options.start_timeout, self._on_start_timeout)
        self.guard.start()

    def _on_output(self, index: int) -> None:
        if not self.output.read(index, self.process.output[index]):
            watcher.unwatch(self.process.output[index])

    def _on_start_timeout(self) -> None:
        if self.state is State.STARTING:
            self.dump()
            detail = f"it was not ready within {self.options.start_timeout:g} s"
            self.at(time.monotonic() + DUMP_S, lambda: self._kill_unless_ready(detail))

    def _kill_unless_ready(self, detail: str) -> None:
        if self.state is State.STARTING:
            self.end_for(Reason.START_TIMEOUT, detail)

    def _dump_then_kill(self) -> None:
        self.dump()
        self.at(time.monotonic() + DUMP_S, self._kill_late)

    def _kill_late(self) -> None:
        if self.process.has_ended():
            return
        with self._lock:
            if self._doom is not None and self._doom[0] is Reason.UNLOADED:
                detail = f"it did not end within {self.options.stop_timeout:g} s after it was asked to"
                self._doom = (Reason.STOP_TIMEOUT, detail)
        self.process.kill()

    def _poll_exit(self) -> None:
        """Where there is no pidfd: look for the end every now and then."""
        if self.process.has_ended():
            self._on_exit()
        else:
            self.at(time.monotonic() + 0.02, self._poll_exit)

    def _on_exit(self) -> None:
        """The process has ended: take what is left in its pipes, learn why, and tell everybody."""
        process = self.process
        calls = self.peer.calls()
        self.listener.drain()
        for index, fd in enumerate(process.output):
            self.output.finish(index, fd)
        if self.inside and self.inside.failure:
            self.output.tail.append(self.inside.failure)
        oom = diagnosis.oom_kills() != self.oom_kills
        ending = process.reap()
        stacks = self.take_stacks() or self.stacks
        reason, code, detail = diagnosis.reason(self._doom, self.last_words, ending, oom)
        self.report = Report(
            domain=self.name,
            pid=process.pid,
            reason=reason,
            exit_code=code,
            signal=ending.signal,
            detail=detail,
            calls=calls,
            stacks="" if reason is Reason.UNLOADED else stacks,
            output=tuple(self.output.tail),
            seconds=time.monotonic() - self.started,
            cpu_seconds=ending.cpu_seconds,
            peak_memory=ending.peak_memory,
        )
        for fd in (process.control.fileno(), *process.output, process.pidfd):
            watcher.unwatch(fd)
        with self._lock:
            self.state = State.ENDED
            timers, self._timers = self._timers, []
            self._moments.moved()
        for timer in timers:
            timer.cancel()
        self._page = None  # its last users are views of a lane that a thread is about to leave
        self.guest_threads.close()
        self.peer.end(self.error)
        self.channel.close()
        self.peer.segments.close()
        process.close()
        self.queue.put(self.peer.exports.clear, always=True)
        self.queue.put(partial(temporary.remove, *self._folders), always=True)
        self.tell(events.Exited(self.name, process.pid, self.report))
        living.remove(self)
        self._moments.ended()
        self.stops.end(self.report)
        watcher.leave()

    # -- a forked child of the host ----------------------------------------------------------------------------------

    def disown(self) -> None:
        """This is a forked child: close what it inherited, send nothing, and raise on every use."""
        self._foreign = True
        self._moments.disown()
        self._lock = self._moments.lock
        self.state = State.ENDED
        self._timers = []
        self.subscriptions.close()
        self.stops.disown()
        self.guest_threads.disown_shared()
        self.channel.disown()
        self.process.disown()
        self.peer.disown(self.error)
