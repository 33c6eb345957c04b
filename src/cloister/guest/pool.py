"""A bounded pool of threads for the calls of a shared lane.

It is not a `ThreadPoolExecutor`, because the interpreter waits for the threads of that one before it ends, and a call
that hangs would hang the end of the domain. Threads come when there is work and go after `IDLE_S` without. Any thread
may enter.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["Pool"]

IDLE_S: Final = 5.0
"""How long a thread waits for more work. What belongs to a thread, a lane to the host for instance, lasts as long."""


class Pool:
    """At most `size` threads, with a queue of at most `room` jobs before them."""

    def __init__(self, size: int, room: int, name: str) -> None:
        self._size, self._room, self._name = size, room, name
        self._jobs: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._space = threading.Condition(self._lock)
        self._threads = 0
        self._idle = 0
        self._closed = False

    def run(self, job: Callable[[], None]) -> None:
        """Run a job when a thread is free. Waits while too many wait already. A job raises nothing."""
        with self._lock:
            while len(self._jobs) >= self._room and not self._closed:
                self._space.wait()
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._work.notify()
            elif self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Run nothing more that has not begun; the threads end."""
        with self._lock:
            self._closed = True
            self._jobs.clear()
            self._work.notify_all()
            self._space.notify_all()

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._jobs and not self._closed:
                    self._idle += 1
                    self._work.wait(IDLE_S)
                    self._idle -= 1
                if not self._jobs or self._closed:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
                self._space.notify()
            job()
            del job  # with what it holds: a thread that waits keeps no arguments alive
