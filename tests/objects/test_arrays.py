"""Arrays that are made in shared memory: nothing is copied when they are handed over, and many domains read one."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from typing import Any

import pytest

import cloister
from cloister import arrays
from cloister.errors import DomainCrashed, MarshalError
from cloister.objects import buffers, commons
from cloister.objects.exchange import root_under
from cloister.pipes import segments
from cloister.report import Reason
from cloister.wire.values import Codec
from tests.patience import wait_until

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(not segments.AVAILABLE, reason="this platform has no segments")

MIB = 1024 * 1024
LENGTH = MIB // 8


@pytest.fixture
def domain(own_domain: cloister.Domain) -> cloister.Domain:
    """One of each test's own, so that what it maps ends with the test."""
    return own_domain


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of what this process copies into shared memory, as it does."""
    lengths: list[int] = []
    copy = buffers._copy

    def counted(target: memoryview, data: memoryview) -> None:
        lengths.append(data.nbytes)
        copy(target, data)

    monkeypatch.setattr(buffers, "_copy", counted)
    return lengths


def filled(shape: Any = LENGTH, dtype: Any = float, **options: Any) -> Any:
    """An array of numbers in shared memory."""
    array = arrays.empty(shape, dtype, **options)
    array[...] = np.arange(array.size).reshape(array.shape)
    return array


# -- making them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", ["f8", ">i4", "M8[ns]", "?", "S7", [("a", "<i4"), ("b", ">f8")], ("f4", (3,))], ids=str
)
def test_empty_is_as_that_of_numpy(dtype: Any, order: Any) -> None:
    """Shape, dtype and memory order are those that numpy would give; it can be written."""
    made, plain = arrays.empty((300, 400), dtype, order), np.empty((300, 400), dtype, order)
    assert (made.shape, made.dtype, made.strides) == (plain.shape, plain.dtype, plain.strides)
    assert arrays.is_shared(made)
    assert made.flags.writeable
    assert made.flags.aligned


def test_small_and_empty_ones_are_ordinary() -> None:
    """What travels in its message needs no shared memory; neither does what has no size."""
    for shape in (3, (), 0, (10**6, 0)):
        made = arrays.empty(shape)
        assert made.shape == np.empty(shape).shape
        assert not arrays.is_shared(made)
        assert not arrays.is_shared(arrays.share(made))


def test_what_can_not_be_made_is_an_error() -> None:
    """Objects, sizes below zero and orders that do not exist are refused, in words."""
    with pytest.raises(TypeError, match="Python objects"):
        arrays.empty(LENGTH, object)
    with pytest.raises(TypeError, match="Python objects"):
        arrays.share(np.array([object()]))
    with pytest.raises(TypeError, match="Python objects"):
        arrays.empty(LENGTH, [("a", object)])
    with pytest.raises(ValueError, match="negative"):
        arrays.empty((-5, -LENGTH))
    with pytest.raises(ValueError, match="order"):
        arrays.empty(LENGTH, order="K")  # type: ignore[arg-type]  # that is the point
    assert not arrays.is_shared([1, 2])
    assert not arrays.is_shared(np.zeros(LENGTH))


def test_without_numpy_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numpy the module can be imported; its functions say what is missing."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match="pip install numpy"):
        arrays.empty(5)
    with pytest.raises(ImportError, match="pip install numpy"):
        arrays.share([1.0])


def test_numpy_that_cannot_be_loaded_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sub-interpreter it is installed and can't be loaded: the error says that, and where it can."""

    def refuse(name: str) -> None:
        try:
            raise ImportError("module numpy._core._multiarray_umath does not support loading in subinterpreters")
        except ImportError as error:
            raise ImportError("IMPORTANT: PLEASE READ THIS FOR ADVICE ON HOW TO SOLVE THIS ISSUE!") from error

    monkeypatch.setattr(arrays, "import_module", refuse)
    with pytest.raises(ImportError, match="does not support loading in subinterpreters") as caught:
        arrays.empty(5)
    assert "level 'process'" in str(caught.value)
    assert "install" not in str(caught.value)
    monkeypatch.setattr("cloister.wire.arrays.import_module", refuse)
    sent = Codec().encode(np.arange(3))
    monkeypatch.delitem(sys.modules, "numpy")
    with pytest.raises(MarshalError, match="does not support loading in subinterpreters"):
        Codec(resolve=lambda *_: None).decode(sent)


@pytest.mark.parametrize(
    "source",
    [
        np.arange(float(LENGTH)),
        np.asfortranarray(np.arange(float(LENGTH)).reshape(512, -1)),
        np.arange(2.0 * LENGTH)[::-2],
        np.broadcast_to(np.float64(7), (512, 512)),
        list(range(LENGTH)),
        np.arange(9 * LENGTH).astype("M8[s]"),
        np.zeros(LENGTH, [("a", "<i4"), ("b", ">f8")]),
        np.array(5.0),
    ],
    ids=["C", "F", "backwards", "broadcast", "list", "times", "records", "number"],
)
def test_share_keeps_content_and_order(source: Any) -> None:
    """The copy is equal and read-only; its order is that of the source where that was C or Fortran."""
    plain = np.asarray(source)
    shared = arrays.share(source)
    assert np.array_equal(shared, plain)
    assert arrays.is_shared(shared) == (plain.ndim > 0)
    assert not shared.flags.writeable
    assert shared.flags.f_contiguous == (plain.flags.f_contiguous or shared.ndim == 1)
    again = arrays.share(shared)
    assert plain.ndim == 0 or again.__array_interface__["data"] == shared.__array_interface__["data"]


def test_no_memory_means_an_ordinary_array(domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where descriptors or memory are used up an ordinary array is made, and copied when it is sent."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(24, "Too many open files")

    domain.call("buffers_inside:look", np.zeros(LENGTH))
    with monkeypatch.context() as patch:
        patch.setattr(segments, "create", fail)
        made = filled()
    assert not arrays.is_shared(made)
    assert domain.call("buffers_inside:look", made)[0] == made.sum()


def test_no_descriptor_while_it_is_made(domain: cloister.Domain) -> None:
    """The kernel refuses another descriptor, while one is made and while it is handed over: the data arrives."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    domain.call("buffers_inside:look", np.zeros(LENGTH))
    shared = filled()
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        ordinary = filled()
        looked = domain.call("buffers_inside:look", shared)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not arrays.is_shared(ordinary)
    assert looked[0] == shared.sum()


# -- handing them over -------------------------------------------------------------------------------------------------


def test_nothing_is_copied_to_a_guest(domain: cloister.Domain, copies: list[int]) -> None:
    """An array made in shared memory, a part of it and a Fortran one arrive as they are, and nothing is copied."""
    one, two = filled(), filled((512, 512), order="F")
    for array in (one, one[1:], two, two[:, 3:], one[7:].view("u1")):
        assert domain.call("buffers_inside:look", array)[0] == array.sum()
    assert domain.call("buffers_inside:look", two)[3:] == (True, two.strides)
    assert domain.call("buffers_inside:is_shared", one)
    assert copies == []
    assert domain.status().large_by_pipe == 0
    assert domain.status().shared_memory == 0


def test_what_is_written_later_is_seen(domain: cloister.Domain) -> None:
    """It is the same memory on both sides; over there it can't be written."""
    array = filled()
    domain.call("buffers_inside:keep", array)
    array[:] = 3.0
    assert domain.call("buffers_inside:sums") == [3.0 * LENGTH]
    with pytest.raises(ValueError, match="read-only"):
        domain.call("buffers_inside:write_into", array)


@pytest.mark.parametrize("share", [False, True])
def test_nothing_is_copied_to_the_host(domain: cloister.Domain, share: bool) -> None:
    """What a guest makes in shared memory arrives read-only, lies there, and stays as long as anybody looks at it."""
    made = domain.call("buffers_inside:made", LENGTH, share=share)
    assert np.array_equal(made, np.arange(LENGTH))
    assert not made.flags.writeable
    before = domain.status().shared_memory
    more = [domain.call("buffers_inside:made", LENGTH, share=share)[3:] for _ in range(5)]
    assert all(np.array_equal(each, np.arange(3, LENGTH)) for each in more)
    assert np.array_equal(made, np.arange(LENGTH))
    del more
    for _ in range(10):
        domain.call("buffers_inside:made", LENGTH)
    assert domain.status().shared_memory <= before + 6 * MIB
    assert domain.status().large_by_pipe == 0


def test_a_guest_that_writes_on_is_seen(domain: cloister.Domain) -> None:
    """A guest goes on writing what it made: the host sees it, and what it kept is not used for anything else."""
    made = domain.call("buffers_inside:made_and_kept", LENGTH)
    domain.call("buffers_inside:rewrite", 5.0)
    assert float(made.sum()) == 5.0 * LENGTH
    del made
    for _ in range(5):
        domain.call("buffers_inside:made", LENGTH)
    assert domain.call("buffers_inside:sums") == [5.0 * LENGTH]


def test_echo_gives_the_same_memory(domain: cloister.Domain, copies: list[int]) -> None:
    """What a guest gives back as it came lies where it lay: an array made here, and one that was copied there."""
    array = filled()
    back = domain.call("buffers_inside:echo", array[5:])
    assert back.__array_interface__["data"][0] == array[5:].__array_interface__["data"][0]
    assert not back.flags.writeable
    assert copies == []
    plain = np.arange(LENGTH)
    back = domain.call("buffers_inside:echo", plain)
    for n in range(10):
        assert domain.call("buffers_inside:echo", plain + n)[0] == n
    assert np.array_equal(back, plain)
    made = domain.call("buffers_inside:made", LENGTH)
    again = domain.call("buffers_inside:echo", made)
    assert copies == [plain.nbytes] * 11
    assert np.array_equal(again, made)
    del array, made, again
    assert domain.call("buffers_inside:echo", back)[3] == 3
    assert domain.status().shared_memory <= 6 * MIB


def test_result_of_one_is_handed_on_to_another(domain: cloister.Domain, setup: cloister.Setup) -> None:
    """Host to one domain, from there through a call-back to another: one memory, no copy."""
    array = filled()
    with cloister.Domain("next", setup=setup) as other:
        seen = []

        def take(part: Any) -> float:
            seen.append(part.__array_interface__["data"][0])
            return float(other.call("buffers_inside:look", part)[0])

        assert domain.call("buffers_inside:hand_on", array, take) == array.sum()
        assert seen == [array.__array_interface__["data"][0]]
        assert other.status().shared_memory == 0
        made = domain.call("buffers_inside:made", LENGTH)
        assert other.call("buffers_inside:look", made)[0] == made.sum()


def test_many_domains_read_one_memory(setup: cloister.Setup) -> None:
    """Three domains and this program share one copy: each has a part of it, and no more."""
    array = arrays.share(np.arange(4.0 * LENGTH))
    domains = [cloister.Domain(f"reader-{n}", setup=setup) for n in range(3)]
    try:
        for each in domains:
            each.call("buffers_inside:keep", array)
        parts = [each.call("buffers_inside:part_of_memory", array) for each in domains]
        parts = [each.call("buffers_inside:part_of_memory", array) for each in domains]
        assert all(0.2 < part < 0.35 for part in parts), parts  # the host maps it too
        assert sum(each.status().shared_memory for each in domains) == 0
    finally:
        for each in domains:
            each.unload()


@pytest.mark.parametrize("value", ["made", "beside"])
def test_array_for_a_host_without_numpy(domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A host that has not imported numpy is told so, whatever else came along; the domain goes on."""
    domain.call("buffers_inside:made", LENGTH)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "numpy")
        with pytest.raises(MarshalError, match="numpy is not imported here"):
            domain.call("buffers_inside:made" if value == "made" else "buffers_inside:some", LENGTH)
    assert domain.call("buffers_inside:made", LENGTH)[3] == 3.0
    for _ in range(5):
        domain.call("buffers_inside:made", LENGTH)
    assert domain.status().shared_memory <= 6 * MIB


# -- how long they live ------------------------------------------------------------------------------------------------


def test_one_that_was_never_sent_is_gone_at_once() -> None:
    """Its memory and its descriptor go with the last view."""
    before = len(os.listdir("/proc/self/fd"))
    array = filled()
    part = array[10:]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del array
    assert part[0] == 10.0
    del part
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not commons._common


def test_memory_of_an_array_is_used_for_nothing_else(domain: cloister.Domain) -> None:
    """No array lies in a segment that a guest was given, though it has let go of it; what it still reads stays."""
    array = filled()
    domain.call("buffers_inside:keep", array)
    mapping = root_under(array)._cloister_mapping
    known = weakref.ref(mapping)
    del array
    made = [filled() for _ in range(3)]
    assert all(root_under(each)._cloister_mapping is not mapping for each in made)
    del mapping
    assert domain.call("buffers_inside:sums") == [float(np.arange(LENGTH).sum())]
    domain.call("buffers_inside:drop")

    def forgotten() -> bool:
        domain._life.peer.segments.tidy()  # as at each beat
        return known() is None

    wait_until(forgotten)
    wait_until(lambda: domain.call("buffers_inside:segment_maps").count("r--s") == 0)


def test_guest_reads_nothing_of_the_next_array(domain: cloister.Domain) -> None:
    """What a guest still has mapped, whatever it says, never shows what is made later and not sent there."""
    array = filled()
    view = domain.call("buffers_inside:keep_the_memory", array)
    assert view == 0.0
    del array
    commons.tidy()
    assert not commons._common
    others = [arrays.share(np.full(LENGTH, 7.0)) for _ in range(3)]
    assert domain.call("buffers_inside:first_of_the_memory") == 0.0
    del others


@pytest.mark.parametrize("when", ["at once", "later"])
def test_array_that_ends_before_it_is_read(domain: cloister.Domain, when: str) -> None:
    """The guest is told to forget an array only when it has read all messages that name it."""
    domain.call("buffers_inside:look", filled())
    first = domain.submit("time:sleep", 0.5)
    others = [domain.submit("buffers_inside:look", arrays.share(np.full(LENGTH, float(n)))) for n in range(20)]
    if when == "later":
        first.result(30)
    for _ in range(20):
        domain._life.peer.segments.tidy()
    assert [each.result(30)[0] for each in others] == [float(n) * LENGTH for n in range(20)]
    wait_until(lambda: not commons._common)


@pytest.mark.parametrize("end", ["unload", "kill"])
def test_array_outlives_the_domains_that_read_it(setup: cloister.Setup, end: str) -> None:
    """An array goes on when its readers have ended, and its memory goes with it."""
    array = filled()
    with cloister.Domain("short", setup=setup) as domain:
        domain.call("buffers_inside:keep", array)
        made = domain.call("buffers_inside:made", LENGTH)
        back = domain.call("buffers_inside:echo", array)
        getattr(domain, end)()
    assert array[7] == back[7] == made[7] == 7.0
    del array
    assert back[7] == 7.0
    del back, made
    wait_until(lambda: not commons._common)


def test_loans_do_not_run_out(domain: cloister.Domain) -> None:
    """One array is sent more often than there are loans, and the guest keeps some of it."""
    array = filled()
    for n in range(1300):
        domain.call("buffers_inside:keep" if n % 100 == 0 else "buffers_inside:is_shared", array)
    assert domain.status().large_by_pipe == 0
    assert domain.call("buffers_inside:sums") == [array.sum()] * 13


def test_fork_of_the_host_goes_on_reading(domain: cloister.Domain) -> None:
    """A forked child reads the arrays of its parent, and makes its own."""
    array = filled()
    domain.call("buffers_inside:keep", array)
    child = os.fork()
    if not child:
        try:
            right = array[9] == 9.0 and filled()[11] == 11.0
            del array
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert domain.call("buffers_inside:look", array)[0] == array.sum()


# -- guests that lack something, and guests that keep no rules ---------------------------------------------------------


@pytest.mark.parametrize("shortage", ["no_more_addresses", "map_nothing"])
def test_guest_that_can_not_map_it_gets_a_copy(domain: cloister.Domain, shortage: str) -> None:
    """A guest without addresses for an array gets a copy of the part that is sent, and what it had goes on."""
    small = filled()
    domain.call("buffers_inside:keep", small)
    domain.call(f"buffers_inside:{shortage}")
    part = filled(64 * LENGTH)[: 2 * LENGTH]
    for _ in range(2):
        assert domain.call("buffers_inside:look", part)[0] == part.sum()
    assert domain.status().large_by_pipe == (2 if shortage == "map_nothing" else 0)
    assert domain.call("buffers_inside:sums") == [small.sum()]


def test_locked_memory_means_a_copy(domain: cloister.Domain) -> None:
    """A guest that locks what it maps, and may lock little, gets a copy of what fits."""
    if domain.call("buffers_inside:lock_memory"):
        pytest.skip("memory can't be locked here")
    part = filled(64 * LENGTH)[: 2 * LENGTH]
    assert domain.call("buffers_inside:look", part)[0] == part.sum()


def test_guest_can_not_write_what_it_reads(setup: cloister.Setup) -> None:
    """The kernel refuses to make the memory writable, and a write ends the guest alone."""
    array = filled()
    with cloister.Domain("writer", setup=setup) as domain:
        assert domain.call("buffers_inside:attack", array, "protect") in ("EACCES", "EPERM")
        with pytest.raises(DomainCrashed) as crash:
            domain.call("buffers_inside:attack", array, "write")
    assert crash.value.report.reason is Reason.SIGNAL
    assert np.array_equal(array, np.arange(LENGTH))


@pytest.mark.parametrize("changed", [[1, 999], [2, MIB], [2, 2**63], [3, 2**40], [3, 0], [4, 1024], [5, 0]], ids=str)
def test_lying_loan_home_ends_the_guest(setup: cloister.Setup, changed: list[int]) -> None:
    """A guest that names a part of the host's memory that is not there is ended; nothing is touched."""
    domain = cloister.Domain("liar", setup=setup)
    array = filled()
    with pytest.raises(DomainCrashed) as crash:
        domain.call("hostile:loan_home", array, *changed)
    assert crash.value.report.reason is Reason.BAD_MESSAGE


@pytest.mark.parametrize("kinds", [[0, 0], [0, 1]], ids=str)
def test_loan_that_is_named_twice_ends_the_guest(setup: cloister.Setup, kinds: list[int]) -> None:
    """A short message that has one long buffer copied often is a bad one."""
    with cloister.Domain("liar", setup=setup) as domain, pytest.raises(DomainCrashed) as crash:
        domain.call("hostile:loan_twice", MIB, kinds)
    assert crash.value.report.reason is Reason.BAD_MESSAGE
