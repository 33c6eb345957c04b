"""The workers of a pool in the graph of who waits for whom (`cloister.waits`).

A task may call back, and the call-back may wait for another task of the same pool. Where every worker has a task that
waits so, none of them ever moves, and that wait is a DeadlockDetected. Who has which worker is looked up when somebody
waits, so a task costs nothing more. Any thread may enter.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from cloister import waits
from cloister.lanes.answers import wait_for_answer

if TYPE_CHECKING:
    from cloister.executor.work import Work
    from cloister.executor.workforce import Workforce

__all__ = ["Seats", "bringing", "wait_for"]


T = TypeVar("T")


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


def bringing(work: Work) -> tuple[int, ...]:
    """The strands one of which has to go on before a task can be done; empty where it may be done without."""
    seats = work.owner.seats
    if work.timeout is not None or work.limit is not None:
        return ()
    if work.first:
        return (work.options["strand"],)
    return tuple(each for each in seats.holders if isinstance(each, int)) if seats.full else ()


def wait_for(work: Work, done: Callable[[], bool], wait: Callable[[float | None], T], timeout: float | None) -> T:
    """The running strand waits for a task, `wait` so many seconds; see `wait_for_answer`. Raises DeadlockDetected."""
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
        if timeout is None:
            return wait_for_answer(answer, strand, done, wait)
        with waits.waiting(answer, ends=True):
            return wait(timeout)
    finally:
        work.begins()
