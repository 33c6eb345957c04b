"""A bounded pool of threads for the calls of a shared lane.

It is not a `ThreadPoolExecutor`, because the interpreter waits for the threads of that one before it ends, and a call
that hangs would hang the end of the domain. Threads come when there is work and go after `IDLE_S` without.

Threads of one interpreter take turns, and a turn costs more than a short job. So a further thread is not called for
each job that waits, but where jobs wait and are not taken quickly: because they wait for something, or take long. That
is found by whoever calls `look`, every `LOOK_S` while jobs wait.

A thread that waits for the host is *away*: it uses no CPU, and what it waits for may need another call to be served
here. So it does not count, and another one may take its place; only `MAX_THREADS` bounds them all together. Any thread
may enter.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from cloister.guest.threads import Threads

__all__ = ["Pool"]

IDLE_S: Final = 5.0
"""How long a thread waits for more work. What belongs to a thread, a lane to the host for instance, lasts as long."""
MAX_THREADS: Final = 512
"""All threads of a pool, with those that are away."""

LOOK_S: Final = 0.001
"""How long a job waits at least for a thread of its own where another one is at work."""
BRISK: Final = 4
"""Jobs that each thread takes between two looks where another thread would only be in its way."""


class Pool:
    """At most `size` threads at work, with a queue of jobs before them."""

    def __init__(self, size: int, room: int, name: str, threads: Threads | None = None) -> None:
        """`room` is how many jobs should wait at most; `threads` starts those of the pool."""
        self._size, self._room, self._name = size, room, name
        self._starter = threads or Threads()
        self._jobs: deque[Callable[[], None]] = deque()
        self._lock = threading.RLock()  # a finalizer may run and call the host while it is held
        self._work = threading.Condition(self._lock)
        self._threads = 0
        self._idle = 0
        self._called = 0
        """Idle threads that were called and have not noticed yet; they do not count as idle."""
        self._away = 0
        self._taken = 0
        self._looked = 0.0
        self._lent = 0
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether nothing more should be given to it for now."""
        return len(self._jobs) >= self._room

    @property
    def waiting(self) -> int:
        """How many jobs have not begun."""
        return len(self._jobs)

    def run(self, job: Callable[[], None]) -> None:
        """Run a job when a thread is free; `look` is to be called then. A job raises nothing."""
        with self._lock:
            self.add(job)
            if self._at_work <= self._idle:
                self._help()

    def add(self, job: Callable[[], None]) -> None:
        """Add a job that somebody does with `work`, or that a thread is called for by `look`."""
        with self._lock:
            if self._closed:
                return
            self._jobs.append(job)
            if len(self._jobs) == 1:
                self._looked, self._taken = time.monotonic(), 0

    def work(self) -> None:
        """Do jobs on the calling thread, which is none of the pool's, until none waits."""
        with self._lock:
            self._lent += 1
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                break
            self._taken += 1
            job()
            del job
        with self._lock:
            self._lent -= 1

    def look(self) -> bool:
        """Call a further thread where jobs wait and are not taken quickly. Returns whether to look again soon."""
        if not self._jobs:
            return False
        now = time.monotonic()
        with self._lock:
            busy = self._at_work - self._idle + self._lent
            if busy >= self._size or self._threads - self._idle >= MAX_THREADS:
                return False
            if now - self._looked >= LOOK_S:
                if self._taken < BRISK * busy or not busy:
                    self._help()
                self._looked, self._taken = now, 0
            return bool(self._jobs)

    def leave(self) -> None:
        """The calling thread, one of the pool's, is about to wait for the host: another one may take its place."""
        with self._lock:
            self._away += 1
            self._help()

    def come_back(self) -> None:
        """The calling thread goes on; for the rest of its job there may be one too many at work."""
        with self._lock:
            self._away -= 1

    def close(self) -> None:
        """Run nothing more that has not begun; the threads end."""
        with self._lock:
            self._closed = True
            self._jobs.clear()
            self._work.notify_all()

    def _help(self) -> None:
        """See to it that somebody takes a job that waits. The lock is held."""
        if not self._jobs:
            return
        if self._idle:
            self._idle -= 1
            self._called += 1
            self._work.notify()
        elif self._at_work < self._size and self._threads < MAX_THREADS:
            self._threads += 1
            try:
                self._starter.start(self._serve, self._name)
            except RuntimeError:  # the system has no thread left: one that runs takes the job later
                self._threads -= 1

    @property
    def _at_work(self) -> int:
        return self._threads - self._away

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._at_work > self._size and not self._closed:  # it came back while another had its place
                    self._threads -= 1
                    return
                if not self._jobs and not self._closed:
                    self._idle += 1
                    self._work.wait(IDLE_S)
                    if self._called:
                        self._called -= 1
                    else:
                        self._idle -= 1
                if not self._jobs or self._closed:
                    self._threads -= 1
                    return
                try:
                    job = self._jobs.popleft()
                except IndexError:  # somebody in `work` was faster
                    continue
                self._taken += 1
            job()
            del job  # with what it holds: a thread that waits keeps no arguments alive
