"""The workers of a pool, and what waits for them: who gets which work, and when a worker comes and goes.

Event-driven: there is no thread for a worker but the one that reads its answers, and it takes the next work from here.
Workers are started by threads that come and go (`_start`), so that nobody who submits waits for a start.

Which thread does what: whoever submits work sends it, where a worker is idle; the reading thread of a worker takes its
answers in, completes futures and sends it the next work; a starting thread does so for the first work of its worker,
and fails the futures of a pool that is broken; the watcher kills what is late. No lock is held while code of the user's
runs: encoding arguments, done-callbacks.

A worker that did not start, or died before it had done anything, is a failure. After one, workers are started one by
one, each after a longer wait; after `MAX_FAILURES` in a row, with no worker left, the pool is broken.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.domain import broken_lanes
from cloister.domain.domain import Domain
from cloister.domain.events import Exited
from cloister.errors import CallCancelled, DomainCrashed, ProtocolError, StartFailed, WrongProcess
from cloister.executor.clocks import Clocks, stop
from cloister.executor.seats import Seats
from cloister.executor.work import late
from cloister.executor.worker import Worker
from cloister.lanes.frame_lane import LaneClosed
from cloister.levels.watcher import watcher
from cloister.report import Reason

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloister.domain.life import Life
    from cloister.domain.options import Options
    from cloister.executor.work import Work

__all__ = ["Workforce"]

MAX_FAILURES: Final = 3
"""Workers in a row that did not start, until the pool is broken."""
FIRST_WAIT_S: Final = 0.1
"""The wait after the first failure; it doubles with each further one."""
STARTERS: Final = 4
"""Workers of one pool that are started at the same time."""
END_S: Final = 10.0
"""How long the kernel may take to end a killed worker, until a shutdown goes on without it."""

_forces: weakref.WeakSet[Workforce] = weakref.WeakSet()


class Workforce:
    """The workers of one pool."""

    def __init__(
        self,
        name: str,
        max_workers: int,
        options: Options,
        max_tasks: int | None,
        idle_timeout: float | None,
        kill_after: float | None,
    ) -> None:
        """`options` are those of its domains. Starts nothing."""
        self.name, self.max_workers, self._options = name, max_workers, options
        self._max_tasks = max_tasks
        self._clocks = Clocks(self, idle_timeout, kill_after)
        self._begin_locks()
        self._pending: deque[Work] = deque()
        self.idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._lives: weakref.WeakSet[Life] = weakref.WeakSet()
        self._delivering: set[int] = set()
        self._outcasts: list[Work] = []
        """Work that nobody will do; the next `_send` fails it."""
        self._starting = 0
        self._started = 0
        self._failures = 0
        self._open = 0
        """Pieces of work whose futures are not done."""
        self._closed = False
        self._killed = False
        self._broken: tuple[str, StartFailed | None] | None = None
        self.foreign = False
        """This process is a fork of the one that the pool belongs to."""
        self.seats = Seats(self)
        _forces.add(self)

    def under_way(self) -> list[Work]:
        """What the workers have at this moment."""
        return [work for worker in list(self._workers) if (work := worker.work) is not None]

    def _begin_locks(self) -> None:
        self.lock = threading.RLock()  # a finalizer may submit, cancel or forget a pool while it is held
        self._settled = threading.Condition(self.lock)
        self._closing = threading.Event()

    # -- any thread --------------------------------------------------------------------------------------------------

    def submit(self, work: Work) -> None:
        """Take work in. Raises RuntimeError after the shutdown, StartFailed where the pool is broken, WrongProcess."""
        if self.foreign:
            raise WrongProcess(f"pool {self.name!r} belongs to the parent of this process; make one here")
        with self.lock:
            if self._broken is not None:
                raise self._breakdown()
            if self._closed:
                raise RuntimeError(f"cannot schedule new futures after shutdown of pool {self.name!r}")
            self._open += 1
            self._pending.append(work)
            pairs = self._match()
        self._send(pairs)

    def give_up(self, work: Work) -> bool:
        """Let work be over: what waits never begins, what runs is told to stop. False where it is over already."""
        with self.lock:
            if work.over or self.foreign:
                return False
            work.over = True
            worker, number = work.worker, work.number
        if worker is not None:
            self._clocks.give_up(worker, work)
            if number:
                worker.interrupt(number)
        return True

    def settle(self, work: Work) -> None:
        """The future of this work is done. Where it was the last one, a closed pool lets its workers go."""
        with self.lock:
            self._open -= 1
            leaving = self._leave() if self._closed and not self._open else []
            if not self._open:
                self._settled.notify_all()
        stop(leaving)

    def shutdown(self, wait: bool, cancel: bool) -> None:
        """Take no more work; see `DomainPoolExecutor.shutdown`."""
        if self.foreign:
            return
        with self.lock:
            self._closed = True
            waiting = list(self._pending) if cancel else []
            leaving = [] if self._open else self._leave()
            if not self._open:
                self._closing.set()
        stop(leaving)
        for work in waiting:
            work.future.cancel()
        if wait and threading.get_ident() not in self._delivering and not watcher.here:
            with self._settled:
                self._settled.wait_for(lambda: not self._open and not self._starting)
            for life in list(self._lives):
                life.wait_ended(life.patience + END_S)

    def kill(self) -> None:
        """Kill every worker at once, and take no more work. Waits for nothing."""
        if self.foreign:
            return
        with self.lock:
            self._closed = self._killed = True
            self._closing.set()
            waiting, lives = list(self._pending), list(self._lives)
        for work in waiting:
            work.future.cancel()
        for life in lives:
            life.end_for(Reason.KILLED, f"pool {self.name!r} was told to kill its workers")

    def forget(self) -> None:
        """Nobody holds the pool any more: let it end when its work is done. May be called by a finalizer."""
        if not self.foreign:
            self._closed = True
            watcher.soon(partial(self.shutdown, False, False))

    def abandon(self) -> None:
        """The interpreter ends: begin nothing more, and let the domains be stopped."""
        with self.lock:
            self._closed = self._killed = True
            self._closing.set()
            waiting = list(self._pending)
        for work in waiting:
            work.future.cancel()

    def disown(self) -> None:
        """This is a forked child: the pool is its parent's."""
        self.foreign = True
        self._begin_locks()
        self._pending.clear()

    # -- with the lock -----------------------------------------------------------------------------------------------

    def _match(self) -> list[tuple[Worker, Work]]:
        """Give work to the idle workers, and have more started where work is left. Returns what is to be sent."""
        pairs: list[tuple[Worker, Work]] = []
        while self.idle and (work := self._next_work()) is not None:
            worker = self.idle.pop()
            self._assign(worker, work)
            pairs.append((worker, work))
        wanted = min(len(self._pending), self.max_workers - len(self._workers), STARTERS) - self._starting
        if self._failures:
            wanted = min(wanted, 1 - self._starting)
        for _ in range(0 if self._killed else wanted):
            try:
                threading.Thread(target=self._start, name=f"cloister-{self.name}-start", daemon=True).start()
            except RuntimeError as error:  # the interpreter is ending, or the system has no thread left
                self._unstartable(error)
                break
            self._starting += 1
        return pairs

    def _unstartable(self, error: RuntimeError) -> None:
        """No worker can be started. Where there is none, the pool is broken."""
        if not self._workers and not self._starting:
            self._failures = MAX_FAILURES
            self._outcasts += self._failed(error, -1)

    def _next_work(self) -> Work | None:
        while self._pending:
            work = self._pending.popleft()
            if not work.over:
                return work
        return None

    def _assign(self, worker: Worker, work: Work) -> None:
        worker.work, worker.since = work, time.monotonic()
        work.begin(worker)

    def _free(self, worker: Worker) -> tuple[Work | None, list[Worker]]:
        """A worker has nothing to do: the next work for it, and the workers that are to leave."""
        if worker.doomed:  # it is being killed, and was quicker
            self.drop(worker)
            return None, []
        if self._max_tasks is not None and worker.served >= self._max_tasks:
            self.drop(worker)
            return None, [worker]
        work = self._next_work()
        if work is not None:
            self._assign(worker, work)
        else:
            self.idle.append(worker)
            worker.idle_since = time.monotonic()
        return work, []

    def drop(self, worker: Worker) -> None:
        """This worker gets no more work. The lock is held."""
        worker.doomed = True
        self._workers.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)

    def _leave(self) -> list[Worker]:
        """All workers leave."""
        leaving = list(self._workers)
        for worker in leaving:
            self.drop(worker)
        self._closing.set()
        return leaving

    def _failed(self, error: BaseException, known: int) -> list[Work]:
        """A worker was a failure. `known` is the number of failures when it was started: those that were started
        together count once. Returns the work of a pool that is broken by it.
        """
        if known == self._failures:
            self._failures += 1
        if self._failures < MAX_FAILURES or self._workers or self._starting:
            return []
        text = f"pool {self.name!r} is broken: no worker could be started: "
        self._broken = (
            text + str(error.args[0] if isinstance(error, StartFailed) else error),
            (error if isinstance(error, StartFailed) else None),
        )
        failed, self._pending = [work for work in self._pending if not work.over], deque()
        for work in failed:
            work.over = True
        return failed

    def _breakdown(self) -> StartFailed:
        assert self._broken is not None
        text, cause = self._broken
        error = StartFailed(text, None if cause is None else cause.report)
        error.__cause__ = cause
        return error

    def _take_back(self, work: Work) -> None:
        """Let another worker do this work."""
        work.worker, work.number = None, 0
        self._pending.appendleft(work)

    # -- sending and completing, without the lock --------------------------------------------------------------------

    def _send(self, pairs: list[tuple[Worker, Work]]) -> None:
        for worker, work in pairs:
            self._give(worker, work)
        if self._outcasts:
            with self.lock:
                outcasts, self._outcasts = self._outcasts, []
            self._fail(outcasts)

    def _give(self, worker: Worker, work: Work | None) -> None:
        """Send a worker the work that it was assigned, or the next where that can't be sent."""
        while work is not None:
            try:
                worker.send(work, partial(self._answered, worker, work))
            except LaneClosed:
                self._gone(worker, work)
                return
            except Exception as error:
                work.fail(error)
                work = self._done(worker, work, True)
            except BaseException as error:  # Ctrl-C: nobody knows what the worker has got
                with self.lock:
                    self.drop(worker)
                worker.life.end_for(Reason.KILLED, f"{type(error).__name__} came while a task was sent")
                work.fail(error)
                self._done(worker, work, True)
                raise
            else:
                if work.over:
                    worker.interrupt(work.number)  # it was given up in the middle of this, or is done already
                self._clocks.watch(worker, work)
                return

    def _done(self, worker: Worker, work: Work, deliver_first: bool) -> Work | None:
        """A worker has done its work: complete the future. Returns work for it that is not sent yet.

        `deliver_first` keeps the worker free while done-callbacks run; they may wait for others.
        """
        with self.lock:
            worker.work = None
            mine, work.over = not work.over, True
        if mine and deliver_first:
            self._deliver(worker, work)
        with self.lock:
            following, leaving = self._free(worker)
            pairs = self._match() if following is None else []
        stop(leaving)
        self._send(pairs)
        if following is None:
            self._clocks.watch_idle(worker)
        if mine and not deliver_first:
            self._give(worker, following)
            following = None
            self._deliver(worker, work)
        return following

    def _deliver(self, worker: Worker | None, work: Work) -> None:
        """Complete a future; its callbacks run here."""
        me = threading.get_ident()
        outer = me in self._delivering
        self._delivering.add(me)
        if worker is not None:
            worker.delivering = True
        try:
            work.deliver()
        finally:
            if worker is not None:
                worker.delivering = False
            if not outer:
                self._delivering.discard(me)
            self.settle(work)

    # -- the reading thread of a worker ------------------------------------------------------------------------------

    def _answered(self, worker: Worker, work: Work, answer: Future[Any]) -> None:
        error = answer.exception()
        if error is not None and worker.lost(error):
            self._died(worker, work, error)
            return
        try:
            if error is None:
                work.answer(answer.result())
            else:
                work.fail(error)
        except ProtocolError as bad:
            self._died(worker, work, broken_lanes.bad_message(worker.life, bad, work.service))
            return
        worker.served += work.count
        self._failures = 0
        self._give(worker, self._done(worker, work, work.future.has_callbacks))

    def _died(self, worker: Worker, work: Work, crash: BaseException) -> None:
        """A worker has died with this work, or was ended with it."""
        error = crash
        if worker.late and isinstance(crash, DomainCrashed):
            error = late(crash)
        elif not isinstance(crash, DomainCrashed):
            error = CallCancelled(f"pool {self.name!r} was ended before the task was done")
            error.__cause__ = crash
        noted = worker.noted()
        worker.let_go()
        failed: list[Work] = []
        with self.lock:
            worker.work = None
            self.drop(worker)
            mine = not work.over
            again = mine and not self._killed and work.left(noted, crash, error)
            if again:
                self._take_back(work)
            elif mine:
                work.over = True
                if self._killed:
                    work.fail(error)
            if not worker.served and noted == 0:
                failed = self._failed(crash, self._failures)
            pairs = self._match()
        self._send(pairs)
        if mine and not again:
            self._deliver(None, work)
        self._fail(failed)

    # -- any thread: what did not come about -------------------------------------------------------------------------

    def _gone(self, worker: Worker, work: Work) -> None:
        """A worker had died before it could be sent this work."""
        failed: list[Work] = []
        with self.lock:
            worker.work = None
            self.drop(worker)
            mine = not work.over
            if mine and self._killed:
                work.over = True
                work.fail(CallCancelled(f"pool {self.name!r} was ended before the task began"))
            elif mine:
                work.sendings -= 1
                self._take_back(work)
            if not worker.served:
                failed = self._failed(worker.life.error(), self._failures)
            pairs = self._match()
        self._send(pairs)
        if mine and work.over:
            self._deliver(None, work)
        self._fail(failed)

    def _fail(self, works: list[Work]) -> None:
        """The pool is broken: nobody will do this work."""
        for work in works:
            work.fail(self._breakdown())
            self._deliver(None, work)

    # -- a starting thread -------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start a worker, and give it work."""
        with self.lock:
            known = self._failures
            self._started += 1
            name = f"{self.name}-{self._started}"
        if known:
            self._closing.wait(FIRST_WAIT_S * 2 ** (known - 1))
        worker: Worker | None = None
        error: BaseException | None = None
        life: Life | None = None
        try:
            if not self._needless():
                options = self._options
                domain = Domain(
                    name,
                    setup=options.setup,
                    watchdog=options.watchdog,
                    start_timeout=options.start_timeout,
                    stop_timeout=options.stop_timeout,
                    echo=options.echo,
                    on=dict(options.handlers),
                )
                life = domain._life
                # Its life holds the domain until the end: nobody forgets the domain of a pool.
                domain.on(Exited, lambda _, keep=domain: None)  # type: ignore[misc]  # a lambda that keeps
                with self.lock:
                    self._lives.add(life)
                if self._needless():
                    life.stop()
                life.wait_ready()
                worker = Worker(life)
        except LaneClosed:
            error = None if life is None else life.error()
        except Exception as raised:
            error = raised
        failed: list[Work] = []
        leaving: list[Worker] = []
        with self.lock:
            self._starting -= 1
            if worker is not None and (self._killed or (self._closed and not self._open)):
                worker.doomed = True
                leaving.append(worker)
            elif worker is not None:
                self._workers.add(worker)
                self.idle.append(worker)
                worker.idle_since = time.monotonic()
            elif error is not None and not self._killed:
                failed = self._failed(error, known)
            pairs = self._match()
            self._settled.notify_all()
        stop(leaving)
        self._send(pairs)
        self._fail(failed)
        if worker is not None:
            self._clocks.watch_idle(worker)

    def _needless(self) -> bool:
        return self._killed or (self._closed and not self._open)


def _abandon_all() -> None:
    for force in list(_forces):
        force.abandon()


def _disown_all() -> None:
    for force in list(_forces):
        force.disown()


atexit.register(_abandon_all)  # after that of `domain.living`, so it runs before
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
