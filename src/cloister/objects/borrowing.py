"""What this side of a wall reads of the shared memory that the other side writes.

A loan is taken up as a read-only view, and given back when the last view of it, however derived, has died. A finalizer
writes one word or nothing; it takes no lock. In a fork of this process nothing is given back, and what was borrowed
when it was made never is: the child may go on reading it. Any thread may enter.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

from cloister.errors import MarshalError, ProtocolError
from cloister.objects.ledger import SLOTS, Ledger, fence

if TYPE_CHECKING:
    from cloister.pipes.segments import Mapping

__all__ = ["Borrower"]


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

    def number_of(self, mapping: Mapping) -> int:
        """The number of the segment that is mapped so, or 0."""
        for number, each in list(self._segments.items()):
            if each is mapping:
                return number
        return 0

    def view(self, number: int, offset: int, length: int, slot: int, generation: int) -> memoryview:
        """Take up a loan: a read-only view. It is given back when the last view of it, however derived, has died.

        Raises ProtocolError where there is no such part; nothing was touched then. MarshalError where the lender has
        taken it back.
        """
        mapping = self._segments.get(number)
        if mapping is None:
            raise ProtocolError(f"bad value: it lies in segment {number}, which does not exist")
        self._take_up(mapping, number, offset, length, slot, generation)
        root = mapping.root(offset, length)
        held = _Held(root, self._give_back)
        held.slot, held.generation, held.kept = slot, generation, False
        self._held.add(held)
        return memoryview(root).cast("B").toreadonly()

    def at_home(
        self, mapping: Mapping, number: int, offset: int, length: int, slot: int, generation: int
    ) -> memoryview:
        """Take up a loan of what lies in a segment of this side's own, and say so at once. Raises as `view`."""
        ground = mapping.ground()  # from here on it is not used for anything else
        self._take_up(mapping, number, offset, length, slot, generation)
        self._ledger.returned[slot] = generation
        return memoryview(ground).cast("B").toreadonly()[offset : offset + length]

    def _take_up(self, mapping: Mapping, number: int, offset: int, length: int, slot: int, generation: int) -> None:
        if offset + length > mapping.size or not length:
            raise ProtocolError(f"bad value: {length} bytes at {offset} do not lie in segment {number}")
        if slot >= SLOTS or not generation:
            raise ProtocolError(f"bad value: there is no loan {slot}, {generation}")
        ledger = self._ledger
        ledger.taken[slot] = generation
        fence()
        if ledger.sent[slot] != generation:
            ledger.returned[slot] = generation
            raise MarshalError("its data was taken back before it arrived: the lane on which it was sent is over")

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
