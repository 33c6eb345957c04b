"""What the codecs of one wall use for large buffers: lending to the other side, and borrowing from it.

Here is the base; which side makes segments and which one asks is in `cloister.domain.guest_segments` and
`cloister.guest.host_segments`. Until shared memory was agreed on, and wherever there is none, everything here says so,
and buffers go through the pipe. Any thread may enter.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cloister.errors import ProtocolError

if TYPE_CHECKING:
    from cloister.objects.borrowing import Borrower
    from cloister.objects.buffers import Lender
    from cloister.objects.loans import Loan, Segment
    from cloister.pipes.segments import Mapping
    from cloister.wire.encoding import Gathered

__all__ = ["Exchange", "root_under"]


class Exchange:
    """The shared memory of one wall; this one has none."""

    lender: Lender | None = None
    borrower: Borrower | None = None

    def begin(self, length: int) -> None:
        """See to it that there is a lender, because a buffer of this length is to be lent; else it goes by pipe."""

    def introduce(self, mapping: Mapping) -> Segment | None:
        """Make the other side know the segment of an array; None where that can't be, or not now."""
        return None

    def lend(self, data: memoryview | Gathered) -> Loan | None:
        """Lend a large buffer: as it lies, where that is in shared memory that the other side may know, else a copy.

        None where it is to travel through the pipe.
        """
        if self.lender is None:
            self.begin(data.nbytes)
        lender = self.lender
        if lender is None:
            return None
        if isinstance(data, memoryview):
            root = root_under(data)
            loan = None if root is None else self._as_it_lies(lender, root, data)
            if loan is not None:
                return loan
        return lender.place(data)

    def _as_it_lies(self, lender: Lender, root: Any, data: memoryview) -> Loan | None:
        mapping: Mapping = root._cloister_mapping
        number = 0 if self.borrower is None else self.borrower.number_of(mapping)
        if number:
            return lender.relay(number, mapping.size, mapping.offset_of(data), data.nbytes, root)
        segment = lender.segment_of(mapping)
        if segment is None or not segment.there.is_set():
            segment = self.introduce(mapping)
        if segment is None or segment.gone:
            return None
        return lender.lend(segment, mapping.offset_of(data), data.nbytes)

    def take_back(self, loan: Loan) -> None:
        """A buffer will not be sent."""
        if self.lender is not None:
            self.lender.take_back(loan)

    def doubt(self, loans: list[Loan]) -> None:
        """The lane on which these were sent is over, perhaps before they were read."""
        if self.lender is not None:
            self.lender.doubt(loans)

    def view(
        self, segment: int, offset: int, length: int, slot: int, generation: int, home: bool
    ) -> tuple[memoryview, int]:
        """Give a view of what the other side lends, and the size of its segment.

        `home` says that it lies in a segment of this side's own.

        Raises ProtocolError and MarshalError as `Borrower.view`.
        """
        lender, borrower = self.lender, self.borrower
        if lender is None or borrower is None:
            raise ProtocolError("bad value: a buffer lies in shared memory, and there is none")
        if not home:
            view = borrower.view(segment, offset, length, slot, generation)
            return view, root_under(view)._cloister_mapping.size
        mapping = lender.mapping_of(segment)
        if mapping is None:
            raise ProtocolError(f"bad value: it lies in segment {segment}, which does not exist")
        return borrower.at_home(mapping, segment, offset, length, slot, generation), mapping.size


def root_under(view: Any) -> Any:
    """What a memoryview or an array rests on, where that is a part of a segment (`Mapping.root`); else None."""
    holder = view
    numpy: Any = sys.modules.get("numpy")
    array = () if numpy is None else numpy.ndarray
    while holder is not None:
        if type(holder) is memoryview:
            holder = holder.obj
        elif isinstance(holder, array):
            holder = holder.base
        else:
            return holder if "_cloister_mapping" in getattr(holder, "__dict__", ()) else None
    return None
