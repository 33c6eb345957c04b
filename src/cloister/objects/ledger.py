"""The ledger of loans: what both sides of a wall note of the shared memory that one lends the other.

A loan comes back without a message, through a small piece of memory that both sides write. For each slot it has three
words, and each word has one writer, so there is no lock between the processes:

========  ============  ==============================================================================================
word      written by    holds
========  ============  ==============================================================================================
sent      the lender    the generation that was lent last; 0 after it was taken back
taken     the borrower  the generation that it has taken up last
returned  the borrower  the generation that it has done with last
========  ============  ==============================================================================================

A generation is never used twice. A lender takes back what may never arrive (the message was not sent, or its lane is
over): it sets ``sent`` to 0 and then looks at ``taken``; a borrower sets ``taken`` and then looks at ``sent``. So at
least one of them sees the other: what was taken back is never read, and what is read is not rewritten.

The words are hints from a process that may lie. The worst that a guest does with them is to have what it reads itself
rewritten, or what it wrote itself: no offset or length comes from here, and every one that comes with a message is
checked before anything is touched. Any thread may enter.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloister.pipes.segments import Mapping

__all__ = ["SLOTS", "Ledger", "fence"]

SLOTS: Final = 1024
"""Loans of one direction that may be open at once."""


class Ledger:
    """What both sides note of the loans of one direction."""

    BYTES: Final = 2 * 3 * 4 * SLOTS
    """Of both directions."""

    __slots__ = ("returned", "sent", "taken")

    def __init__(self, mapping: Mapping, upwards: bool) -> None:
        words = mapping.view(0, self.BYTES).cast("I")
        first = 3 * SLOTS if upwards else 0
        self.sent = words[first : first + SLOTS]
        self.taken = words[first + SLOTS : first + 2 * SLOTS]
        self.returned = words[first + 2 * SLOTS : first + 3 * SLOTS]


_barrier = threading.Lock()


def fence() -> None:
    """Let what was written be seen before what comes next is read: taking a lock is such a point on every processor."""
    if _barrier.acquire(blocking=False):
        _barrier.release()
