"""Calls that were told to stop, until it is known what came of it; with a kill where they do not.

The guest says OVER when a call that it was told to stop has unwound. Where the caller has asked for it with
`kill_after`, the domain is killed when that has not come within so many seconds: native code that never returns is
stopped so. Whoever waits, a thread or a call-back, is told which of the two happened, exactly once.

`watch` and `Stop.outcome` may be called by any thread, the rest by the watcher's.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from cloister.errors import CallTimeout
from cloister.report import Reason, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.domain.life import Life
    from cloister.levels.watcher import Timer

__all__ = ["Stop", "Stops"]

LONGEST_S = 1_000_000.0
"""11 days. A longer `kill_after` is as long: the system's `poll` waits no longer than 24."""


class Stop:
    """One call that was told to stop, in a domain that is killed where it does not."""

    kills = True

    def __init__(self, key: tuple[int, int], name: str, grace: float) -> None:
        self.key = key
        self.name, self.grace = name, grace
        self.timer: Timer | None = None
        self.report: Report | None = None
        """How the domain ended; None where the call has stopped, and before it is known."""
        self.known = threading.Event()
        self.told: Callable[[Stop], object] | None = None

    def outcome(self, name: str) -> CallTimeout:
        """Wait until it is known, and return what the caller is told: the call stopped, or the domain has ended."""
        self.known.wait()
        return self.error(name)

    def error(self, name: str) -> CallTimeout:
        """What the caller of a call whose time was up is told, now that it is known."""
        error = CallTimeout(f"the time for {name}() is up; {self.words}")
        error.report = self.report
        return error

    @property
    def words(self) -> str:
        """What happened, as the end of a sentence."""
        report = self.report
        if report is None:
            return "it was told to stop and did, the domain goes on"
        if report.reason is Reason.CANCELLED:
            return f"it did not stop within {self.grace:g} s, and domain {report.domain!r} was killed"
        return f"domain {report.domain!r} ended before it had stopped: {report.cause}"


class Stops:
    """The calls of one domain that were told to stop."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a finalizer may run and call while it is held
        self._open: dict[tuple[int, int], Stop] = {}

    def watch(
        self, lane: int, number: int, grace: float, name: str, told: Callable[[Stop], object] | None = None
    ) -> Stop:
        """Kill the domain unless this call, named by lane and number, is over within `grace` seconds.

        To be called before the guest is told to stop it. `told` is called with the result when it is known, on the
        watcher's thread or at once on this one, so it must not wait.
        """
        stop = Stop((lane, number), name, grace)
        stop.told = told
        with self._lock:
            over = self._life.over
            if not over:
                self._open[stop.key] = stop
        if over:
            _tell(stop, self._life.report)
        else:
            due = time.monotonic() + min(grace, LONGEST_S)
            stop.timer = self._life.at(due, partial(self._kill, stop))
        return stop

    def over(self, lane: int, number: int) -> None:
        """The call has stopped; ignored where nobody watches it."""
        with self._lock:
            stop = self._open.pop((lane, number), None)
        if stop is not None:
            _tell(stop, None)

    def end(self, report: Report) -> None:
        """The domain has ended."""
        with self._lock:
            stops = list(self._open.values())
            self._open.clear()
        for stop in stops:
            _tell(stop, report)

    def disown(self) -> None:
        """This is a forked child: nobody waits here."""
        self._begin()

    def _kill(self, stop: Stop) -> None:
        if not stop.known.is_set():
            detail = f"{stop.name}() was given up, and did not stop within {stop.grace:g} s"
            self._life.end_for(Reason.CANCELLED, detail)


def _tell(stop: Stop, report: Report | None) -> None:
    if stop.timer is not None:
        stop.timer.cancel()
    stop.report = report
    stop.known.set()
    told, stop.told = stop.told, None
    if told is not None:
        told(stop)
