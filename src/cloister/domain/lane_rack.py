"""The call lanes of a domain whose concurrency is limited: who has which, and who waits.

A call takes a lane for as long as it lasts. Where a thread has sent one-way calls on a lane, its next call takes that
same lane, so that it comes after them. A wait that would be a deadlock is refused: `cloister.waits`. Any thread may
enter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloister import calling, waits
from cloister.conditions import Condition
from cloister.errors import CallTimeout
from cloister.long_waits import SLICE_S, LongWait

if TYPE_CHECKING:
    from cloister.lanes.call_lane import CallLane

__all__ = ["LaneRack"]


class LaneRack:
    """At most `size` lanes, opened when they are first needed."""

    def __init__(self, size: int, open_lane: Callable[[], CallLane], domain: str) -> None:
        self._size = size
        calls = "1 call" if size == 1 else f"{size} calls"
        self.resource = waits.Resource(f"domain {domain!r} ({calls} at a time)", size)
        """What the calls wait for, and who has it."""
        self._holders: dict[CallLane, int] = {}
        self._open = open_lane
        self._spare: list[CallLane] = []
        self._taken = 0
        self._freed = Condition()
        self._closed = False
        self._changes = 0
        """How often a lane was taken or given back."""

    def take(self, wanted: CallLane | None, deadline: float | None) -> CallLane | None:
        """Take a lane, `wanted` itself unless that is closed; None after the end of the domain.

        Raises CallTimeout at `deadline`, a time of `time.monotonic`, DeadlockDetected where none could ever become
        free, and what opening a lane raises.
        """
        with self._freed:
            if not (self._closed or self._choose(wanted)):
                with waits.waiting(self.resource, deadline is not None):
                    self._wait(wanted, deadline)
            if self._closed:
                return None
            self._taken += 1
            self._changes += 1
            holder = waits.hold(self.resource)
            lane = self._spare.pop() if self._spare else None
            if lane is not None:
                self._holders[lane] = holder
                return lane
        try:
            lane = self._open()
        except BaseException:
            self._put(None, holder)
            raise
        self._holders[lane] = holder
        return lane

    def _wait(self, wanted: CallLane | None, deadline: float | None) -> None:
        if deadline is None:
            self._wait_long(wanted)
            return
        left = max(0.0, deadline - time.monotonic())
        if not self._freed.wait_for(lambda: self._closed or self._choose(wanted), left):
            raise CallTimeout("the time for the call was up while all lanes of the domain were in use; it was not sent")

    def _wait_long(self, wanted: CallLane | None) -> None:
        """Wait without an end; from time to time look whether it can have one."""
        waits_still = True

        def holders() -> tuple[int, ...]:
            known = list(self.resource.holders) if waits_still else []
            return tuple(holder for holder in known if isinstance(holder, int))

        long = LongWait(self.resource.name, calling.strand(), holders, lambda: self._changes)
        try:
            while not self._freed.wait_for(lambda: self._closed or self._choose(wanted), SLICE_S):
                long.look()
        finally:
            waits_still = False
            long.over()

    def give_back(self, lane: CallLane) -> None:
        """The call is over. A lane that it has closed is replaced when the next one is needed."""
        self._put(None if lane.closed else lane, self._holders.pop(lane))

    def close(self) -> None:
        """The domain has ended: nobody waits for a lane any more."""
        with self._freed:
            self._closed = True
            self._spare.clear()
            self._freed.notify_all()

    def disown(self) -> None:
        """This is a forked child: no lock of the parent's threads counts here."""
        self._freed = Condition()
        self._closed = True

    def _choose(self, wanted: CallLane | None) -> bool:
        """Bring a lane to the end of the spare ones, or see that one may be opened."""
        if wanted is not None and not wanted.closed:
            if wanted not in self._spare:
                return False
            self._spare.remove(wanted)
            self._spare.append(wanted)
        return bool(self._spare) or self._taken < self._size

    def _put(self, lane: CallLane | None, holder: int) -> None:
        with self._freed:
            self._taken -= 1
            self._changes += 1
            waits.release(self.resource, holder)
            if lane is not None and not self._closed:
                self._spare.append(lane)
            self._freed.notify_all()
