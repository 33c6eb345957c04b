"""A loan, and the segment that it lies in: what the lender of shared memory knows of each.

Who lends, and when a segment is free again, is in `buffers`. A segment is made by the host and mapped by both sides;
how, is in `cloister.pipes.segments`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cloister.pipes.segments import Mapping

__all__ = ["MAX_SEGMENT", "SMALLEST", "Loan", "Segment", "size_for"]

SMALLEST: Final = 64 * 1024
"""The smallest segment; what is shorter travels in its message."""
MAX_SEGMENT: Final = 1 << 34
"""The largest one."""


def size_for(length: int) -> int:
    """The size of the segment for so many bytes: at most a quarter more, so that others fit into it as well."""
    size = SMALLEST
    while size < length:
        size *= 2
    step = size // 8
    return max(SMALLEST, -(-length // step) * step) if size > SMALLEST else SMALLEST


_NOTHING: Final = memoryview(b"")


class Loan:
    """A part of a segment that the other side may read; `home`: of a segment of its own."""

    __slots__ = ("generation", "home", "keeps", "length", "number", "offset", "open_in", "over", "size", "slot")

    def __init__(
        self,
        open_in: Segment,
        number: int,
        size: int,
        offset: int,
        length: int,
        slot: int,
        generation: int,
        keeps: Any = None,
    ) -> None:
        self.open_in = open_in
        self.number, self.size = number, size
        self.offset, self.length = offset, length
        self.slot, self.generation = slot, generation
        self.keeps = keeps
        """What was borrowed from the other side and is lent home; None for what lies in a segment of this side."""
        self.home = keeps is not None
        self.over = False
        """The lender has taken it back."""

    @property
    def fields(self) -> tuple[int, int, int, int, int]:
        """What a message says of it: segment, offset, length, slot, generation."""
        return (self.number, self.offset, self.length, self.slot, self.generation)


class Segment:
    """A segment that this side writes; without a mapping, what is lent home."""

    __slots__ = ("claim", "gone", "loans", "mapping", "number", "size", "there", "view")

    def __init__(self, number: int, mapping: Mapping | None) -> None:
        self.number, self.mapping = number, mapping
        self.size = 0 if mapping is None else mapping.size
        self.view = _NOTHING if mapping is None else mapping.view()
        self.claim = threading.Lock()
        """Held by who looks whether it is free, and writes it. Nobody waits for it."""
        self.loans: list[Loan] = []
        self.there = threading.Event()
        """The other side has mapped it."""
        self.gone = False

    def forget(self) -> None:
        """Use it no more, nor wait for it. Its loans may be held for long, its memory is not."""
        self.gone = True
        self.view, self.mapping = _NOTHING, None
        self.there.set()
