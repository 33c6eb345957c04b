"""A domain whose process stands still: `Domain.suspend` and `Domain.resume`.

While it does, no beat is owed, calls wait, and time-outs of calls hold. A domain that is to be unloaded goes on first,
because it could not hear of it. Any thread may enter; nothing here waits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cloister.domain import events
from cloister.errors import LevelUnavailable
from cloister.levels.inside import Inside

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["Suspension"]


class Suspension:
    """Whether one domain stands still."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.on = False

    def suspend(self) -> None:
        """Let it stand still. Idempotent.

        Raises the errors of the domain where it does not serve calls, LevelUnavailable where it has no process.
        """
        life = self._life
        with life.moments.lock:
            if life.foreign or not life.ready or life.unloaded or life.process.has_ended():
                raise life.error()
            if isinstance(life.process, Inside):
                raise LevelUnavailable(f"domain {life.name!r} has no process of its own, and can't be suspended")
            if self.on:
                return
            self.on = True
            life.guard.vitals.suspended = True  # first, so that no beat is missed
            life.process.suspend()
            life.tell(events.Suspended(life.name, life.process.pid))

    def resume(self) -> None:
        """Let it go on. Idempotent, and nothing where it has ended. Raises WrongProcess in a forked child."""
        life = self._life
        with life.moments.lock:
            if life.foreign:
                raise life.error()
            if not self.on:
                return
            self.on = False
            if life.over:
                return
            if not isinstance(life.process, Inside):
                life.process.resume()
            life.guard.vitals.resume(time.monotonic())
            life.tell(events.Resumed(life.name, life.process.pid))
