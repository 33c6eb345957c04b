"""The guard of one domain: looks at its signs of life in time, tells when they fail, and does what the policy says.

How signs are judged is in `vitals`, which is pure; here are the clock, the stacks and the events. All of it belongs to
the watcher's thread.

A guest that is silent is first asked for its stacks, by a signal whose handler needs no interpreter lock; the event
follows a moment later and carries them. A beat that comes in between calls the whole matter off.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cloister.domain import diagnosis, events
from cloister.domain.vitals import Silent, Vitals
from cloister.report import Reason

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["DUMP_S", "Guard"]

DUMP_S = 0.3
"""How long a guest may take to write its stacks. It takes about a millisecond, unless it is stopped itself."""


class Guard:
    """Guards one domain."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._watchdog = life.options.watchdog
        self.vitals = Vitals(self._watchdog, life.started)
        self._told = False

    def start(self) -> None:
        """Begin to look."""
        self._life.at(self.vitals.due(), self._look)

    def beat(self, now: float, cpu_seconds: float, running: list[tuple[int, int]]) -> None:
        """Take a beat of the guest."""
        life = self._life
        silent = self.vitals.beat(now, cpu_seconds, running, life.peer.outstanding())
        if silent is not None and self._told:
            life.tell(events.Responsive(life.name, life.process.pid, silent))
        self._told = False
        life.oom_kills = diagnosis.oom_kills()

    def _look(self) -> None:
        life = self._life
        if life.over:
            return
        now = time.monotonic()
        due = self.vitals.due()
        if now >= due:
            due = now + self._watchdog.beat
            cpu, state = diagnosis.cpu_and_state(life.process.pid)
            silent = self.vitals.look(now, cpu, state)
            if silent is not None:
                if silent.why != "stopped":
                    life.speaker.dump()
                life.at(now + min(DUMP_S, self._watchdog.beat), lambda: self._tell(silent))
        life.at(due, self._look)

    def _tell(self, silent: Silent) -> None:
        life = self._life
        if life.over or not self.vitals.unresponsive:
            return
        self._told = True
        stacks = life.speaker.take_stacks()
        life.tell(
            events.Unresponsive(life.name, life.process.pid, silent.why, silent.missed, silent.cpu_seconds, stacks)
        )
        if self._watchdog.policy == "kill":
            life.stacks = stacks
            detail = f"no beat came for {silent.missed} periods of {self._watchdog.beat:g} s; it was {silent.why}"
            life.end_for(Reason.WATCHDOG, detail)
        elif self._watchdog.policy == "interrupt":
            life.peer.interrupt_main()
