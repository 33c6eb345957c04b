"""The calls that the host does not want any more and that still run: stopped, looked at, and told of when over.

Which calls run is in `open_calls`; here is what the control thread remembers of those that it has stopped. A call that
could not be stopped where it was - something would have been torn - is stopped again at each look. All belongs to the
control thread, but for `stop_again`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cloister.guest.interrupts import IMPORT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.interrupts import Running
    from cloister.guest.open_calls import OpenCalls

__all__ = ["StoppedCalls"]

SOON_S = 0.001
LATER_S = 0.05
"""How soon, at first and at last, a call is looked at that was told to stop and still runs."""


class StoppedCalls:
    """The calls of a guest that were told to stop and are not over."""

    def __init__(self, calls: OpenCalls, over: Callable[[int, int], None]) -> None:
        """`over` gets lane and number of each call, once, when it is over."""
        self._calls, self._over = calls, over
        self._run: list[tuple[int, int, Callable[[], bool]]] = []
        """Lane, number, whether it runs."""
        self._importing: dict[tuple[int, int], float] = {}
        """Those that could not be stopped where they were, and until when they may import. Never another dict: any
        thread may write into it."""
        self._look_again_s = SOON_S

    def __bool__(self) -> bool:
        """Whether there is one to look at."""
        return bool(self._run)

    def stop(self, lane: int, number: int) -> None:
        """Stop a call on another thread than the main one; it may import for a while."""
        self._stop(lane, number, time.monotonic() + IMPORT_S)

    def _stop(self, lane: int, number: int, until: float) -> None:
        """Stop a call, or come back to it: where something would be torn, and until then while it imports."""
        if self._calls.stop(lane, number, time.monotonic() < until):
            self._importing[lane, number] = until
        else:
            self._importing.pop((lane, number), None)

    def stop_again(self, running: Running | None) -> None:
        """This call was told to stop, and a finalizer has swallowed that. Called by the thread that runs it."""
        if running is not None and running.number:
            self._importing[running.lane, running.number] = 0.0

    def follow(self, lane: int, number: int) -> None:
        """Tell the host when a call that was told to stop is over: now, or after the looks to come."""
        runs = self._calls.watch(lane, number)
        if runs is None:
            self._over(lane, number)
        else:
            self._run.append((lane, number, runs))
            self._look_again_s = SOON_S

    def look(self) -> float:
        """Look at the calls; return the seconds until the next look.

        Looking costs the calls themselves nothing, and can't be missed; to be told costs each call some.
        """
        for one in list(self._run):
            lane, number, runs = one
            if not runs():
                self._run.remove(one)
                self._importing.pop((lane, number), None)
                self._over(lane, number)
            elif (until := self._importing.get((lane, number))) is not None:
                self._stop(lane, number, until)
        pause, self._look_again_s = self._look_again_s, min(2 * self._look_again_s, LATER_S)
        return pause

    def forget(self, lane: int) -> None:
        """A new lane has this number: what was on the earlier one is over."""
        self._run = [one for one in self._run if one[0] != lane]
        for key in list(self._importing):  # other threads write into it meanwhile: `stop_again`
            if key[0] == lane:
                self._importing.pop(key, None)
