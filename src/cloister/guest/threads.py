"""The threads on which a guest serves its host: how they are started, and which of them live.

In a process of its own they are daemons, and end with the process. Where a guest lives in its host's process, its place
is gone only when the last of them has ended, so here they are counted. Threads that the user's code starts are not
among them. Any thread may enter.
"""

from __future__ import annotations

import _thread
import contextvars
import threading
from collections import deque
from collections.abc import Callable

from cloister.daemons import daemons
from cloister.guest.interrupts import Interrupted, StopRequested

__all__ = ["Threads", "unseen"]

unseen: set[int] = set()
"""The threads of ours that `threading` does not know, by their identifiers."""


class Threads:
    """The serving threads of one guest."""

    def __init__(self, begin: Callable[[], object] = lambda: None, shared: bool = False) -> None:
        """`begin` is called first on each thread. `shared`: the guest shares its interpreter, which outlives it."""
        self.daemon = daemons()
        """Whether the interpreter does not wait for them when it ends."""
        self._begin = begin
        self._counts = shared or not self.daemon
        self._changed = threading.Condition(threading.RLock())  # a finalizer may start one while it is held
        self._living: set[threading.Thread] = set()
        self._waiting: deque[tuple[Callable[[], object], str]] = deque()

    def start(self, target: Callable[[], object], name: str) -> threading.Thread:
        """Run `target` on a new thread. Raises RuntimeError where the system has none left."""
        thread = threading.Thread(target=self._run, args=(target,), name=name, daemon=self.daemon)
        with self._changed:
            self._living.add(thread)
        try:
            thread.start()
        except BaseException:
            self._over(thread)
            raise
        return thread

    def start_soon(self, target: Callable[[], object], name: str) -> bool:
        """As `start`; where the system has no thread left, `start_waiting` tries again. False then."""
        try:
            self.start(target, name)
        except RuntimeError:
            self._waiting.append((target, name))
            return False
        return True

    def start_waiting(self) -> bool:
        """Start what waits for a thread; whether some of it still waits. One thread at a time may call it."""
        while self._waiting:
            target, name = self._waiting[0]
            try:
                self.start(target, name)
            except RuntimeError:
                return True
            self._waiting.popleft()
        return False

    def start_for_good(self, target: Callable[[], object], name: str) -> threading.Thread | None:
        """As `start`, for a thread that lasts as long as the guest.

        In a process of its own it is one that `threading` does not know, and this does not wait until it runs: that
        takes half of the time and of the memory, and nobody asks for it. None then.
        """
        if self._counts:
            return self.start(target, name)
        unseen.add(_thread.start_new_thread(self._inside, (target,)))
        return None

    def living(self) -> list[threading.Thread]:
        """Those that have not ended."""
        with self._changed:
            return list(self._living)

    def wait_ended(self, but: threading.Thread | None = None) -> None:
        """Wait, for ever if need be, until all have ended, with the exception of one."""
        with self._changed:
            self._changed.wait_for(lambda: self._living <= {but})

    def _run(self, target: Callable[[], object]) -> None:
        try:
            contextvars.Context().run(self._inside, target)
        finally:
            self._over(threading.current_thread())

    def _inside(self, target: Callable[[], object]) -> None:
        self._begin()
        try:
            target()
        except (StopRequested, Interrupted):
            pass  # its end is wanted

    def _over(self, thread: threading.Thread) -> None:
        with self._changed:
            self._living.discard(thread)
            self._changed.notify_all()
