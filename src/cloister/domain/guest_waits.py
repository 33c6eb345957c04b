"""The long waits of one guest, as it tells of them: which count, and what it is asked and told of them.

What they mean is in `cloister.waits`. A guest could say anything. So a wait counts only for a strand that is its own,
or has a call open in it: one that lies can do no more than to let an error come where its callers would wait for it
for ever. `MAX_WAITS` count at once, and a circle has an end (`waiting.MAX_DOUBTFUL`). The thread that hears a guest
serves all domains, so only so much is looked at in a second because of what one of them says (`STEPS_S`). What it tells
beyond that is passed over; a wait that lasts is told again, and heard then. A refusal is told to the guest whose wait
it is, and to nobody else.

Where this process is a guest itself, its own host hears of a wait that lasts (`long_waits.Passed`). What that one asks,
the guest is asked with a question below 0; those from 1 up are of this process.

`heard`, `stands` and `end` belong to the watcher's thread; any thread may ask what it `has`.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister import calling, long_waits, waits
from cloister.long_waits import Passed
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Hashable

    from cloister.domain.life import Life

__all__ = ["GuestWaits"]

MAX_WAITS: Final = 1000
MAX_HOLDERS: Final = 4
"""A turn has one strand, but for threads that a strand has copied itself to; other things may have some places."""
MAX_NAME: Final = 200
"""Characters of what a guest says of something that it has."""
STEPS_S: Final = 10_000
"""At how many strands this process looks in a second because of what one guest tells. Each costs some µs."""
MOST_STEPS: Final = 2 * STEPS_S
"""How many of them may come at once."""
FOREIGN: Final = 10
"""What it costs, beside, to find out whether a call of a strand is open in the guest."""


class GuestWaits:
    """The waits of one guest."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._waits: dict[int, waits.FarWait] = {}
        self._passed: dict[int, Passed] = {}
        self._spent, self._since = 0.0, time.monotonic()
        """The steps of late: they are forgotten as time goes by."""

    def heard(self, number: int, wait: list[Any]) -> None:
        """The guest tells of a wait, or, with nothing, that one is over.

        Raises TypeError, ValueError, IndexError for rubbish.
        """
        if wait and not self._may_cost():
            return
        before = self._waits.pop(number, None)
        if before is not None:
            waits.leave_afar(before)
        if not wait:
            self._forget(number)
            return
        strand, what = int(wait[0]), wait[2]
        self._spent += 1
        too_many = len(wait[1]) > MAX_HOLDERS
        holders = [] if too_many else [int(holder) for holder in wait[1]]
        if too_many or len(self._waits) >= MAX_WAITS or not self._has(strand):
            self._forget(number)
            return
        name = what[:MAX_NAME] if isinstance(what, str) else f"synchronized turn {int(what)} (one at a time)"
        send = self._life.speaker.send
        told = self._waits[number] = waits.FarWait(
            f"{name} of domain {self._life.name!r}",
            strand,
            holders,
            partial(send, Kind.STILL, number),
            partial(send, Kind.DEADLOCK, number),
        )
        self._spent += waits.wait_afar(told)
        if before is not None and long_waits.hosted():
            self._pass_on(number, told)

    def stands(self, number: int, question: int) -> None:
        """The guest says that a wait is as it was told."""
        wait, passed = self._waits.get(number), self._passed.get(number)
        if wait is not None and question > 0:
            self._spent += waits.confirm(wait, question)
        elif passed is not None and question < 0:
            passed.stands(-question)

    def end(self) -> None:
        """The guest has ended, and all its waits with it."""
        while self._waits:
            number, wait = self._waits.popitem()
            waits.leave_afar(wait)
            self._forget(number)

    def _pass_on(self, number: int, wait: waits.FarWait) -> None:
        """The guest has told of a wait again: let the host of this process know."""
        passed = self._passed.get(number)
        if passed is None:
            passed = self._passed[number] = Passed(lambda question: wait.ask(-question), wait.refuse)
        passed.tell(wait.name, wait.strand, [holder for holder in wait.holders if isinstance(holder, int)])

    def _forget(self, number: int) -> None:
        passed = self._passed.pop(number, None)
        if passed is not None:
            passed.over()

    def _has(self, strand: int) -> bool:
        """Whether a strand is one of the guest's own threads, or has a call open in it."""
        if not self._is_own(strand):
            self._spent += FOREIGN
            return self._life.peer.has_strand(strand)
        return True

    def _is_own(self, strand: int) -> bool:
        """Whether a strand is a thread of the guest's process, where it has one."""
        return not self._life.inside and calling.place_of(strand)[0] == self._life.process.pid

    def has(self, strand: Hashable) -> bool:
        """As a guest that awaits something here may name it: a strand of its own, or one with a call open in it.

        Any thread. One that is a part of this process is believed.
        """
        life = self._life
        if life.over or not isinstance(strand, int):
            return False
        try:
            return bool(life.inside) or self._is_own(strand) or life.peer.has_strand(strand)
        except AttributeError:  # it lets go of all that it had, this moment
            return False

    def _may_cost(self) -> bool:
        """Whether more may be looked at now because of what the guest says."""
        now = time.monotonic()
        self._spent = max(0.0, self._spent - (now - self._since) * STEPS_S)
        self._since = now
        return self._spent < MOST_STEPS
