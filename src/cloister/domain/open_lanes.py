"""The lanes of one domain that are open: their numbers, the calls on them that wait, and the end of all of them.

Here is what the life of a domain asks of all lanes together. Who opens a lane and calls on it is in `guest_peer`; what
a lane is, in `cloister.lanes`. The call lanes are held weakly: one goes with the thread that had it.

Any thread may enter, a finalizer too, and in the middle of anything here.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.lanes.call_lane import CallLane
    from cloister.lanes.shared_lane import SharedLane

__all__ = ["OpenLanes"]

RESERVED_LANES = 1024
"""Lanes that have a slot in the shared page; their numbers are used again, the longest unused first."""


class OpenLanes:
    """The call lanes of a domain, and those that many calls share."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may run and call while it is held
        self._lanes: weakref.WeakSet[CallLane] = weakref.WeakSet()
        self._free: deque[int] = deque()
        self._next_number = 1
        self.shared: list[SharedLane] = []
        """The shared lane, and beside it those for what a finalizer or a signal handler submits in the middle of a
        `submit`: it may wait for the answer, and the first lane could not go on before."""

    def new_number(self) -> int:
        """A number for a lane."""
        with self._lock:
            if self._next_number >= RESERVED_LANES and self._free:
                return self._free.popleft()
            number, self._next_number = self._next_number, self._next_number + 1
            return number

    def add(self, lane: CallLane) -> None:
        """Count a call lane among them. Its number is free again when nobody has the lane any more."""
        self._lanes.add(lane)
        weakref.finalize(lane, self._free.append, lane.number).atexit = False

    def _every(self) -> list[CallLane]:
        """The call lanes. Without a lock: whoever has it may run a finalizer that waits for the domain."""
        while True:
            try:
                return list(self._lanes)
            except RuntimeError:  # one more was opened meanwhile
                continue

    def calls(self) -> tuple[str, ...]:
        """The names of the calls that this program waits for at this moment."""
        named = tuple(name for lane in self._every() for name in (list(lane.calling) or lane.lost))
        return (*named, *(name for shared in list(self.shared) for name in shared.waiting))

    def has_strand(self, strand: int) -> bool:
        """Whether a strand has a call open in the guest, or belongs to a thread of its own that has called."""
        lanes = (lane for lane in self._every() if lane.watched or lane.conversation.waiting)
        return any((lane.strand or lane.logical) == strand for lane in lanes) or any(
            shared.has_strand(strand) for shared in list(self.shared)
        )

    def outstanding(self) -> list[tuple[int, int]]:
        """(lane, number) of each call that a thread of this program waits for; of nested ones the innermost."""
        return [(lane.number, number) for lane in self._every() for number in lane.conversation.waiting[-1:]]

    def end(self, error: Callable[[], BaseException], keep: bool = False) -> None:
        """Break every lane: whoever waits, or calls later, gets `error()`. `keep`: see `FrameLane.break_with`."""
        for lane in self._every():
            lane.break_with(error, keep)
        for shared in list(self.shared):
            shared.close()

    def disown(self, error: Callable[[], BaseException]) -> None:
        """This is a forked child: close every descriptor that it inherited; every later use raises `error()`."""
        self._lock = threading.RLock()
        for lane in self._every():
            lane.disown(error)
        for shared in self.shared:
            shared.disown()
