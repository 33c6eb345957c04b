"""The clocks of a pool: work that is late, work that was given up and does not stop, work that waits behind something
long, workers that are idle for long.

A timer for each worker, not for each piece of work: it looks, and is set again. What is late is found and killed by the
watcher's thread, which runs no code of the user's here. Before a worker is killed, what waits there is taken back: it
might begin in that very moment.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from cloister.levels.watcher import watcher
from cloister.report import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloister.executor.work import Work
    from cloister.executor.worker import Worker
    from cloister.executor.workforce import Workforce
    from cloister.levels.watcher import Timer

__all__ = ["Clocks", "stop"]

LOOK_AGAIN_S: Final = 0.05
"""How soon a late worker is looked at again while its reading thread runs done-callbacks, or takes work back."""
LONG_S: Final = 0.004
"""What waits behind a piece of work that takes longer is taken back."""


class Clocks:
    """The clocks of one pool."""

    def __init__(self, force: Workforce, idle_timeout: float | None, kill_after: float | None) -> None:
        """Times are seconds; None for never."""
        self._force = force
        self._idle_timeout, self._kill_after = idle_timeout, kill_after
        self._ahead: Timer | None = None
        """That of `watch_ahead`. It does not happen where the watcher ends with the last domain."""

    def watch(self, worker: Worker) -> None:
        """See to it that what this worker does has its limit. With the lock of the workforce, or where it was sent."""
        work = worker.first
        due = None if work is None else work.due(worker.since)
        if due is not None and due < worker.look_at:
            worker.look_at = due
            worker.life.at(due, partial(self._look, worker))

    def _look(self, worker: Worker) -> None:
        """Kill a worker whose work is late."""
        worker.look_at = math.inf
        with self._force.lock:
            work = worker.first
            if work is None or worker.doomed:
                return
            due, now = work.due(worker.since), time.monotonic()
            if due is None:
                return
            # It has begun another item meanwhile, or has done all, or can't be heard, or is to give back what waits.
            if due > now or worker.delivering or worker.is_past(work) or worker.recall():
                worker.look_at = due = max(due, now + LOOK_AGAIN_S)
                worker.life.at(due, partial(self._look, worker))
                return
            worker.doomed, worker.late = True, work
        worker.life.end_for(Reason.KILLED, f"its task was not done after {now - worker.since:.3g} s")

    def give_up(self, worker: Worker, work: Work) -> None:
        """See to it that a worker ends whose work was given up and does not stop."""
        if self._kill_after is not None:
            worker.life.at(time.monotonic() + self._kill_after, partial(self._kill_given_up, worker, work))

    def _kill_given_up(self, worker: Worker, work: Work) -> None:
        with self._force.lock:
            if worker.first is not work or worker.doomed:
                return
            if worker.is_past(work) or worker.recall():
                worker.life.at(time.monotonic() + LOOK_AGAIN_S, partial(self._kill_given_up, worker, work))
                return
            worker.doomed = True
        worker.life.end_for(Reason.CANCELLED, f"its task was cancelled, and did not stop within {self._kill_after:g} s")

    def watch_ahead(self) -> None:
        """See to it that nothing waits for long behind what a worker does. With the lock of the workforce."""
        if (self._ahead is None or not self._ahead.pending) and self._force.max_workers > 1:
            self._ahead = watcher.at(time.monotonic() + LONG_S, self._look_ahead)

    def _look_ahead(self) -> None:
        """Take back what waits behind a piece of work that takes long."""
        with self._force.lock:
            now = time.monotonic()
            for worker in self._force.workers:
                if len(worker.queue) > 1:
                    self.watch_ahead()
                    if now - worker.first_since > LONG_S and not worker.is_past(worker.queue[0]):
                        worker.recall()

    def watch_idle(self, worker: Worker) -> None:
        """See to it that this worker, if it stays idle, is let go."""
        if self._idle_timeout is not None and not worker.idle_watched:
            worker.idle_watched = True
            worker.life.at(time.monotonic() + self._idle_timeout, partial(self._look_idle, worker))

    def _look_idle(self, worker: Worker) -> None:
        """Let a worker go that has been idle for long."""
        worker.idle_watched = False
        assert self._idle_timeout is not None
        with self._force.lock:
            if worker not in self._force.idle or worker.queue:
                return
            due = worker.idle_since + self._idle_timeout
            leaves = due <= time.monotonic()
            if leaves:
                self._force.drop(worker)
            else:
                worker.idle_watched = True
                worker.life.at(due, partial(self._look_idle, worker))
        if leaves:
            stop([worker])


def stop(workers: Iterable[Worker]) -> None:
    """Ask workers to end; returns at once."""
    for worker in workers:
        worker.let_go()
        worker.life.stop()
