"""Large buffers between a host and its guest: in shared memory where there is some, and right wherever they lie."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DomainCrashed, MarshalError
from cloister.pipes import segments
from cloister.report import Reason
from tests.patience import wait_until

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(not segments.AVAILABLE, reason="this platform has no segments")

MIB = 1024 * 1024
LENGTH = MIB // 8
"""Numbers in an array of 1 MiB."""


@pytest.fixture
def domain(own_domain: cloister.Domain) -> cloister.Domain:
    """One of each test's own, so that what it maps ends with the test."""
    return own_domain


def numbers(first: float = 0.0, length: int = LENGTH) -> Any:
    """An array that no other one equals."""
    return np.arange(first, first + length)


# -- what arrives ------------------------------------------------------------------------------------------------------


ARRAYS = {
    "plain": numbers(),
    "C": numbers().reshape(512, -1),
    "Fortran": np.asfortranarray(numbers().reshape(512, -1)),
    "transposed": numbers().reshape(64, 64, -1).transpose(2, 1, 0),
    "strided": numbers(length=2 * LENGTH)[::2],
    "reversed": numbers().reshape(512, -1)[::-1],
    "strides of zero": np.broadcast_to(np.float64(3), (512, 512)),
    "empty": np.zeros((0, LENGTH)),
    "text": numbers().astype("<U8"),
    "records": np.zeros(LENGTH, [("a", "<i4"), ("b", ">f8")]),
    "shifted": numbers()[1:],
}


def test_array_arrives_as_it_was_both_ways(domain: cloister.Domain) -> None:
    """Content, dtype, shape and memory order are kept, down and up; a source may be read-only."""
    for name, source in ARRAYS.items():
        array = source.view()
        array.flags.writeable = False
        back = domain.call("buffers_inside:echo", array)
        assert (back.dtype, back.shape) == (array.dtype, array.shape), name
        assert np.array_equal(back, array), name
        assert back.flags.aligned
        if array.flags.forc:
            assert back.strides == array.strides, name
    assert domain.status().large_by_pipe == 0
    assert domain.status().shared_memory > 0


def test_array_is_read_only_where_it_arrives(domain: cloister.Domain) -> None:
    """Neither side can write what the other one lends, nor make it writable."""
    assert domain.call("buffers_inside:look", numbers())[1] is False
    for attempt in ("write_into", "unlock"):
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
            domain.call(f"buffers_inside:{attempt}", numbers())
    made = domain.call("buffers_inside:count", LENGTH)
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 1.0
    maps = domain.call("buffers_inside:segment_maps")
    assert maps.count("rw-s") == 2  # the ledger, and what it lends itself
    assert set(maps) == {"r--s", "rw-s"}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_binary_data_arrives_with_its_type(domain: cloister.Domain, kind: Callable[[bytes], Any]) -> None:
    """Bytes, bytearrays and views of any size arrive as they do when they are small."""
    data = os.urandom(3 * MIB)
    back = domain.call("buffers_inside:echo", kind(data))
    assert type(back) is (bytearray if kind is bytearray else bytes)
    assert back == data
    assert domain.status().shared_memory >= 2 * len(data)
    assert domain.status().large_by_pipe == 0


def test_shorter_arrays_are_the_receivers_own(domain: cloister.Domain) -> None:
    """Arrays and tables below 64 KiB may be changed where they arrive, and many that are kept hold no shared memory."""
    small = numbers(1.0, 4000)
    back = [domain.call("buffers_inside:echo", small) for _ in range(300)]
    for _ in range(300):
        domain.call("buffers_inside:keep", small)
    assert all(each.flags.writeable for each in back)
    assert np.array_equal(back[-1], small)
    assert domain.call("buffers_inside:change", {"array": small}) == (small.sum() + 99.0, True)
    status = domain.status()
    assert 0 < status.shared_memory <= MIB
    assert status.large_by_pipe == 0


def test_many_buffers_in_one_message(domain: cloister.Domain) -> None:
    """Buffers of a message are told apart, whatever they are nested in; small ones stay in the message."""
    sent = {"a": [numbers(n * 10.0) for n in range(5)], "b": (b"x" * MIB, bytearray(b"y" * MIB), np.arange(3))}
    back = domain.call("buffers_inside:echo", sent)
    assert all(np.array_equal(one, other) for one, other in zip(sent["a"], back["a"], strict=True))
    assert back["b"][:2] == sent["b"][:2]
    assert list(back["b"][2]) == [0, 1, 2]


def test_tables_travel_too(domain: cloister.Domain) -> None:
    """Arrow tables and frames of pandas arrive equal; a frame can be changed."""
    pyarrow = pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    table = pyarrow.table({"a": numbers(), "b": numbers(5)})
    assert domain.call("buffers_inside:echo", table).equals(table)
    frame = pandas.DataFrame({"a": numbers(), "b": numbers(5)})
    back = domain.call("buffers_inside:echo", frame)
    assert back.equals(frame)
    back.loc[0, "a"] = 7.0
    series = domain.call("buffers_inside:echo", frame["a"])
    series.iloc[0] = 7.0
    assert (back.loc[0, "a"], series.iloc[0]) == (7.0, 7.0)
    assert domain.status().shared_memory > 0


def test_buffers_of_pickles_lie_beside_them(domain: cloister.Domain) -> None:
    """Large arrays in what is pickled, or in the closure of code, travel as buffers, and belong to who gets them."""
    for n in range(3):
        for array in (numbers(n), np.asfortranarray(numbers(n).reshape(8, -1)), numbers(n, 2 * LENGTH)[::2]):
            source = array.copy("K")
            value = {"array": source.view(), "small": b"x", "objects": {1, (2, 3)}}
            expected = 100.0 - array.flat[0] + array.sum()
            if array.ndim == 1:
                assert domain.call("buffers_inside:change", cloister.pickled(value)) == (expected, True)
            assert np.array_equal(source, array)
            assert domain.call(lambda: float(source.sum())) == array.sum()  # noqa: B023 - it is called at once
    locked = numbers()
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        domain.call("buffers_inside:change", cloister.pickled({"array": locked}))
    assert domain.status().shared_memory >= locked.nbytes
    assert domain.status().large_by_pipe == 0


def test_pickle_without_shared_memory(setup: cloister.Setup) -> None:
    """Through the pipe the buffers of a pickle arrive as well, and can be changed."""
    with cloister.Domain("piped", setup=dataclasses.replace(setup, shared_memory=0)) as domain:
        assert (
            domain.call("buffers_inside:change", cloister.pickled({"array": numbers()}))[0] == numbers().sum() + 100.0
        )


def test_array_of_objects_is_refused_and_leaves_nothing(domain: cloister.Domain) -> None:
    """What can't travel is a MarshalError; the buffers beside it, which were placed already, are free again."""
    for _ in range(20):
        with pytest.raises(MarshalError):
            domain.call("buffers_inside:echo", [numbers(), np.array([object()])])
        with pytest.raises(MarshalError):
            domain.call("buffers_inside:echo", [numbers(), b"x" * MIB, object()])
    assert domain.status().shared_memory <= 4 * MIB
    assert domain.call("buffers_inside:look", numbers())[0] == numbers().sum()


# -- how long it lives -------------------------------------------------------------------------------------------------


def test_segments_are_used_again(domain: cloister.Domain) -> None:
    """A hundred calls need no more memory than two do at once, in each direction."""
    for n in range(100):
        assert domain.call("buffers_inside:echo", numbers(n))[0] == n
    status = domain.status()
    assert status.large_by_pipe == 0
    assert status.shared_memory <= 4 * MIB


def test_what_is_kept_is_not_rewritten(domain: cloister.Domain) -> None:
    """While a view lives, here or there, nothing else is written where it lies; views of views count."""
    here = []
    for n in range(5):
        domain.call("buffers_inside:keep", numbers(n))
        here.append(domain.call("buffers_inside:count", LENGTH + n)[1:][::2])
    for n in range(20):
        domain.call("buffers_inside:echo", numbers(n + 100))
    assert domain.call("buffers_inside:sums") == [float(numbers(n).sum()) for n in range(5)]
    assert all(np.array_equal(each, numbers(0, LENGTH + n)[1:][::2]) for n, each in enumerate(here))
    domain.call("buffers_inside:drop")
    before = domain.status().shared_memory
    del here
    for n in range(5):
        domain.call("buffers_inside:echo", [numbers(n)] * 3)
    assert domain.status().shared_memory == before


@pytest.mark.parametrize("end", ["unload", "kill"])
def test_view_outlives_its_domain(setup: cloister.Setup, end: str) -> None:
    """A view stays readable after its domain was unloaded or killed, and its memory goes with it."""
    with cloister.Domain("short", setup=setup) as domain:
        view = domain.call("buffers_inside:count", LENGTH)[10:]
        data = memoryview(domain.call("buffers_inside:count", LENGTH))
        getattr(domain, end)()
    gc.collect()
    assert np.array_equal(view, numbers()[10:])
    assert data[5] == 5.0
    del view, data  # that nothing is left mapped is what the fixture looks at


def test_fork_of_the_host_keeps_what_it_sees(domain: cloister.Domain) -> None:
    """What was lent when this process was forked is not rewritten under the child, and the child gives nothing back."""
    array = domain.call("buffers_inside:count", LENGTH)
    held = domain._life.peer.segments.borrower
    assert held is not None
    ask, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.read(ask, 1)
            right = bool(np.array_equal(array, numbers()))
            del array
            os._exit(0 if right and not held.held else 1)
        finally:
            os._exit(2)
    del array
    for n in range(10):
        domain.call("buffers_inside:count", LENGTH - n)
    os.write(tell, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(ask)
    os.close(tell)
    assert domain.status().large_by_pipe == 0


# -- where there is none -----------------------------------------------------------------------------------------------


def test_budget_used_up_means_the_pipe(domain: cloister.Domain) -> None:
    """Past the budget buffers go through the pipe, right, read-only and counted; free segments make room for others."""
    domain._life.peer.segments.budget = 3 * MIB
    for n in range(5):
        domain.call("buffers_inside:keep", numbers(n))
    assert domain.call("buffers_inside:sums") == [float(numbers(n).sum()) for n in range(5)]
    status = domain.status()
    assert status.shared_memory == 3 * MIB
    assert status.large_by_pipe == 2
    assert domain.call("buffers_inside:look", numbers())[1] is False
    domain.call("buffers_inside:drop")
    assert domain.call("buffers_inside:look", numbers(1, 2 * LENGTH))[0] == numbers(1, 2 * LENGTH).sum()
    assert domain.status().large_by_pipe == 3
    assert domain.status().shared_memory == 3 * MIB
    back = [domain.call("buffers_inside:count", LENGTH) for _ in range(5)]
    assert all(np.array_equal(each, numbers()) for each in back)


@pytest.mark.parametrize(("size", "room"), [("3 MiB", 3 * MIB), (0, 0)])
def test_budget_is_an_option(setup: cloister.Setup, size: Any, room: int) -> None:
    """`Setup.shared_memory` bounds what is made, both ways; with 0 there is none."""
    with cloister.Domain("bounded", setup=dataclasses.replace(setup, shared_memory=size)) as domain:
        for n in range(4):
            domain.call("buffers_inside:keep", numbers(n))
        back = [domain.call("buffers_inside:count", LENGTH) for _ in range(3)]
        assert domain.call("buffers_inside:sums") == [float(numbers(n).sum()) for n in range(4)]
        assert all(np.array_equal(each, numbers()) for each in back)
        status = domain.status()
    assert status.shared_memory == room
    assert status.large_by_pipe > 0


@pytest.mark.parametrize(
    ("size", "error"), [(-1, ValueError), ("3 MB", ValueError), ("much", ValueError), (1.5, TypeError)]
)
def test_budget_that_is_no_size_is_refused(size: Any, error: type[Exception]) -> None:
    """A wrong size is an error that names the option and shows a right one."""
    with pytest.raises(error, match=r"Setup.shared_memory .*256MiB"):
        cloister.Setup(shared_memory=size)


def test_guest_gives_up_idle_segments_for_others(domain: cloister.Domain) -> None:
    """Where the budget is used up by segments of a size that is not needed any more, they make room."""
    domain._life.peer.segments.budget = 4 * MIB
    kept = [domain.call("buffers_inside:count", LENGTH) for _ in range(4)]
    assert domain.status().shared_memory == 4 * MIB
    del kept
    large = domain.call("buffers_inside:count", 3 * LENGTH)
    assert np.array_equal(large, numbers(0, 3 * LENGTH))
    borrower = domain._life.peer.segments.borrower
    assert borrower is not None
    assert borrower.held == 1


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), OSError(12, "Cannot allocate memory")])
def test_no_memory_means_the_pipe(domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """Where no segment can be made, buffers go through the pipe, both ways."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(segments, "create", fail)
    assert np.array_equal(domain.call("buffers_inside:echo", numbers()), numbers())
    assert domain.call("buffers_inside:kind", b"x" * MIB) == ("bytes", MIB)
    assert domain.status().shared_memory == 0
    assert domain.status().large_by_pipe > 0


def test_guest_without_descriptors_takes_the_pipe(domain: cloister.Domain) -> None:
    """A guest that has no descriptor left for a segment is served through the pipe; its segments go on."""
    assert domain.call("buffers_inside:look", numbers())[0] == numbers().sum()
    domain.call("buffers_inside:no_more_descriptors", False)
    assert domain.call("buffers_inside:look", numbers(0, 12 * LENGTH))[0] == numbers(0, 12 * LENGTH).sum()
    assert domain.status().large_by_pipe == 1
    assert domain.call("buffers_inside:look", numbers())[0] == numbers().sum()
    assert domain.status().large_by_pipe == 1
    domain.call("buffers_inside:no_more_descriptors", True)


def test_guest_that_can_map_nothing_takes_the_pipe(domain: cloister.Domain) -> None:
    """A guest that has no addresses left is served through the pipe, both ways."""
    domain.call("buffers_inside:map_nothing")
    assert np.array_equal(domain.call("buffers_inside:echo", numbers()), numbers())
    assert np.array_equal(domain.call("buffers_inside:echo", numbers()), numbers())
    assert domain.status().large_by_pipe > 0
    assert domain._life.peer.segments.borrower is None or not len(domain._life.peer.segments.borrower)


def test_call_whose_time_is_up_loses_no_memory(domain: cloister.Domain) -> None:
    """A buffer in a call that is given up is still read and given back over there."""
    for _ in range(3):
        with pytest.raises(CallTimeout), cloister.timeout(0.05):
            domain.submit("time:sleep", 60).result()
        with pytest.raises((CallTimeout, TypeError)), cloister.timeout(0.05):
            domain.call("time:sleep", numbers())
    assert np.array_equal(domain.call("buffers_inside:echo", numbers()), numbers())
    assert domain.status().shared_memory <= 6 * MIB


def test_asyncio_host_sends_large_buffers(setup: cloister.Setup) -> None:
    """A loop is not held up while a segment is made: until it is there the pipe is taken, and nothing differs."""

    async def main() -> None:
        async with cloister.aio.Domain("loop", setup=setup) as domain:
            for n in range(20):
                assert np.array_equal(await domain.call("buffers_inside:echo", numbers(n)), numbers(n))
                assert np.array_equal(await domain.call("buffers_inside:count_later", LENGTH), numbers())

    asyncio.run(main())


def test_threads_at_once(domain: cloister.Domain) -> None:
    """Many submitted calls get each their own numbers back."""
    futures = [domain.submit("buffers_inside:echo", numbers(n)) for n in range(30)]
    assert [each.result(60)[0] for each in futures] == list(range(30))
    assert list(domain.map("buffers_inside:look", [numbers(n) for n in range(10)]))[9][0] == numbers(9).sum()


# -- guests that keep no rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [[1, 999], [1, 0], [2, 64], [2, 1], [3, 2**64 - 64], [3, 0], [4, 1024], [5, 0], [0, 3], [0, 2]],
    ids=str,
)
def test_lying_loan_ends_the_guest(setup: cloister.Setup, changed: list[int]) -> None:
    """A segment, offset, length, slot or kind that does not exist is a bad message; nothing is touched."""
    domain = cloister.Domain("liar", setup=setup)
    with pytest.raises(DomainCrashed) as crash:
        domain.call("hostile:loan", MIB, *changed)
    assert crash.value.report.reason is Reason.BAD_MESSAGE


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (43, [1, -1]),
        (43, [1, 2**60]),
        (44, ["x"]),
        (46, [["x"]]),
        (42, [1, 65536, True, 1]),
        (45, [1]),
        (46, [[0] * 1000]),
    ],
)
def test_malformed_message_ends_the_guest(setup: cloister.Setup, kind: int, body: list[Any]) -> None:
    """What a guest says of segments is checked as all that it says."""
    domain = cloister.Domain("liar", setup=setup)
    with pytest.raises(DomainCrashed) as crash:
        domain.call("hostile:on_control", kind, body)
    assert crash.value.report.reason is Reason.BAD_MESSAGE


def test_rubbish_in_the_ledger_harms_nobody(domain: cloister.Domain) -> None:
    """A guest that writes rubbish into the ledger may lose its own buffers; here nothing is read that is not there."""
    for _ in range(3):
        domain.call("hostile:rubbish_ledger", MIB)
        for _ in range(5):
            try:
                domain.call("buffers_inside:echo", numbers())
            except MarshalError:
                pass
    assert domain.call("operator:add", 1, 2) == 3


def test_guest_that_drops_what_it_reads(setup: cloister.Setup) -> None:
    """Segments that a guest says it dropped are not used again; what is read from them here stays."""
    with cloister.Domain("dropper", setup=setup) as domain:
        array = domain.call("buffers_inside:count", LENGTH)
        domain.call("buffers_inside:keep", numbers())
        with pytest.raises(CallTimeout), cloister.timeout(0.3):
            domain.call("hostile:on_control", 46, [list(range(200))])
        wait_until(lambda: domain.status().shared_memory == 0)
        assert np.array_equal(array, numbers())


if sys.platform == "linux":

    def test_segment_can_not_be_shrunk_nor_mapped_for_writing() -> None:
        """The size of a segment is sealed; one that goes down can't be mapped for writing by who gets it."""
        mapping, fd = segments.create(MIB, True)
        try:
            for size in (0, 2 * MIB):
                with pytest.raises(PermissionError):
                    os.ftruncate(fd, size)
            with pytest.raises(PermissionError):
                segments.attach(os.dup(fd), MIB, True)
            other = segments.attach(os.dup(fd), MIB, False)
            mapping.view()[5] = 7
            assert other.view()[5] == 7
            with pytest.raises(TypeError):
                other.view()[5] = 8
            with pytest.raises(ValueError, match="not inside"):
                other.view(MIB, 1)
        finally:
            os.close(fd)


def test_nothing_is_said_of_loans_when_their_domain_goes() -> None:
    """A domain that was sent a large array goes silently: its lanes give their loans back to what is still there."""
    program = (
        "import cloister\nwith cloister.Domain('one') as domain: print(domain.call('builtins:len', bytes(300_000)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert (done.stdout, done.stderr) == ("300000\n", "")
