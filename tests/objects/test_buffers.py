"""Loans of shared memory, lender and borrower in one process: what comes back when, and what never arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cloister.errors import MarshalError, ProtocolError
from cloister.objects import buffers
from cloister.objects.borrowing import Borrower
from cloister.objects.buffers import Lender
from cloister.objects.ledger import Ledger
from cloister.objects.loans import SMALLEST, Loan, Segment, size_for
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


def test_withdrawn_segment_is_told_of_when_it_is_back() -> None:
    """What is withdrawn is lent no more; the other side may forget it when nothing of it is lent, and hears it once."""
    lender, borrower = pair()
    mapping, fd = segments.create(SMALLEST, True)
    close_quietly(fd)
    segment = Segment(7, mapping)
    lender.introduce(segment)
    lender.arrived(7)
    borrower.add(7, mapping)
    loan = lender.lend(segment, 0, SMALLEST)
    assert loan is not None
    lender.withdraw(mapping)
    assert lender.segment_of(mapping) is None
    lender.tidy()
    assert lender.take_withdrawn() == []
    view = borrower.view(*loan.fields)
    lender.tidy()
    assert lender.take_withdrawn() == []
    del view
    lender.tidy()
    assert lender.take_withdrawn() == [7]
    lender.tidy()
    assert lender.take_withdrawn() == []


def test_interrupted_copy_loses_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is interrupted gives its slot and its segment back."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    lender, _ = pair()
    lender.arrived(1)
    free = len(lender._free)
    with monkeypatch.context() as patch:
        patch.setattr(buffers, "_copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lent(lender)
    assert len(lender._free) == free
    assert lent(lender) is not None


@pytest.mark.parametrize("over", [False, True])
def test_nobody_waits_for_a_segment_that_has_gone(over: bool) -> None:
    """Who waits until the other side has mapped a segment goes on when it can't, or has ended."""
    lender, _ = pair()
    (segment,) = lender._segments
    if over:
        lender.close()
    else:
        assert lender.remove(1) == SMALLEST
    assert segment.there.is_set()
    assert lent(lender) is None


@pytest.mark.parametrize("home", [False, True])
def test_segment_is_free_only_when_it_was_all_along(home: bool) -> None:
    """An array that comes home while its loans are looked at, or is lent and let go then, keeps its segment."""
    lender, _ = pair()
    lender.arrived(1)
    (segment,) = lender._segments
    mapping = segment.mapping
    assert mapping is not None
    grounds = [] if home else [mapping.ground()]
    segment.loans = _Moving(lambda: grounds.append(mapping.ground()) if home else grounds.clear())
    assert segment.claim.acquire(blocking=False)
    assert not lender._is_free(segment)
    segment.loans = []


class _Moving(list[Loan]):
    """Loans; something happens while somebody looks at them."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__()
        self.happen = happen

    def __iter__(self) -> Iterator[Loan]:
        self.happen()
        return super().__iter__()


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
