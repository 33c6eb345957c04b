"""Large buffers that lie in shared memory: what this side of a wall lends the other one, and when it comes back.

Each side is a `Lender` of the segments that it writes, and a `Borrower` of the other's (`borrowing`). A message carries
a *loan*: segment, offset, length, slot and generation (`loans`). How one comes back is in `ledger`. There are three
kinds:

- A buffer from anywhere is copied into a free segment of the pool (`place`). The segment is free again when the loan
  has come back.
- A buffer that lies in a segment already is lent as it lies (`lend`): one of the pool that was taken for an array
  (`reserve`), or one that was made for an array and is known to several domains (`introduce`; see `commons`). Several
  loans of it may be open. What is written into it meanwhile is seen by who reads it.
- A buffer that lies in a segment of the *other* side is lent home (`relay`): the message names the place, and what was
  borrowed is held here until the other side has said that it has it.

Any thread may enter. Finalizers add to queues; they take no lock.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cloister.objects.ledger import SLOTS, Ledger, fence
from cloister.objects.loans import MAX_SEGMENT, SMALLEST, Loan, Segment, size_for
from cloister.pipes import pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.pipes.segments import Mapping
    from cloister.wire.encoding import Gathered

__all__ = ["Lender", "in_loop"]

DOUBT_S: Final = 60.0
"""How long a loan whose lane is over may still be taken up; then the lender takes it back, when it needs the room."""
COPIED_BY_NUMPY: Final = 1024 * 1024
"""From this size on numpy copies, where it is loaded: it lets other threads run meanwhile, and help."""


def in_loop() -> bool:
    """Whether this thread runs an asyncio loop, which must not be held up."""
    events: Any = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


class Lender:
    """The segments that this side writes."""

    def __init__(self, ledger: Ledger, grow: Callable[[int], bool]) -> None:
        """`grow` gets one more segment of a size, and says whether to look again; it waits a moment at most."""
        self._ledger, self._grow = ledger, grow
        self._segments: list[Segment] = []
        """The pool, the smallest first."""
        self._introduced: list[Segment] = []
        """Those of arrays that several domains may know."""
        self._leaving: list[Segment] = []
        """Those that are lent no more, until their loans have come back."""
        self._withdrawn: deque[int] = deque()
        """The numbers of those that were withdrawn and are lent no more: the other side may forget them."""
        self._passing = Segment(0, None)
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

    def introduce(self, segment: Segment) -> None:
        """Lend what lies in the segment of an array, from when it is `there`."""
        with self._changing:
            self._introduced = [*self._introduced, segment]

    def arrived(self, number: int) -> None:
        """The other side has mapped a segment."""
        for segment in (*self._segments, *self._introduced):
            if segment.number == number:
                segment.there.set()

    def remove(self, number: int) -> int:
        """Use a segment no more; return its size, or 0 where there is none in the pool."""
        with self._changing:
            for segment in self._segments:
                if segment.number == number:
                    segment.forget()
                    self._segments = [each for each in self._segments if each is not segment]
                    if segment.loans:
                        self._leaving = [*self._leaving, segment]
                    return segment.size
            for segment in self._introduced:
                if segment.number == number:  # it stays known as one that can't be had over there
                    segment.gone = True
                    segment.there.set()
        return 0

    def withdraw(self, mapping: Mapping) -> None:
        """Lend nothing more of the segment of an array. `tidy` ends it when all loans of it are back."""
        with self._changing:
            for segment in self._introduced:
                if segment.mapping is mapping:
                    self._introduced = [each for each in self._introduced if each is not segment]
                    self._leaving = [*self._leaving, segment]

    def take_withdrawn(self) -> list[int]:
        """The numbers of the segments that were withdrawn and are lent no more, each once."""
        taken: list[int] = []
        try:
            while True:
                taken.append(self._withdrawn.popleft())
        except IndexError:
            return taken

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
        with self._changing:
            for segment in (*self._segments, *self._introduced, *self._leaving):
                segment.forget()
            self._segments, self._introduced, self._leaving = [], [], []

    def __len__(self) -> int:
        return len(self._segments)

    def awaited(self, size: int) -> bool:
        """Whether a segment of this size was made, and the other side has not mapped it yet."""
        return any(segment.size >= size and not segment.there.is_set() for segment in self._segments)

    @property
    def unanswered(self) -> int:
        """How many segments of arrays the other side was given, and has said nothing of yet."""
        return sum(not segment.there.is_set() for segment in self._introduced)

    def segment_of(self, mapping: Mapping) -> Segment | None:
        """The segment that is mapped so; None where the other side does not know it."""
        for segment in (*self._segments, *self._introduced):
            if segment.mapping is mapping:
                return segment
        return None

    def mapping_of(self, number: int) -> Mapping | None:
        """How a segment is mapped that the other side knows; None where there is none of this number."""
        for segment in (*self._segments, *self._introduced, *self._leaving):
            if segment.number == number:
                return segment.mapping
        return None

    # -- lending -----------------------------------------------------------------------------------------------------

    def place(self, data: memoryview | Gathered) -> Loan | None:
        """Copy a buffer into a free segment; None where there is none, or its memory can't be had."""
        length = data.nbytes
        segment = self._claim(length)
        if segment is None:
            self.missed += 1
            return None
        try:
            slot = self._slot()
            view = segment.view
            if slot is None or view.nbytes < length:  # it was removed at this moment
                self.missed += 1
                if slot is not None:
                    self._free.append(slot)
                return None
            try:
                _copy(view[:length], data)
            except BaseException:  # an interruption, or no memory
                self._free.append(slot)
                raise
            return self._lent(Loan(segment, segment.number, segment.size, 0, length, slot, self._generation()))
        finally:
            segment.claim.release()

    def lend(self, segment: Segment, offset: int, length: int) -> Loan | None:
        """Lend a part of a segment as it lies, while a view of it lives here; None where there are too many loans."""
        slot = self._slot()
        if slot is None:
            return None
        return self._lent(Loan(segment, segment.number, segment.size, offset, length, slot, self._generation()))

    def relay(self, number: int, size: int, offset: int, length: int, borrowed: Any) -> Loan | None:
        """Lend home a part of a segment of the other side, of `size`; `borrowed` is what holds it here."""
        slot = self._slot()
        if slot is None:
            return None
        return self._lent(Loan(self._passing, number, size, offset, length, slot, self._generation(), borrowed))

    def reserve(self, length: int) -> Any:
        """The ground of a segment of the pool, for an array; None where none is to be had.

        The segment is free again when the ground has gone and all loans are back.
        """
        segment = self._claim(length)
        if segment is None:
            return None
        try:
            return None if segment.mapping is None else segment.mapping.ground()
        finally:
            segment.claim.release()

    def take_back(self, loan: Loan) -> None:
        """Give up a loan whose message is not sent."""
        self._doubtful.append((0.0, loan))

    def doubt(self, loans: list[Loan], patience: float = DOUBT_S) -> None:
        """Give up the loans of a lane that is over, where the other side has not taken them up by then."""
        due = time.monotonic() + patience
        self._doubtful.extend([(due, loan) for loan in loans if loan in loan.open_in.loans])

    def tidy(self) -> None:
        """Let go of what has come back since, and of what was lent home and has arrived."""
        if self._doubtful:
            self._settle()
        if self._passing.loans:
            self._swept(self._passing)
        for segment in self._leaving:
            if self._is_left(segment):
                with self._changing:
                    if segment not in self._leaving:  # another thread did it
                        continue
                    self._leaving = [each for each in self._leaving if each is not segment]
                    if not segment.gone:
                        self._withdrawn.append(segment.number)
                segment.forget()

    def _lent(self, loan: Loan) -> Loan:
        self._ledger.sent[loan.slot] = loan.generation
        loan.open_in.loans.append(loan)
        return loan

    def _generation(self) -> int:
        return next(self._generations) & 0xFFFFFFFF or next(self._generations)

    def _slot(self) -> int | None:
        if self._passing.loans:
            self._swept(self._passing)
        for again in (True, False):
            try:
                return self._free.popleft()
            except IndexError:
                if again:
                    self.tidy()
                    for segment in (*self._segments, *self._introduced):
                        self._swept(segment)
        return None

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
        """Whether all loans of a segment that was claimed have come back, and no array of this side lies in it."""
        mapping, returned = segment.mapping, self._ledger.returned
        # Asked before the loans and after them: an array may come home, or be lent, in between.
        grounded = mapping is not None and mapping.grounded
        for loan in list(segment.loans):
            if loan.over or returned[loan.slot] == loan.generation:
                segment.loans.remove(loan)
                loan.keeps = None
                self._free.append(loan.slot)
        return not grounded and not segment.loans and (mapping is None or not mapping.grounded)

    def _is_left(self, segment: Segment) -> bool:
        """Whether a segment that can't be found any more is free; False where another thread is about it."""
        if not segment.claim.acquire(blocking=False):
            return False
        try:
            return self._is_free(segment)
        finally:
            segment.claim.release()

    def _swept(self, segment: Segment) -> bool:
        """Take in the loans of a segment that have come back; False where another thread is about it."""
        if not segment.claim.acquire(blocking=False):
            return False
        self._is_free(segment)
        segment.claim.release()
        return True

    def _settle(self) -> bool:
        """Take back what may never arrive, where its time is up; say whether anything was."""
        now, again, settled = time.monotonic(), [], False
        for _ in range(len(self._doubtful)):
            try:
                due, loan = self._doubtful.popleft()
            except IndexError:  # another thread does the same
                break
            if due > now or not loan.open_in.claim.acquire(blocking=False):
                again.append((due, loan))
                continue
            if loan in loan.open_in.loans:
                self._ledger.sent[loan.slot] = 0
                fence()
                loan.over = self._ledger.taken[loan.slot] != loan.generation
                settled = settled or loan.over
            loan.open_in.claim.release()
        self._doubtful.extend(again)
        return settled


def _copy(target: memoryview, data: memoryview | Gathered) -> None:
    if not isinstance(data, memoryview):
        data.write_to(target)
        return
    if data.nbytes >= COPIED_BY_NUMPY:
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None:
            to, source = numpy.frombuffer(target, "u1"), numpy.frombuffer(data, "u1")
            pieces.do(lambda begin, end: numpy.copyto(to[begin:end], source[begin:end]), data.nbytes)
            return
    target[:] = data
