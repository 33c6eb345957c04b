"""Large buffers that lie in shared memory: who lends what of which segment, and when it comes back.

One side of a wall is the `Lender` of the segments that it writes, the other one their `Borrower`; each side is both, in
the two directions. A buffer is copied into a free segment, and the message carries a *loan* instead: segment, offset,
length, slot and generation. The receiver makes a view of it, and gives the loan back when the last view has died.

A loan comes back without a message, through the `Ledger`, a small piece of memory that both sides write. For each slot
it has three words, and each word has one writer, so there is no lock between the processes:

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
checked before anything is touched.

Any thread may enter. A finalizer writes one word or adds to a queue; it takes no lock. In a fork of this process
nothing is given back, and what was borrowed when it was made never is: the child may go on reading it.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.pipes.segments import Mapping

__all__ = ["ALIGNMENT", "MAX_SEGMENT", "Borrower", "Ledger", "Lender", "Loan", "Segment", "in_loop", "size_for"]

SLOTS: Final = 1024
"""Loans of one direction that may be open at once."""
SMALLEST: Final = 64 * 1024
"""The smallest segment; what is shorter travels in its message."""
MAX_SEGMENT: Final = 1 << 34
"""The largest one."""
ALIGNMENT: Final = 64
"""What an offset is a multiple of, so that arrays are aligned."""
DOUBT_S: Final = 60.0
"""How long a loan whose lane is over may still be taken up; then the lender takes it back, when it needs the room."""
COPIED_BY_NUMPY: Final = 1024 * 1024
"""From this size on numpy copies, where it is loaded: it lets other threads run meanwhile."""


def size_for(length: int) -> int:
    """The size of the segment for so many bytes: at most a quarter more, so that others fit into it as well."""
    size = SMALLEST
    while size < length:
        size *= 2
    step = size // 8
    return max(SMALLEST, -(-length // step) * step) if size > SMALLEST else SMALLEST


def in_loop() -> bool:
    """Whether this thread runs an asyncio loop, which must not be held up."""
    events: Any = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


_NOTHING: Final = memoryview(b"")


class Ledger:
    """What both sides note of the loans of one direction; see the module's text."""

    BYTES: Final = 2 * 3 * 4 * SLOTS
    """Of both directions."""

    __slots__ = ("returned", "sent", "taken")

    def __init__(self, mapping: Mapping, upwards: bool) -> None:
        words = mapping.view(0, self.BYTES).cast("I")
        first = 3 * SLOTS if upwards else 0
        self.sent = words[first : first + SLOTS]
        self.taken = words[first + SLOTS : first + 2 * SLOTS]
        self.returned = words[first + 2 * SLOTS : first + 3 * SLOTS]


class Loan:
    """A part of a segment that the other side may read."""

    __slots__ = ("generation", "length", "over", "segment", "slot")

    def __init__(self, segment: Segment, length: int, slot: int, generation: int) -> None:
        self.segment, self.length, self.slot, self.generation = segment, length, slot, generation
        self.over = False
        """The lender has taken it back."""

    @property
    def fields(self) -> tuple[int, int, int, int, int]:
        """What a message says of it: segment, offset, length, slot, generation."""
        return (self.segment.number, 0, self.length, self.slot, self.generation)


class Segment:
    """A segment that this side writes."""

    __slots__ = ("claim", "gone", "loans", "number", "size", "there", "view")

    def __init__(self, number: int, mapping: Mapping) -> None:
        self.number, self.size = number, mapping.size
        self.view = mapping.view()
        self.claim = threading.Lock()
        """Held by who looks whether it is free, and writes it. Nobody waits for it."""
        self.loans: list[Loan] = []
        self.there = threading.Event()
        """The other side has mapped it."""
        self.gone = False


class Lender:
    """The segments that this side writes."""

    def __init__(self, ledger: Ledger, grow: Callable[[int], bool]) -> None:
        """`grow` gets one more segment of a size, and says whether to look again; it waits a moment at most."""
        self._ledger, self._grow = ledger, grow
        self._segments: list[Segment] = []
        self._changing = threading.RLock()
        self._free = deque(range(SLOTS))
        self._generations = itertools.count(1)
        self._doubtful: deque[tuple[float, Loan]] = deque()
        self.missed = 0
        """Buffers that went through the pipe because there was no room for them."""

    # -- the segments ------------------------------------------------------------------------------------------------

    def add(self, segment: Segment) -> None:
        """Use one more segment, from when it is `there`."""
        with self._changing:
            self._segments = sorted([*self._segments, segment], key=lambda each: each.size)

    def arrived(self, number: int) -> None:
        """The other side has mapped a segment."""
        for segment in self._segments:
            if segment.number == number:
                segment.there.set()

    def remove(self, number: int) -> int:
        """Use a segment no more; return its size, or 0 where there is none."""
        with self._changing:
            for segment in self._segments:
                if segment.number == number:
                    segment.gone = True
                    segment.view = _NOTHING  # its loans may be held for long, its memory is not
                    self._segments = [each for each in self._segments if each is not segment]
                    return segment.size
        return 0

    def evict(self, size: int) -> tuple[list[int], int]:
        """Remove free segments until so many bytes are won, or none is left; return their numbers, and the bytes."""
        gone: list[int] = []
        won = 0
        for segment in self._segments:
            if won >= size:
                break
            if segment.there.is_set() and segment.claim.acquire(blocking=False):  # not released: nobody takes it again
                if self._is_free(segment):
                    won += self.remove(segment.number)
                    gone.append(segment.number)
                else:
                    segment.claim.release()
        return gone, won

    def close(self) -> None:
        """Use none of them any more."""
        for segment in self._segments:
            self.remove(segment.number)

    def __len__(self) -> int:
        return len(self._segments)

    def awaited(self, size: int) -> bool:
        """Whether a segment of this size was made, and the other side has not mapped it yet."""
        return any(segment.size >= size and not segment.there.is_set() for segment in self._segments)

    # -- lending -----------------------------------------------------------------------------------------------------

    def place(self, data: memoryview) -> Loan | None:
        """Copy a buffer into a free segment; None where there is none, or its memory can't be had."""
        length = data.nbytes
        segment = self._claim(length)
        if segment is None:
            self.missed += 1
            return None
        try:
            try:
                slot = self._free.popleft()
            except IndexError:
                self.missed += 1
                return None
            view = segment.view
            if view.nbytes < length:  # it was removed at this moment
                self._free.append(slot)
                return None
            loan = Loan(segment, length, slot, next(self._generations) & 0xFFFFFFFF or next(self._generations))
            _copy(view[:length], data)
            self._ledger.sent[slot] = loan.generation
            segment.loans.append(loan)
            return loan
        finally:
            segment.claim.release()

    def take_back(self, loan: Loan) -> None:
        """Give up a loan whose message is not sent."""
        self._doubtful.append((0.0, loan))

    def doubt(self, loans: list[Loan], patience: float = DOUBT_S) -> None:
        """Give up the loans of a lane that is over, where the other side has not taken them up by then."""
        due = time.monotonic() + patience
        self._doubtful.extend([(due, loan) for loan in loans if loan in loan.segment.loans])

    def _claim(self, length: int) -> Segment | None:
        found = self._look(length)
        if found is None and length <= MAX_SEGMENT:
            if self._doubtful and self._settle():
                found = self._look(length)
            if found is None and self._grow(size_for(length)):
                found = self._look(length)
        return found

    def _look(self, length: int) -> Segment | None:
        """Claim the smallest free segment that is large enough, and not far too large."""
        for segment in self._segments:
            if segment.size >= length and segment.there.is_set():
                if segment.size > max(4 * length, 4 * SMALLEST):
                    break
                if segment.claim.acquire(blocking=False):
                    if not segment.gone and self._is_free(segment):
                        return segment
                    segment.claim.release()
        return None

    def _is_free(self, segment: Segment) -> bool:
        """Whether all loans of a segment that was claimed have come back."""
        returned = self._ledger.returned
        for loan in list(segment.loans):
            if loan.over or returned[loan.slot] == loan.generation:
                segment.loans.remove(loan)
                self._free.append(loan.slot)
        return not segment.loans

    def _settle(self) -> bool:
        """Take back what may never arrive, where its time is up; say whether anything was."""
        now, again, settled = time.monotonic(), [], False
        for _ in range(len(self._doubtful)):
            try:
                due, loan = self._doubtful.popleft()
            except IndexError:  # another thread does the same
                break
            if due > now or not loan.segment.claim.acquire(blocking=False):
                again.append((due, loan))
                continue
            if loan in loan.segment.loans:
                self._ledger.sent[loan.slot] = 0
                _fence()
                loan.over = self._ledger.taken[loan.slot] != loan.generation
                settled = settled or loan.over
            loan.segment.claim.release()
        self._doubtful.extend(again)
        return settled


class _Held(weakref.ref[Any]):
    """A weak reference to what all views of a loan rest on; it knows what to give back."""

    __slots__ = ("generation", "kept", "slot")
    __hash__ = object.__hash__
    slot: int
    generation: int
    kept: bool


class Borrower:
    """The segments that the other side writes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._segments: dict[int, Mapping] = {}
        self._held: set[_Held] = set()
        _borrowers.add(self)

    def add(self, number: int, mapping: Mapping) -> None:
        """Know one more segment."""
        self._segments[number] = mapping

    def remove(self, number: int) -> int:
        """Forget a segment, which lives on with its last view; return its size, or 0 where there is none."""
        mapping = self._segments.pop(number, None)
        return 0 if mapping is None else mapping.size

    def close(self) -> None:
        """Forget all of them."""
        self._segments.clear()

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def held(self) -> int:
        """How many loans are taken up, and not given back."""
        return len(self._held)

    def view(self, number: int, offset: int, length: int, slot: int, generation: int) -> memoryview:
        """Take up a loan: a read-only view. It is given back when the last view of it, however derived, has died.

        Raises ProtocolError where there is no such part; nothing was touched then. MarshalError where the lender has
        taken it back.
        """
        mapping = self._segments.get(number)
        if mapping is None:
            raise ProtocolError(f"bad value: it lies in segment {number}, which does not exist")
        if offset % ALIGNMENT or offset + length > mapping.size or not length:
            raise ProtocolError(f"bad value: {length} bytes at {offset} do not lie in segment {number}")
        if slot >= SLOTS or not generation:
            raise ProtocolError(f"bad value: there is no loan {slot}, {generation}")
        ledger = self._ledger
        ledger.taken[slot] = generation
        _fence()
        if ledger.sent[slot] != generation:
            ledger.returned[slot] = generation
            raise MarshalError("its data was taken back before it arrived: the lane on which it was sent is over")
        root = mapping.root(offset, length)
        held = _Held(root, self._give_back)
        held.slot, held.generation, held.kept = slot, generation, False
        self._held.add(held)
        return memoryview(root).cast("B").toreadonly()

    def keep(self) -> None:
        """Give back none of what is held now: a fork of this process will go on reading it."""
        for held in list(self._held):
            held.kept = True

    def _give_back(self, held: _Held) -> None:
        self._held.discard(held)
        if not held.kept:
            self._ledger.returned[held.slot] = held.generation


_borrowers: weakref.WeakSet[Borrower] = weakref.WeakSet()


def _before_fork() -> None:
    for borrower in list(_borrowers):
        borrower.keep()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)

_barrier = threading.Lock()


def _fence() -> None:
    """Let what was written be seen before what comes next is read: taking a lock is such a point on every processor."""
    if _barrier.acquire(blocking=False):
        _barrier.release()


def _copy(target: memoryview, data: memoryview) -> None:
    if data.nbytes >= COPIED_BY_NUMPY:
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None:
            numpy.copyto(numpy.frombuffer(target, "u1"), numpy.frombuffer(data, "u1"))
            return
    target[:] = data
