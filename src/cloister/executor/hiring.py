"""How workers of a pool come: each is started by a thread that comes and goes, so that nobody who submits waits for it.

A worker that did not start, or died before it had begun anything, is a failure. After one, workers are started one by
one, each after a longer wait; after `MAX_FAILURES` in a row, with no worker left, the pool is broken.

`hire`, `failed` and `went_well` are called with the lock of the workforce; the rest without.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from cloister.domain.domain import Domain
from cloister.domain.events import Exited
from cloister.errors import StartFailed
from cloister.executor.clocks import stop
from cloister.executor.worker import Worker
from cloister.lanes.frame_lane import LaneClosed

if TYPE_CHECKING:
    from cloister.domain.life import Life
    from cloister.domain.options import Options
    from cloister.executor.work import Work
    from cloister.executor.workforce import Workforce

__all__ = ["Hiring"]

MAX_FAILURES: Final = 3
"""Workers in a row that did not start, until the pool is broken."""
FIRST_WAIT_S: Final = 0.1
"""The wait after the first failure; it doubles with each further one."""
STARTERS: Final = 4
"""Workers of one pool that are started at the same time."""


class Hiring:
    """Starts the workers of one pool."""

    def __init__(self, force: Workforce, options: Options) -> None:
        """`options` are those of its domains."""
        self._force, self._options = force, options
        self.lives: weakref.WeakSet[Life] = weakref.WeakSet()
        """All domains of the pool that were started and not forgotten since."""
        self.starting = 0
        self._started = 0
        self._failures = 0
        self._broken: tuple[str, StartFailed | None] | None = None
        self.outcasts: list[Work] = []
        """Work that nobody will do; whoever sends next fails it."""

    # -- with the lock -------------------------------------------------------------------------------------------------

    def hire(self) -> None:
        """Have workers started for the work that waits."""
        force = self._force
        wanted = min(len(force.pending), force.max_workers - len(force.workers), STARTERS) - self.starting
        if wanted <= 0 or force.needless:
            return
        if self._failures:
            wanted = min(wanted, 1 - self.starting)
        for _ in range(wanted):
            try:
                threading.Thread(target=self._start, name=f"cloister-{force.name}-start", daemon=True).start()
            except RuntimeError as error:  # the interpreter is ending, or the system has no thread left
                if not force.workers and not self.starting:
                    self._failures = MAX_FAILURES
                    self.outcasts += self._failed(error, -1)
                break
            self.starting += 1

    def failed(self, error: BaseException) -> list[Work]:
        """A worker has died before it had begun anything. Returns the work of a pool that is broken by it."""
        return self._failed(error, self._failures)

    def went_well(self) -> None:
        """A worker has done something."""
        self._failures = 0

    def _failed(self, error: BaseException, known: int) -> list[Work]:
        """A worker was a failure. `known` is the number of failures when it was started: those that were started
        together count once.
        """
        force = self._force
        if known == self._failures:
            self._failures += 1
        if self._failures < MAX_FAILURES or force.workers or self.starting:
            return []
        cause = error if isinstance(error, StartFailed) else None
        said = str(error) if cause is None else str(cause.args[0])
        self._broken = f"pool {force.name!r} is broken: no worker could be started: {said}", cause
        failed = [work for work in force.pending if not work.over]
        force.pending.clear()
        for work in failed:
            work.over = True
        return failed

    # -- any thread ----------------------------------------------------------------------------------------------------

    @property
    def broken(self) -> bool:
        """Whether no worker will ever be started again."""
        return self._broken is not None

    def breakdown(self) -> StartFailed:
        """Why the pool is broken."""
        assert self._broken is not None
        text, cause = self._broken
        error = StartFailed(text, None if cause is None else cause.report)
        error.__cause__ = cause
        return error

    # -- a starting thread ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start a worker, and give it work."""
        force = self._force
        with force.lock:
            known = self._failures
            self._started += 1
            name = f"{force.name}-{self._started}"
        if known:
            force.closing.wait(FIRST_WAIT_S * 2 ** (known - 1))
        worker: Worker | None = None
        error: BaseException | None = None
        life: Life | None = None
        try:
            if not force.needless:
                life = self._begin(name)
                life.wait_ready()
                worker = Worker(life)
        except LaneClosed:
            error = None if life is None else life.error()
        except Exception as raised:
            error = raised
        failed: list[Work] = []
        leaving: list[Worker] = []
        with force.lock:
            self.starting -= 1
            if worker is not None and force.needless:
                worker.doomed = True
                leaving.append(worker)
            elif worker is not None:
                force.workers.add(worker)
                force.idle.append(worker)
                worker.idle_since = time.monotonic()
            elif error is not None and not force.killed:
                failed = self._failed(error, known)
            given = force.handing.match()
            force.settled.notify_all()
        stop(leaving)
        force.handing.send(given)
        force.handing.fail(failed)
        if worker is not None:
            force.clocks.watch_idle(worker)

    def _begin(self, name: str) -> Life:
        """Make a domain, and let it be known before it is ready. Raises StartFailed."""
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
        with self._force.lock:
            self.lives.add(life)
        if self._force.needless:
            life.stop()
        return life
