"""A thread that waits for the answer of a call that runs beside it, in the graph of who waits for whom.

The answer is something exclusive: the strand of the call has it. Most answers come soon, so only a wait that has lasted
for a while is put into the graph, and told to the host of this process where it has one. Any thread may enter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cloister import calling, waits
from cloister.long_waits import SLICE_S, LongWait

__all__ = ["wait_for_answer"]

T = TypeVar("T")


def wait_for_answer(
    answer: waits.Resource, strand: int, done: Callable[[], bool], wait: Callable[[float | None], T]
) -> T:
    """Wait without an end for the answer of a strand; `wait` waits for so many seconds, or raises TimeoutError.

    Raises DeadlockDetected where it can never come.
    """
    with waits.waiting(answer, ends=False):
        long = LongWait(answer.name, calling.strand(), lambda: () if done() else (strand,))
        try:
            while True:
                try:
                    return wait(SLICE_S)
                except TimeoutError:
                    if done():
                        return wait(None)  # the call itself has ended so
                long.look()
        finally:
            long.over()
