"""The long waits of one guest, as it tells of them: which count, and what it is asked and told of them.

What they mean is in `cloister.waits`. A guest could say anything. So a wait counts only for a strand that is its own,
or has a call open in it: one that lies can do no more than to let an error come where its callers would wait for it
for ever. `MAX_WAITS` count at once, and a circle has an end (`waiting.MAX_AFAR`), so that what a guest says costs
little. A refusal is told to the guest whose wait it is, and to nobody else.

`heard`, `stands` and `end` belong to the watcher's thread.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister import calling, waits
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["GuestWaits"]

MAX_WAITS: Final = 1000
MAX_HOLDERS: Final = 4
"""A turn has one strand, but for threads that a strand has copied itself to."""


class GuestWaits:
    """The waits of one guest."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._waits: dict[int, waits.FarWait] = {}

    def heard(self, number: int, wait: list[Any]) -> None:
        """The guest tells of a wait, or, with nothing, that one is over. Raises TypeError, ValueError for rubbish."""
        before = self._waits.pop(number, None)
        if before is not None:
            waits.leave_afar(before)
        if not wait:
            return
        strand, holders, turn = int(wait[0]), [int(holder) for holder in wait[1]], int(wait[2])
        if len(self._waits) >= MAX_WAITS or len(holders) > MAX_HOLDERS or not self._has(strand):
            return
        send = self._life.speaker.send
        told = self._waits[number] = waits.FarWait(
            f"synchronized turn {turn} (one at a time) of domain {self._life.name!r}",
            strand,
            holders,
            partial(send, Kind.STILL, number),
            partial(send, Kind.DEADLOCK, number),
        )
        waits.wait_afar(told)

    def stands(self, number: int, question: int) -> None:
        """The guest says that a wait is as it was told."""
        wait = self._waits.get(number)
        if wait is not None:
            waits.confirm(wait, question)

    def end(self) -> None:
        """The guest has ended, and all its waits with it."""
        while self._waits:
            waits.leave_afar(self._waits.popitem()[1])

    def _has(self, strand: int) -> bool:
        """Whether a strand is one of the guest's own threads, or has a call open in it."""
        own = not self._life.inside and calling.place_of(strand)[0] == self._life.process.pid
        return own or strand in self._life.peer.strands()
