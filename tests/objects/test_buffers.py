"""Loans of shared memory, lender and borrower in one process: what comes back when, and what never arrives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloister.errors import MarshalError, ProtocolError
from cloister.objects.borrowing import Borrower
from cloister.objects.buffers import SMALLEST, Lender, Loan, Segment, size_for
from cloister.objects.ledger import Ledger
from cloister.pipes import segments
from cloister.pipes.duplex import close_quietly

pytestmark = pytest.mark.skipif(not segments.AVAILABLE, reason="this platform has no segments")

Pair = tuple[Lender, Borrower]


def pair(grow: Callable[[int], bool] = lambda _: False) -> Pair:
    """Both sides of one direction, with one segment of 64 KiB."""
    ledger, fd = segments.create(Ledger.BYTES, True, shared=True)
    segment, other = segments.create(SMALLEST, True)
    close_quietly(fd, other)
    lender, borrower = Lender(Ledger(ledger, upwards=False), grow), Borrower(Ledger(ledger, upwards=False))
    lender.add(Segment(1, segment))
    borrower.add(1, segment)
    return lender, borrower


def lent(lender: Lender, data: bytes = b"x" * SMALLEST) -> Loan | None:
    """Lend some bytes."""
    return lender.place(memoryview(data))


def test_loan_comes_back_with_the_last_view() -> None:
    """A segment is lent once at a time, from when it is there, and again when the last view has died."""
    lender, borrower = pair()
    assert lent(lender) is None
    lender.arrived(1)
    loan = lent(lender, b"a" * SMALLEST)
    assert loan is not None
    view = borrower.view(*loan.fields)
    part = view[10:20]
    del view
    assert lent(lender) is None
    assert bytes(part) == b"a" * 10
    del part
    assert lent(lender) is not None
    assert lender.missed == 2


def test_what_was_taken_back_is_never_read() -> None:
    """A loan that was not sent is free at once; who takes it up later is told, and reads nothing."""
    lender, borrower = pair()
    lender.arrived(1)
    loan = lent(lender)
    assert loan is not None
    lender.take_back(loan)
    again = lent(lender, b"b" * SMALLEST)
    assert again is not None
    with pytest.raises(MarshalError, match="taken back"):
        borrower.view(*loan.fields)
    assert bytes(borrower.view(*again.fields)) == b"b" * SMALLEST


def test_what_was_taken_up_is_not_taken_back() -> None:
    """Where the message has arrived after all, the loan runs until the view has died."""
    lender, borrower = pair()
    lender.arrived(1)
    loan = lent(lender, b"a" * SMALLEST)
    assert loan is not None
    view = borrower.view(*loan.fields)
    lender.take_back(loan)
    lender.doubt([loan], patience=0.0)
    assert lent(lender) is None
    assert bytes(view) == b"a" * SMALLEST
    del view
    assert lent(lender) is not None


def test_doubtful_loan_waits_for_its_time() -> None:
    """What a lane that is over had sent may still be read; its segment is free when the time for that is up."""
    lender, _ = pair()
    lender.arrived(1)
    loan = lent(lender)
    assert loan is not None
    lender.doubt([loan], patience=1000.0)
    assert lent(lender) is None
    lender.doubt([loan], patience=0.0)
    assert lent(lender) is not None


def test_only_what_is_free_is_evicted() -> None:
    """A segment that is lent stays; one that is free goes, and is not lent any more."""
    lender, borrower = pair()
    lender.arrived(1)
    loan = lent(lender)
    assert loan is not None
    view = borrower.view(*loan.fields)
    assert lender.evict(1) == ([], 0)
    del view
    assert lender.evict(1) == ([1], SMALLEST)
    assert lent(lender) is None
    assert len(lender) == 0


def test_fork_keeps_what_is_held() -> None:
    """What is held when the process forks is not given back, because the child goes on seeing it."""
    lender, borrower = pair()
    lender.arrived(1)
    loan = lent(lender)
    assert loan is not None
    view = borrower.view(*loan.fields)
    borrower.keep()
    del view
    assert lent(lender) is None


@pytest.mark.parametrize("fields", [(2, 0, 64, 0, 1), (1, 0, SMALLEST + 1, 0, 1), (1, 0, 0, 0, 1),
                                    (1, 0, 64, 1024, 1), (1, 0, 64, 0, 0)])  # fmt: skip
def test_what_does_not_exist_is_a_protocol_error(fields: tuple[int, int, int, int, int]) -> None:
    """Every field is checked before anything is touched."""
    with pytest.raises(ProtocolError):
        pair()[1].view(*fields)


def test_sizes_are_few_and_fit() -> None:
    """A segment is large enough, a quarter larger at most, and near lengths share a size."""
    for length in (1, 65_535, 65_536, 65_537, 100_000, 1 << 20, (1 << 20) + 1, 100_000_001):
        size = size_for(length)
        assert length <= size
        assert size == SMALLEST or size <= 1.25 * length
    assert size_for(1 << 26) == 1 << 26
    assert len({size_for(length) for length in range(1 << 20, 1 << 21, 997)}) <= 9
