"""What one thread of the pool runs for a shared lane, and whether that counts as work.

While a call waits for the host, or does not stop when it was told to, its thread does not count as at work, so that it
holds up no other call. The thread itself, and the control thread that stops calls, enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloister.guest.interrupts import Running

if TYPE_CHECKING:
    from cloister.guest.pool import Pool
    from cloister.guest.shared import SharedServing
    from cloister.lanes.call_frames import Call

__all__ = ["Lent"]


class Lent(Running):
    """What one thread of the pool runs."""

    __slots__ = ("_absent", "_lost", "_pool", "_shared", "call")

    def __init__(self, lane: int, own: Pool, shared: SharedServing) -> None:
        super().__init__(lane)
        self._pool, self._shared = own, shared
        self._lost = self._absent = False
        self.call: Call | None = None
        """What it runs at this moment."""

    def lose(self, number: int) -> None:
        """A call is told to stop; it may be in native code that never returns, and is to hold up no other one."""
        with self._lock:
            if not self._lost and self._shared._running.get(number) is self:
                self._lost = True
                self._pool.leave()

    def find(self) -> None:
        """The call is over, and nobody can tell it anything any more."""
        with self._lock:
            if self._lost:
                self._lost = False
                self._pool.come_back()

    def leave(self) -> None:
        super().leave()  # from here on nothing is raised in this thread
        self._pool.leave()
        self._absent = True
        self._shared.pass_on(self)

    def come_back(self) -> None:
        if self._absent:  # else it was interrupted before it left
            self._absent = False
            self._pool.come_back()
        super().come_back()
