"""The thread that runs the done-callbacks of a pool whose workers' reading threads have more to read.

A callback may wait for what the same worker has still to answer, so it must not hold up whoever reads that. Callbacks
run one after the other here; where one takes long and others wait, another thread goes on with those. Threads come when
there is something to run, and go. Any thread may enter.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cloister.conditions import Condition
from cloister.daemons import daemons
from cloister.levels.watcher import watcher

if TYPE_CHECKING:
    from cloister.levels.watcher import Timer

__all__ = ["Callbacks"]

IDLE_S: Final = 0.02
"""How long a thread waits for the next callback before it goes. Making one costs 50 µs."""
HELD_S: Final = 0.01
"""How long a callback may hold up the others."""
MOST: Final = 32
"""Threads of one pool for its callbacks."""


class Callbacks:
    """The done-callbacks of one pool."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: deque[Callable[[], object]] = deque()
        self._condition = Condition()  # a finalizer may complete a future while it is held
        self._threads = self._idle = 0
        self._taken = 0
        self.ending = False
        """The interpreter ends: what finds no thread is not run, because it might not return."""
        self._timer: Timer | None = None
        """Looks whether callbacks are held up. It does not happen where the watcher ends with the last domain."""

    def run(self, job: Callable[[], object]) -> None:
        """Run a job soon; where no thread can be had, on this one. It raises nothing."""
        with self._condition:
            self._jobs.append(job)
            if self._idle:
                self._condition.notify()
                if len(self._jobs) > self._idle:  # an idle thread that was called counts until it has woken
                    self._look_later()
                return
            if self._threads or self._start():
                self._look_later()
                return
            self._jobs.remove(job)
        if not self.ending:
            job()

    def _start(self) -> bool:
        """Start a thread. The lock is held."""
        self._threads += 1  # first: the thread may be gone again before Ctrl-C, or anything else, lets this one go on
        try:
            threading.Thread(target=self._work, name=f"cloister-{self._name}-callbacks", daemon=daemons()).start()
        except RuntimeError:  # the interpreter is ending, or the system has none left
            self._threads -= 1
            return False
        return True

    def _look_later(self) -> None:
        if self._timer is None or not self._timer.pending:
            taken = self._taken
            self._timer = watcher.at(time.monotonic() + HELD_S, lambda: self._look(taken))

    def _look(self, taken: int) -> None:
        """Where the callback that ran then runs still, let another thread go on. The watcher's thread."""
        with self._condition:
            if not self._jobs:
                return
            if self._taken == taken and not self._idle and self._threads < MOST:
                self._start()
            self._look_later()

    def _work(self) -> None:
        while True:
            with self._condition:
                if not self._jobs:
                    self._idle += 1
                    self._condition.wait(IDLE_S)
                    self._idle -= 1
                if not self._jobs:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
                self._taken += 1
            job()
            del job  # what it holds would live on while this thread waits
