"""What the codecs of one wall use for large buffers: lending to the other side, and borrowing from it.

Here is the base; which side makes segments and which one asks is in `cloister.domain.guest_segments` and
`cloister.guest.host_segments`. Until shared memory was agreed on, and wherever there is none, everything here says so,
and buffers go through the pipe. Any thread may enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloister.errors import ProtocolError

if TYPE_CHECKING:
    from cloister.objects.buffers import Borrower, Lender, Loan

__all__ = ["Exchange"]


class Exchange:
    """The shared memory of one wall; this one has none."""

    lender: Lender | None = None
    borrower: Borrower | None = None

    def begin(self, length: int) -> None:
        """See to it that there is a lender, because a buffer of this length is to be lent; else it goes by pipe."""

    def lend(self, data: memoryview) -> Loan | None:
        """Copy a large buffer into shared memory; None where it is to travel through the pipe."""
        if self.lender is None:
            self.begin(data.nbytes)
        lender = self.lender
        return None if lender is None else lender.place(data)

    def take_back(self, loan: Loan) -> None:
        """A buffer will not be sent."""
        if self.lender is not None:
            self.lender.take_back(loan)

    def doubt(self, loans: list[Loan]) -> None:
        """The lane on which these were sent is over, perhaps before they were read."""
        if self.lender is not None:
            self.lender.doubt(loans)

    def view(self, segment: int, offset: int, length: int, slot: int, generation: int) -> memoryview:
        """Give a view of what the other side lends. Raises ProtocolError and MarshalError as `Borrower.view`."""
        borrower = self.borrower
        if borrower is None:
            raise ProtocolError("bad value: a buffer lies in shared memory, and there is none")
        return borrower.view(segment, offset, length, slot, generation)
