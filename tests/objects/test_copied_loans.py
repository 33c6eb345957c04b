"""How much one message may have copied out of shared memory where it arrives: what lies there once, and not more."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

import cloister
from cloister import arrays
from cloister.errors import DomainCrashed
from cloister.objects import buffers
from cloister.pipes import segments
from cloister.report import Reason
from cloister.wire.scalars import admit

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(not segments.AVAILABLE, reason="this platform has no segments")

MIB = 1024 * 1024
LENGTH = MIB // 8
"""Numbers in an array of 1 MiB."""


@pytest.fixture
def domain(own_domain: cloister.Domain) -> cloister.Domain:
    """One of each test's own, so that what it maps ends with the test."""
    return own_domain


def filled(length: int = LENGTH) -> Any:
    """An array of numbers in shared memory."""
    array = arrays.empty(length)
    array[:] = np.arange(length)
    return array


# -- guests that keep no rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "whose"),
    [("bytes", "guest"), ("bytearray", "host"), ("table", "guest"), ("polars", "guest"), ("frame", "host")],
)
def test_many_loans_of_one_segment_end_the_guest(setup: cloister.Setup, how: str, whose: str) -> None:
    """A short message that has one segment copied a thousand times, each loan its own, is a bad one."""
    for library in {"table": ["pyarrow"], "polars": ["polars", "pyarrow"], "frame": ["pandas"]}.get(how, []):
        pytest.importorskip(library)
    lent = filled() if whose == "host" else None
    domain = cloister.Domain("greedy", setup=setup)
    domain.wait_ready(30)
    tracemalloc.start()
    try:
        with pytest.raises(DomainCrashed) as crash:
            domain.call("hostile:many_loans", 1000, how, lent)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert crash.value.report.reason is Reason.BAD_MESSAGE
    assert "more copied out of segment" in crash.value.report.detail
    assert most < 16 * MIB


def test_arrays_are_not_copied_so_they_may_be_many(setup: cloister.Setup) -> None:
    """A thousand arrays may rest on one part of a segment: that takes no memory."""
    with cloister.Domain("modest", setup=setup) as domain:
        assert len(domain.call("hostile:many_loans", 1000, "array")) == 1000
        domain.kill()


# -- senders that keep them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 40])
def test_one_memory_is_sent_several_times(domain: cloister.Domain, number: int) -> None:
    """What a message holds more often than its segment may be copied lies in others, and arrives as it should."""
    array = filled()
    data = array.tobytes()
    back = domain.call("buffers_inside:echo", [memoryview(array)] * number)
    assert back == [data] * number
    came = domain.call("buffers_inside:views", LENGTH, number)
    assert came[:number] == [data] * number
    assert np.array_equal(came[number], array)
    assert domain.status().large_by_pipe == 0


def test_all_of_a_segment_is_sent_in_parts(domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of an array that are together no longer than it are lent as they lie; one byte more is not."""
    copied: list[int] = []
    copy = buffers._copy

    def counted(target: memoryview, data: Any) -> None:
        copied.append(data.nbytes)
        copy(target, data)

    monkeypatch.setattr(buffers, "_copy", counted)
    view = memoryview(filled()).cast("B")
    parts = [view[at : at + MIB // 8] for at in range(0, MIB, MIB // 8)]
    assert domain.call("buffers_inside:kind", parts) == ("list", 8)
    assert copied == []
    assert domain.call("buffers_inside:echo", [*parts, view[: MIB // 8]])[8] == bytes(view[: MIB // 8])
    assert copied == [MIB // 8]


def test_frame_whose_columns_overlap(domain: cloister.Domain) -> None:
    """Columns that lie in the same memory arrive as any others, each by itself."""
    pytest.importorskip("pandas")
    frame = domain.call("buffers_inside:overlapping", LENGTH)
    assert [frame[name].iloc[0] for name in "abcde"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert all(len(frame[name]) == LENGTH for name in "abcde")
    frame.loc[1, "a"] = 7.0
    assert frame["b"].iloc[0] == 1.0


def test_buffers_of_a_pickle_that_overlap(domain: cloister.Domain) -> None:
    """Arrays of one memory in a pickle are each their own where they arrive."""
    array = filled()
    sent = {"array": array, "others": [array[n:] for n in range(10)]}
    assert domain.call("buffers_inside:change", cloister.pickled(sent)) == (float(array.sum()) + 100.0, True)
    assert domain.status().large_by_pipe == 0


def test_nothing_is_left_of_what_was_lent_in_vain(domain: cloister.Domain) -> None:
    """Loans that were replaced by copies come back as all others: a thousand such messages run out of none."""
    array = filled(65_536 // 8)
    for _ in range(150):
        assert domain.call("buffers_inside:kind", [memoryview(array)] * 10) == ("list", 10)
    assert domain.status().large_by_pipe == 0


def test_what_is_admitted_is_counted_for_each_segment() -> None:
    """All of a segment may be copied, in as many parts as wanted, and nothing is noted of what is refused."""
    copied: dict[int, int] = {}
    assert admit(copied, 1, 60, 100)
    assert not admit(copied, 1, 41, 100)
    assert admit(copied, 1, 40, 100)
    assert not admit(copied, 1, 1, 100)
    assert admit(copied, 2, 100, 100)
    assert copied == {1: 100, 2: 100}
