"""The moments of a domain's life that others wait for: the end of its start, the report of its end, and its end.

Here is who waits, and the lock of the life, so that a moment and the state that belongs to it change together. What the
moments mean is in `life`; how an event loop awaits them, in `cloister.aio`. Each comes once. Any thread may enter.

The report is known as soon as the process has ended: whoever waits in a call has its error then. The end comes a
moment later, when nothing of the domain is left in this program.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cloister.conditions import Condition

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Moments"]


class Moments:
    """The moments of one life."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Let all be still to come, and nobody wait."""
        self.lock = threading.RLock()  # a finalizer may call, or unload, while it is held
        self._moved = Condition(self.lock)
        self._ended = threading.Event()
        self._waiters: list[Callable[[], object]] = []
        self._callers: list[Callable[[], object]] = []
        self._mourners: list[Callable[[], object]] = []
        self._started = self._known = False
        self._waiting = 0

    def disown(self) -> None:
        """This is a forked child: all have come, and the threads that waited are not there."""
        self.begin_anew()
        self._started = self._known = True
        self._ended.set()

    # -- the end of the start ----------------------------------------------------------------------------------------

    def wait_moved(self, timeout: float | None) -> bool:
        """Wait until it is ready or never will be; False where neither has come in time."""
        with self._moved:
            return self._moved.wait_for(lambda: self._started, timeout)

    def when_moved(self, tell: Callable[[], object]) -> None:
        """Call `tell` once it is ready or never will be: at once, or on another thread, which it must not hold up."""
        with self.lock:
            if not self._started:
                self._waiters.append(tell)
                return
        tell()

    def moved(self) -> None:
        """Wake all who wait for the end of the start. The lock is held."""
        self._started = True
        self._moved.notify_all()
        waiters, self._waiters = self._waiters, []
        for tell in waiters:
            tell()

    # -- the report --------------------------------------------------------------------------------------------------

    def wait_known(self, timeout: float | None) -> bool:
        """Wait until it is known how it ended; False where that has not come in time."""
        with self._moved:
            self._waiting += 1
            try:
                return self._moved.wait_for(lambda: self._known, timeout)
            finally:
                self._waiting -= 1

    def when_known(self, tell: Callable[[], object]) -> None:
        """Call `tell` once it is known how it ended: at once, or on another thread, which it must not hold up."""
        with self.lock:
            if not self._known:
                self._callers.append(tell)
                return
        tell()

    def known(self) -> bool:
        """Wake all who wait for the report, and for the end of the start; False where nobody does. The lock is held."""
        self._known = True
        self.moved()
        callers, self._callers = self._callers, []
        for tell in callers:
            tell()
        return bool(callers) or self._waiting > 0

    # -- the end -----------------------------------------------------------------------------------------------------

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait for the end; False where it has not come in time."""
        return self._ended.wait(timeout)

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Call `tell` once it has ended: at once, or on another thread, which it must not hold up."""
        with self.lock:
            if not self._ended.is_set():
                self._mourners.append(tell)
                return
        tell()

    def ended(self) -> None:
        """Wake all who wait for the end."""
        with self.lock:
            self._ended.set()
            mourners, self._mourners = self._mourners, []
        for tell in mourners:
            tell()
