"""The workers of a pool in the graph of who waits for whom (`cloister.waits`).

A task may call back, and the call-back may wait for another task of the same pool. Where every worker has a task that
waits so, none of them ever moves, and that wait is a DeadlockDetected. Who has which worker is looked up when somebody
waits, so a task costs nothing more. Any thread may enter.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from cloister import waits

if TYPE_CHECKING:
    from cloister.executor.work import Work
    from cloister.executor.workforce import Workforce

__all__ = ["Seats", "awaited"]


class Seats(waits.Resource):
    """The workers of one pool, held by the strands of their tasks."""

    __slots__ = ("_force",)

    def __init__(self, force: Workforce) -> None:
        self._force = weakref.ref(force)
        self.name: str = f"a worker of pool {force.name!r} ({force.max_workers} in all)"
        self.places: int = force.max_workers

    @property
    def holders(self) -> Counter[Hashable]:  # type: ignore[override]  # nobody writes it
        """Empty where somebody is about to move: a task ends at its time limit, or is just being given to a worker."""
        force = self._force()
        tasks = [] if force is None else force.under_way()
        if any(each.timeout is not None or each.limit is not None or each.expected for each in tasks):
            return Counter()
        return Counter(each.options["strand"] for each in tasks)


@contextlib.contextmanager
def awaited(work: Work, ends: bool) -> Iterator[None]:
    """The running strand waits for a task inside; `ends` where that has a time-out. Raises DeadlockDetected."""
    strand = work.options["strand"]
    answer = waits.Resource("the answer of a task of a pool", 1)
    answer.holders[strand] = 1
    # First the mark, then the look, and whoever gives it to a worker does it the other way round: one sees the other.
    work.expected = True
    waits.expect(work.owner.seats, strand)
    if work.first or work.over:
        work.expected = False
        waits.leave(strand)  # also where it has begun before it was expected: that took nothing back
    try:
        with waits.waiting(answer, ends):
            yield
    finally:
        work.begins()
