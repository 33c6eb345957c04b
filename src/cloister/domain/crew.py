"""Threads for what must not run on the watcher: handlers of events, log records, the calls of a guest's own threads.

A crew is a bounded number of daemon threads that come when there is work and go when there is none. It is not a
`ThreadPoolExecutor`, because that one joins its threads at interpreter exit, and a handler that hangs would hang the
exit. `Queue` gives jobs that keep their order, one after the other, on any crew. Any thread may enter.

Where no thread can be started, because the interpreter is ending (3.12 and later refuse then) or the system has none
left, jobs wait for a thread that runs, for whoever calls `run_here`, or until the system has one again.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from cloister.conditions import Condition
from cloister.daemons import daemons
from cloister.levels.watcher import watcher

__all__ = ["Crew", "Queue", "begin_anew", "run_all_here", "workers"]

IDLE_S = 0.02
"""How long a thread waits for the next job before it goes. Making one costs 50 µs."""
AGAIN_S = 0.1
"""How soon it is tried again to start a thread where the system had none left."""

_log = logging.getLogger("cloister")
_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


class Crew:
    """At most `size` daemon threads."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self.begin_anew()
        _crews.add(self)

    def begin_anew(self) -> None:
        """Forget all jobs and threads, as a forked child must: the threads of its parent are not there."""
        self._jobs: deque[Callable[[], object]] = deque()
        self._condition = Condition()
        self._threads = 0
        self._idle = 0

    def run(self, job: Callable[[], object]) -> None:
        """Run a job on one of the threads, now or when one is free. What it raises is logged."""
        with self._condition:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._condition.notify()
            elif self._threads < self._size:
                self._threads += 1
                try:
                    threading.Thread(target=self._work, name=self._name, daemon=daemons()).start()
                except RuntimeError:
                    self._threads -= 1
                    if self._threads == 0:
                        watcher.at(time.monotonic() + AGAIN_S, self._try_again)

    @property
    def starved(self) -> bool:
        """Whether jobs wait, and there is no thread for them."""
        with self._condition:
            return bool(self._jobs) and not self._threads

    def _try_again(self) -> None:
        if self.starved:
            self.run(_nothing)

    def run_here(self, timeout: float) -> None:
        """Run what waits on the calling thread, for at most `timeout` seconds and the job that then runs."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with self._condition:
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            _run(job)

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
            _run(job)
            del job  # what it holds would live on while this thread waits


class Queue:
    """Jobs of one domain, run one after the other in their order; what waits is bounded in number and in size."""

    def __init__(self, crew: Crew, max_jobs: int, max_size: int) -> None:
        """`max_size` bounds the sum of the sizes that are given with the jobs, in bytes or any other unit."""
        self._crew = crew
        self._max_jobs, self._max_size = max_jobs, max_size
        self._jobs: deque[tuple[Callable[[], object], int]] = deque()
        self._size = 0
        self._lock = threading.RLock()  # a finalizer may unload the domain while it is held
        self._idle = Condition(self._lock)
        self._running = False
        self._drainer = 0
        self.dropped = 0
        """How many jobs were refused because too much waited."""

    def put(self, job: Callable[[], object], size: int = 0, always: bool = False) -> bool:
        """Add a job; False where too much waits, unless it is to be added `always`."""
        with self._lock:
            if not always and (len(self._jobs) >= self._max_jobs or self._size + size > self._max_size):
                self.dropped += 1
                return False
            self._jobs.append((job, size))
            self._size += size
            if not self._running:
                self._running = True
                self._crew.run(self._drain)
            return True

    @property
    def here(self) -> bool:
        """Whether the calling thread runs one of its jobs."""
        return self._drainer == threading.get_ident()

    def wait_empty(self, timeout: float | None) -> bool:
        """Wait until every job has run; False where they have not in time, and at once where a job of its own asks."""
        with self._lock:
            if self._drainer == threading.get_ident():
                return False
            return self._idle.wait_for(lambda: not self._running, timeout)

    def run_rest(self) -> None:
        """Run what waits, in a job of its own that waits for something which comes after it; anywhere else nothing."""
        while self.here:
            with self._lock:
                if not self._jobs:
                    return
                job, size = self._jobs.popleft()
                self._size -= size
            _run(job)
            del job

    def _drain(self) -> None:
        while True:
            with self._lock:
                self._drainer = threading.get_ident()
                if not self._jobs:
                    self._running, self._drainer = False, 0
                    self._idle.notify_all()
                    return
                job, size = self._jobs.popleft()
                self._size -= size
            _run(job)
            del job


def _nothing() -> None:
    """What is run so that a thread comes."""


def _run(job: Callable[[], object]) -> None:
    try:
        job()
    except BaseException:  # `sys.exit()` too: this thread is not the user's to end
        _log.exception("a handler raised; the domain goes on")


workers = Crew(8, "cloister-work")
"""Runs what is ours but may take long, or run a destructor or a reducer of the user's."""


def begin_anew() -> None:
    """Let every crew of a forked child begin anew."""
    for crew in list(_crews):
        crew.begin_anew()


def run_all_here(timeout: float) -> None:
    """Run what waits in every crew on the calling thread, for about `timeout` seconds in all."""
    end = time.monotonic() + timeout
    for crew in list(_crews):
        crew.run_here(end - time.monotonic())
