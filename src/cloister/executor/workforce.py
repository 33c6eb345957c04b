"""The workers of a pool, and what waits for them: what may be asked of a pool, and what it has.

How workers come is in `hiring`, who gets which work, and what becomes of it, in `handing`; what is late is found by
`clocks`. Event-driven: there is no thread for a worker but the one that reads its answers.

`submit`, `give_up`, `settle` and the ends may be called by any thread, from a finalizer too. `lock` guards all state;
it is not held while code of the user's runs.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from cloister.conditions import Condition
from cloister.errors import WrongProcess
from cloister.executor.clocks import Clocks, stop
from cloister.executor.handing import Handing
from cloister.executor.hiring import Hiring
from cloister.executor.seats import Seats
from cloister.levels.watcher import watcher
from cloister.report import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.domain.options import Options
    from cloister.executor.work import Work
    from cloister.executor.worker import Worker

__all__ = ["Workforce"]

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
        self.name, self.max_workers = name, max_workers
        self._begin_locks()
        self.pending: deque[Work] = deque()
        """What no worker has. Some of it may be over."""
        self.idle: list[Worker] = []
        self.workers: set[Worker] = set()
        """Those that may get work."""
        self.delivering: set[int] = set()
        """The threads that run done-callbacks."""
        self._open = 0
        """Pieces of work whose futures are not done."""
        self._closed = False
        self.cancelling = False
        """What has not begun is to be cancelled."""
        self.killed = False
        self.foreign = False
        """This process is a fork of the one that the pool belongs to."""
        self.clocks = Clocks(self, idle_timeout, kill_after)
        self.hiring = Hiring(self, options)
        self.handing = Handing(self, max_tasks)
        self.seats = Seats(self)
        _forces.add(self)

    def _begin_locks(self) -> None:
        self.lock = threading.RLock()  # a finalizer may submit, cancel or forget a pool while it is held
        self.settled = Condition(self.lock)
        self.closing = threading.Event()

    # -- what is known -------------------------------------------------------------------------------------------------

    def under_way(self) -> list[Work]:
        """What the workers do at this moment."""
        return [work for worker in list(self.workers) if (work := worker.first) is not None]

    @property
    def needless(self) -> bool:
        """Whether no further worker is needed: the pool is closed, and nothing is open."""
        return self.killed or (self._closed and not self._open)

    # -- any thread: work ----------------------------------------------------------------------------------------------

    def submit(self, work: Work) -> None:
        """Take work in. Raises RuntimeError after the shutdown, StartFailed where the pool is broken, WrongProcess."""
        if self.foreign:
            raise WrongProcess(f"pool {self.name!r} belongs to the parent of this process; make one here")
        try:
            with self.lock:
                if self.hiring.broken:
                    raise self.hiring.breakdown()
                if self._closed:
                    raise RuntimeError(f"cannot schedule new futures after shutdown of pool {self.name!r}")
                self._open += 1
                self.pending.append(work)
                if self.idle or len(self.pending) == 1:
                    given = self.handing.match()
                else:  # nobody has had room for what came before it
                    given = []
                    self.hiring.hire()
        except Exception:
            raise
        except BaseException:  # Ctrl-C
            self.handing.go_on_elsewhere()
            raise
        self.handing.send(given)

    def give_up(self, work: Work) -> bool:
        """Let work be over: what waits never begins, what runs is told to stop. False where it is over already."""
        with self.lock:
            if work.over or self.foreign:
                return False
            work.over = work.given_up = True
        self.stop(work)
        return True

    def stop(self, work: Work) -> None:
        """Tell work that was given up to stop, where it runs."""
        with self.lock:
            worker, number = work.worker, work.number
        if worker is not None:
            self.clocks.give_up(worker, work)
            if number:
                worker.interrupt(number)

    def settle(self, work: Work) -> None:
        """The future of this work is done. Where it was the last one, a closed pool lets its workers go.

        Where it was told before, nothing is counted again.
        """
        with self.lock:
            if not work.settled:
                work.settled = True
                self._open -= 1
            leaving = self._leave() if self._closed and not self._open else []
            if not self._open:
                self.settled.notify_all()
        stop(leaving)

    def run_callbacks(self, work: Work, run: Callable[[], object]) -> None:
        """Have the done-callbacks of a piece of work run on the thread for that."""
        self.handing.run_callbacks(work, run)

    # -- with the lock -------------------------------------------------------------------------------------------------

    def next_work(self) -> Work | None:
        """What waits the longest, which is the first of what waits then; None where nothing does."""
        pending = self.pending
        while pending and pending[0].over:
            del pending[0]
        return pending[0] if pending else None

    def drop(self, worker: Worker) -> None:
        """This worker gets no more work."""
        worker.doomed = True
        self.workers.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)

    def _leave(self) -> list[Worker]:
        """All workers leave."""
        leaving = list(self.workers)
        for worker in leaving:
            self.drop(worker)
        self.closing.set()
        return leaving

    # -- any thread: the end -------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool, cancel: bool) -> None:
        """Take no more work; see `DomainPoolExecutor.shutdown`."""
        if self.foreign:
            return
        waiting: list[Work] = []
        with self.lock:
            self._closed = True
            if cancel:
                self.cancelling = True
                waiting = list(self.pending)
                for worker in self.workers:
                    worker.recall()
            leaving = [] if self._open else self._leave()
            if not self._open:
                self.closing.set()
        stop(leaving)
        for work in waiting:
            work.future.cancel()
        if wait and threading.get_ident() not in self.delivering and not watcher.here:
            with self.settled:
                self.settled.wait_for(lambda: not self._open and not self.hiring.starting)
            for life in list(self.hiring.lives):
                life.wait_ended(life.patience + END_S)

    def kill(self) -> None:
        """Kill every worker at once, and take no more work. Waits for nothing."""
        if self.foreign:
            return
        with self.lock:
            self._closed = self.killed = True
            self.closing.set()
            waiting, lives = list(self.pending), list(self.hiring.lives)
        for work in waiting:
            work.future.cancel()
        for life in lives:
            life.end_for(Reason.KILLED, f"pool {self.name!r} was told to kill its workers")

    def forget(self) -> None:
        """Nobody holds the pool any more: let it end when its work is done. May be called by a finalizer."""
        if not self.foreign:
            self._closed = True
            watcher.soon(partial(self.shutdown, False, False), keep=True)

    def abandon(self) -> None:
        """The interpreter ends: begin nothing more, and let the domains be stopped.

        Done-callbacks of what is cancelled run on a daemon thread where there may be one: they can't hang the end.
        """
        with self.lock:
            self._closed = self.killed = True
            self.closing.set()
            waiting = list(self.pending)
        self.handing.callbacks.ending = True
        for work in waiting:
            work.future.hops = True
            work.future.cancel()

    def disown(self) -> None:
        """This is a forked child: the pool is its parent's."""
        self.foreign = True
        self._begin_locks()
        self.pending.clear()


def _abandon_all() -> None:
    for force in list(_forces):
        force.abandon()


def _disown_all() -> None:
    for force in list(_forces):
        force.disown()


atexit.register(_abandon_all)  # after that of `domain.living`, so it runs before
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
