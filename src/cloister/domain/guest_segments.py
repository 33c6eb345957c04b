"""The shared memory between this program and one guest: made here, within a budget, when either side needs some.

What lies in a segment, and when it comes back, is in `cloister.objects.buffers`; how a segment is made, in
`cloister.pipes.segments`. A guest that can use segments says so first; the ledger is made with the first of them. A
segment that goes down is used from when the guest has said that it has it. Whatever fails, large buffers go through the
pipe. The segments of arrays that several domains may know (`cloister.objects.commons`) are introduced to the guest
here; they are not in the budget.

`wanted`, `had`, `dropped` and `tidy` belong to the watcher's thread, all else to any.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister import calling
from cloister.errors import ProtocolError
from cloister.levels.watcher import watcher
from cloister.objects import commons
from cloister.objects.borrowing import Borrower
from cloister.objects.buffers import Lender, in_loop
from cloister.objects.exchange import Exchange
from cloister.objects.ledger import Ledger
from cloister.objects.loans import MAX_SEGMENT, Segment
from cloister.pipes import segments
from cloister.pipes.duplex import close_quietly
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.domain.life import Life
    from cloister.pipes.segments import Mapping

__all__ = ["GuestSegments"]

MOST: Final = 256
"""Segments of one domain."""
WAIT_S: Final = 1.0
"""How long a call waits until the guest has mapped a new segment, which takes milliseconds; then the pipe is taken."""
MOST_UNANSWERED: Final = 64
"""Segments of arrays that the guest was given and has not mapped yet; each may hold a descriptor that waits here."""
REST_S: Final = 5.0
"""How long no segment is made after one could not be had."""


class GuestSegments(Exchange):
    """The segments of one domain."""

    def __init__(self, life: Life, budget: int) -> None:
        """`budget`: the bytes of all segments together, in both directions; 0: there are none."""
        self._life = life
        self.budget = budget
        self._lock = threading.RLock()  # a finalizer may call while it is held
        self._numbers = itertools.count(1)
        self._able = self._closed = False
        self._rest_until = 0.0
        self._refused = 0
        self._made = 0
        self._given_back: deque[int] = deque()
        """Sizes of segments that are no more, and are not yet subtracted: the watcher's thread takes no lock here."""

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return 0 if self._closed else self._made - sum(self._given_back)

    @property
    def missed(self) -> int:
        """Large buffers that went through the pipe, and segments that the guest asked for and did not get."""
        lender = self.lender
        return self._refused + (0 if lender is None else lender.missed)

    # -- the guest says ----------------------------------------------------------------------------------------------

    def wanted(self, ticket: int, size: int, work: Callable[[Any], None]) -> None:
        """The guest wants to write a segment; with no ticket it says that it can use them. `work` runs a job later.

        Raises ProtocolError where that makes no sense.
        """
        if not ticket and not size:
            self._able = segments.AVAILABLE
        elif not self._able or not 0 < size <= MAX_SEGMENT:
            raise ProtocolError(f"it wants a segment of {size} bytes")
        else:
            work(partial(self._make_up, ticket, size))

    def had(self, number: int) -> None:
        """The guest has mapped a segment."""
        if self.lender is not None:
            self.lender.arrived(number)

    def dropped(self, numbers: list[Any]) -> None:
        """The guest uses these no more, or can't have them. Raises ProtocolError for more than it can have."""
        if len(numbers) > MOST:
            raise ProtocolError(f"it drops {len(numbers):,} segments at once, and can't have more than {MOST}")
        numbers = [int(number) for number in numbers]
        lender, borrower = self.lender, self.borrower
        if lender is None or borrower is None:
            return
        for number in numbers:
            size = lender.remove(number)
            if size:  # it could not be mapped over there
                self._rest_until = time.monotonic() + REST_S
            size += borrower.remove(number)
            if size:
                self._given_back.append(size)

    # -- making them -------------------------------------------------------------------------------------------------

    def begin(self, length: int = 0) -> None:
        """Make the ledger, and let the guest have it, unless that was done; waits where it is about to be ready."""
        if not self._able and self._life.serves_soon and not in_loop():
            self._life.wait_ready(calling.deadline.get())
        with self._lock:
            if self.lender is not None or not self._able or not self.budget or self._closed:
                return
            if time.monotonic() < self._rest_until:
                return
            try:
                mapping, fd = segments.create(Ledger.BYTES, True, shared=True)
            except OSError:
                self._rest_until = time.monotonic() + REST_S
                return
            self._life.speaker.hand_segment(0, Ledger.BYTES, True, 0, fd)
            self.borrower = Borrower(Ledger(mapping, upwards=True))
            self.lender = Lender(Ledger(mapping, upwards=False), self._grow)

    def _grow(self, size: int) -> bool:
        """Make a segment that goes down, and wait a moment for the guest to have it."""
        lender = self.lender
        if lender is None or watcher.here or lender.awaited(size):
            return False
        made = self._create(size, True)
        if made is None:
            return False
        number, mapping, fd = made
        segment = Segment(number, mapping)
        lender.add(segment)
        self._life.speaker.hand_segment(number, size, False, 0, fd)
        if self._closed:
            lender.close()
            return False
        return self._await(segment)

    def _await(self, segment: Segment) -> bool:
        """Wait a moment until the guest has mapped it."""
        if segment.there.is_set():
            return True
        limit = calling.deadline.get()
        wait = WAIT_S if limit is None else max(0.0, min(WAIT_S, limit - time.monotonic()))
        return not in_loop() and not watcher.here and segment.there.wait(wait)

    def _make_up(self, ticket: int, size: int) -> None:
        """Make a segment that goes up."""
        if self._closed:
            return
        self.begin()
        made = self._create(size, False)
        borrower = self.borrower
        if made is None or borrower is None:
            self._refused += 1
            self._life.speaker.send(Kind.NO_SEGMENT, ticket)
            return
        number, mapping, fd = made
        borrower.add(number, mapping)
        self._life.speaker.hand_segment(number, size, True, ticket, fd)

    def _create(self, size: int, downwards: bool) -> tuple[int, segments.Mapping, int] | None:
        if self._closed or time.monotonic() < self._rest_until or not self._reserve(size):
            return None
        try:
            mapping, fd = segments.create(size, downwards)
        except OSError:
            self._rest_until = time.monotonic() + REST_S
            self._given_back.append(size)
            return None
        if self._closed:
            close_quietly(fd)
            return None
        return next(self._numbers), mapping, fd

    def _reserve(self, size: int) -> bool:
        """Take so much of the budget; segments that lie idle make room."""
        lender, borrower = self.lender, self.borrower
        if lender is None or borrower is None or size > self.budget:
            return False
        with self._lock:
            while self._given_back:
                self._made -= self._given_back.popleft()
            missing = self._made + size - self.budget
            if missing > 0 or len(lender) + len(borrower) >= MOST:
                gone, won = lender.evict(max(missing, 1))
                if gone:
                    self._made -= won
                    self._life.speaker.send(Kind.DROP_SEGMENT, gone)
            if self._made + size > self.budget or len(lender) + len(borrower) >= MOST:
                return False
            self._made += size
            return True

    # -- arrays that other domains may know as well --------------------------------------------------------------------

    def introduce(self, mapping: Mapping) -> Segment | None:
        """Make the guest know the segment of an array; None where that can't be, or is not done yet."""
        common, lender = commons.of(mapping), self.lender
        if common is None or lender is None:
            return None
        with self._lock:
            segment = lender.segment_of(mapping)
            if segment is None:
                if lender.unanswered >= MOST_UNANSWERED:  # it reads nothing at present
                    return None
                try:
                    fd = os.dup(common.fd)
                except OSError:
                    return None
                segment = Segment(next(self._numbers), mapping)
                lender.introduce(segment)
                common.readers.add(self)
                self._life.speaker.hand_segment(segment.number, segment.size, False, 0, fd)
                if self._closed:
                    common.readers.discard(self)
                    return None
        return segment if self._await(segment) else None

    def withdraw(self, mapping: Mapping) -> None:
        """Let the guest forget the segment of an array, as soon as it has read all messages that name it."""
        if self.lender is not None:
            self.lender.withdraw(mapping)
            self._settle(self.lender)

    def tidy(self) -> None:
        """Work off what has come back; done with every beat."""
        commons.tidy()
        if self.lender is not None:
            self._settle(self.lender)

    def _settle(self, lender: Lender) -> None:
        """Take in what has come back, and tell the guest which segments of arrays it may forget."""
        lender.tidy()
        gone = lender.take_withdrawn()
        if gone:
            self._life.speaker.send(Kind.DROP_SEGMENT, gone)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The domain has ended: let go of everything but what somebody still looks at."""
        self._closed = True
        lender, borrower = self.lender, self.borrower
        self.lender = self.borrower = None
        if lender is not None:
            self._refused += lender.missed
            lender.close()
        if borrower is not None:
            borrower.close()
        commons.forget(self)
