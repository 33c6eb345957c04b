"""The guard of one domain: looks at its signs of life in time, tells when they fail, and does what the policy says.

How signs are judged is in `vitals`, which is pure; here are the clock, the stacks and the events. All but `last_beat`
belongs to the watcher's thread.

A guest that has nothing to tell but that it lives leaves its beat in the shared page, and wakes nobody. The guard looks
there once a period, at times that all domains have in common, so that a thousand of them cost a few wake-ups a
second. A beat in the page counts from when it was left.

A guest that is silent is first asked for its stacks, by a signal whose handler needs no interpreter lock; the event
follows a moment later and carries them. A beat that comes in between calls the whole matter off.
"""

from __future__ import annotations

import math
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

LOOKS = 4
"""How many times in a period all domains have in common at which one may be looked at."""


class Guard:
    """Guards one domain."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._watchdog = life.options.watchdog
        self.vitals = Vitals(self._watchdog, life.started)
        self._heard = 0
        """The number of the last beat that was taken."""
        self._looked = life.started
        self._told = False

    def start(self) -> None:
        """Begin to look."""
        self._look_again(time.monotonic())

    def beat(self, number: int, cpu_seconds: float, running: list[tuple[int, int]]) -> None:
        """Take a beat that the guest has sent."""
        self._heard = number
        self._take(time.monotonic(), cpu_seconds, running)

    def _take(self, now: float, cpu_seconds: float, running: list[tuple[int, int]]) -> None:
        life = self._life
        silent = self.vitals.beat(now, cpu_seconds, running, life.peer.lanes.outstanding())
        if silent is not None and self._told:
            life.tell(events.Responsive(life.name, life.process.pid, silent))
        self._told = False
        life.oom_kills = diagnosis.oom_kills_lately(now)
        life.speaker.send_waiting()

    def last_beat(self, now: float) -> float:
        """When the last sign of life came or was left in the page. Any thread."""
        left = self._left(now)
        return self.vitals.last_beat if left is None else left[1]

    def _left(self, now: float) -> tuple[int, float, float] | None:
        """The beat in the page that was not taken yet: its number, when it was left, its CPU time."""
        page = self._life.speaker.page
        number, at, cpu = (0, 0, 0) if page is None else page.beat()
        if number <= self._heard:
            return None
        # The guest says when it was; it was after the look before, in any case.
        return number, min(now, max(at / 1e9, self._looked, self.vitals.last_beat)), cpu / 1e9

    def _listen(self, now: float) -> None:
        """Take a beat that was left in the page."""
        left = self._left(now)
        self._looked = now
        if left is not None:
            self._heard, at, cpu = left
            self._take(at, cpu, [])

    def _look(self) -> None:
        life = self._life
        if life.over:
            return
        now = time.monotonic()
        self._listen(now)
        if now >= self.vitals.due():
            cpu, state = diagnosis.cpu_and_state(life.process.pid)
            silent = self.vitals.look(now, cpu, state)
            if silent is not None:
                if silent.why != "stopped":
                    life.speaker.dump()
                life.at(now + min(DUMP_S, self._watchdog.beat), lambda: self._tell(silent))
        self._look_again(now)

    def _look_again(self, now: float) -> None:
        """When the next beat should be there, at a time that all domains have in common, or when it is due."""
        vitals, beat = self.vitals, self._watchdog.beat
        step = beat / LOOKS
        after = math.ceil(max(now + step / 4, vitals.last_beat + beat + step / 4) / step) * step
        due = vitals.due()
        self._life.at(min(after, due) if due > now else after, self._look)

    def _tell(self, silent: Silent) -> None:
        life = self._life
        self._listen(time.monotonic())
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
