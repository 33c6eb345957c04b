"""A bounded pool of threads for the calls of a shared lane.

It is not a `ThreadPoolExecutor`, because the interpreter waits for the threads of that one before it ends, and a call
that hangs would hang the end of the domain. Threads come when there is work and go after `IDLE_S` without.

A thread that waits for the host is *away*: it uses no CPU, and what it waits for may need another call to be served
here. One whose call was told to stop may be in native code that never returns. So neither counts, and another one may
take its place; only `MAX_THREADS` bounds them all together. Any thread may enter.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from cloister.guest.threads import Threads

__all__ = ["Pool"]

IDLE_S: Final = 5.0
"""How long a thread waits for more work. What belongs to a thread, a lane to the host for instance, lasts as long."""
MAX_THREADS: Final = 512
"""All threads of a pool, with those that are away."""


class Pool:
    """At most `size` threads at work, with a queue of jobs before them."""

    def __init__(self, size: int, name: str, threads: Threads | None = None) -> None:
        """`threads` starts those of the pool."""
        self._size, self._name = size, name
        self._starter = threads or Threads()
        self._jobs: deque[Callable[[], None]] = deque()
        self._lock = threading.RLock()  # a finalizer may run and call the host while it is held
        self._work = threading.Condition(self._lock)
        self._threads = 0
        self._idle = 0
        self._called = 0
        """Idle threads that were called and have not noticed yet; they do not count as idle."""
        self._away = 0
        self._closed = False

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, at once or when a thread is free. A job raises nothing."""
        with self._lock:
            if not self._closed:
                self._jobs.append(job)
                self._help()

    def help(self) -> None:
        """See to it that a job which waits has a thread, where the system had none left before."""
        with self._lock:
            self._help()

    @property
    def rests(self) -> bool:
        """Whether no job runs or waits."""
        return not self._jobs and self._threads == self._idle

    @property
    def has_jobs(self) -> bool:
        """Whether a job waits for a thread."""
        return bool(self._jobs)

    def leave(self) -> None:
        """A thread is about to wait for the host, or its call was told to stop: another one may take its place."""
        with self._lock:
            self._away += 1
            self._help()

    def come_back(self) -> None:
        """The thread goes on; for the rest of its job there may be one too many at work."""
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
                job = self._jobs.popleft()
            job()
            del job  # with what it holds: a thread that waits keeps no arguments alive
