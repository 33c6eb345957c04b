"""The shared memory between this guest and its host, which makes it: asked for, mapped, given back.

What lies in a segment, and when it comes back, is in `cloister.objects.buffers`. Whatever fails here, large buffers go
through the pipe. `arrived`, `refused`, `dropped` and `tidy` belong to the control thread, all else to any.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from cloister import calling
from cloister.objects import commons
from cloister.objects.borrowing import Borrower
from cloister.objects.buffers import Lender, in_loop
from cloister.objects.exchange import Exchange
from cloister.objects.ledger import Ledger
from cloister.objects.loans import MAX_SEGMENT, Segment, size_for
from cloister.pipes import segments
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.guest.control import Control

__all__ = ["HostSegments"]

WAIT_S: Final = 1.0
"""How long a call waits for a segment, which takes milliseconds; then the pipe is taken."""
REST_S: Final = 5.0
"""How long none is asked for after the host had none."""


class _Wanted:
    """A segment that was asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.answered = threading.Event()
        self.granted = False


class HostSegments(Exchange):
    """The segments of this guest."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._tickets = itertools.count(1)
        self._waiting: dict[int, _Wanted] = {}
        self._rest_until = 0.0
        self._process = os.getpid()

    def offer(self) -> None:
        """Tell the host that this guest can use segments."""
        if segments.AVAILABLE:
            self._control.send(Kind.WANT_SEGMENT, 0, 0)
            commons.take_from(self.reserve)

    # -- the control thread ------------------------------------------------------------------------------------------

    def arrived(self, number: int, size: int, upwards: bool, ticket: int, fd: int | None) -> None:
        """The host has made a segment; `fd` is None where this process may not have another descriptor."""
        mapping = None
        if fd is not None:
            try:
                mapping = segments.attach(fd, size, upwards)
            except OSError:
                pass  # no memory, or no addresses, for it
        if number == 0:
            if mapping is not None:
                self.borrower = Borrower(Ledger(mapping, upwards=False))
                self.lender = Lender(Ledger(mapping, upwards=True), self._grow)
            return
        lender, borrower = self.lender, self.borrower
        if mapping is None or lender is None or borrower is None:
            self._control.send(Kind.DROP_SEGMENT, [number])
            self._rest_until = time.monotonic() + REST_S
            self._answer(ticket, False)
        elif upwards:
            segment = Segment(number, mapping)
            segment.there.set()
            lender.add(segment)
            self._answer(ticket, True)
        else:
            borrower.add(number, mapping)
            self._control.send(Kind.HAVE_SEGMENT, number)

    def refused(self, ticket: int) -> None:
        """The host has no segment to give."""
        self._answer(ticket, False)

    def dropped(self, numbers: list[int]) -> None:
        """The host uses these no more."""
        if self.borrower is not None:
            for number in numbers:
                self.borrower.remove(number)

    def _answer(self, ticket: int, granted: bool) -> None:
        wanted = self._waiting.pop(ticket, None)
        if wanted is not None:
            wanted.granted = granted
            wanted.answered.set()

    # -- any thread --------------------------------------------------------------------------------------------------

    def begin(self, length: int) -> None:
        """Ask for the first segment, with which the ledger comes."""
        if segments.AVAILABLE and length <= MAX_SEGMENT:
            self._grow(size_for(length))

    def reserve(self, length: int) -> Any:
        """The ground of a segment for an array; None where the host has none to give."""
        if os.getpid() != self._process:
            return None
        if self.lender is None:
            self.begin(length)
        return None if self.lender is None else self.lender.reserve(length)

    def tidy(self) -> None:
        """Let go of what was lent home and has arrived; done with every beat."""
        if self.lender is not None:
            self.lender.tidy()

    def _grow(self, size: int) -> bool:
        """Ask the host for a segment, and wait a moment for it; give up idle ones where it has none to give."""
        if threading.current_thread() is self._control.thread or os.getpid() != self._process:
            return False
        granted, lender = self._ask(size), self.lender
        if granted is False and lender is not None:
            gone, _ = lender.evict(size)
            if gone:
                self._control.send(Kind.DROP_SEGMENT, gone)
                granted = self._ask(size)
        if granted is False:
            self._rest_until = time.monotonic() + REST_S
        return bool(granted)

    def _ask(self, size: int) -> bool | None:
        """Whether the host has made a segment; None where that is not known yet, or is not to be asked now."""
        if time.monotonic() < self._rest_until or any(each.size >= size for each in list(self._waiting.values())):
            return None
        ticket, wanted = next(self._tickets), _Wanted(size)
        self._waiting[ticket] = wanted
        self._control.send(Kind.WANT_SEGMENT, ticket, size)
        if in_loop():
            return None
        limit = calling.deadline.get()
        wait = WAIT_S if limit is None else max(0.0, min(WAIT_S, limit - time.monotonic()))
        return wanted.granted if wanted.answered.wait(wait) else None
