"""Many calls at once on the shared lane of a domain: futures, map, cancel, time-out, order, back-pressure."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloister
from cloister import calling
from cloister.domain import channel
from cloister.domain.open_lanes import OpenLanes
from cloister.errors import CallTimeout, DeadlockDetected, DomainCrashed, DomainUnloaded, MarshalError
from cloister.guest.shared import MAX_THREADS
from cloister.lanes import sending, shared_lane
from cloister.lanes.ledger import Ledger
from cloister.lanes.numbered import Numbered
from cloister.lanes.sending import Sending
from cloister.pipes import duplex

Start = Callable[..., cloister.Domain]
JOIN_S = 20.0


def test_ten_thousand_calls_are_open_at_once(start: Start) -> None:
    """10,000 calls submitted at once all get their own results; `wait` and `as_completed` know their futures."""
    domain = start()
    futures = [domain.submit("operator:add", number, 1) for number in range(10_000)]
    done, pending = concurrent.futures.wait(futures, timeout=JOIN_S)
    assert len(done) == 10_000
    assert not pending
    assert [future.result() for future in futures] == list(range(1, 10_001))


def test_submitted_calls_run_side_by_side_and_call_back(domain: cloister.Domain) -> None:
    """Submitted calls do not wait for each other, and their call-backs are served while nobody waits here."""
    met = threading.Barrier(3, timeout=JOIN_S)

    def meet() -> str:
        met.wait()
        return "met"

    futures = [domain.submit("errands:call", meet) for _ in range(3)]
    assert [future.result(JOIN_S) for future in futures] == ["met"] * 3


def test_exception_and_value_that_cannot_travel_fail_their_futures_alone(domain: cloister.Domain) -> None:
    """An exception fails its future, an argument that can't travel fails at once; the lane goes on."""
    failed = domain.submit("errands:raise_error", "no")
    with pytest.raises(MarshalError):
        domain.submit("errands:echo", object())
    assert domain.submit("operator:add", 1, 1).result(JOIN_S) == 2
    with pytest.raises(ValueError, match="no"):
        failed.result(JOIN_S)


def test_cancelled_future_is_over_at_once_and_stops_the_guest(domain: cloister.Domain) -> None:
    """A cancel is a message: the future is cancelled at once, the running call is interrupted, the others go on."""
    running = domain.submit("errands:python_loop")
    other = domain.submit("errands:sleep", 0.2)
    threading.Event().wait(0.05)
    assert running.cancel()
    assert running.cancelled()
    assert running.cancel()
    assert concurrent.futures.wait([running], timeout=JOIN_S).done == {running}
    with pytest.raises(concurrent.futures.CancelledError):
        running.result()
    assert other.result(JOIN_S) == 0.2
    assert not other.cancel()
    deadline = time.monotonic() + JOIN_S
    while domain.status().running and time.monotonic() < deadline:
        domain.submit("operator:add", 1, 1).result(JOIN_S)
        time.sleep(0.05)


@pytest.mark.parametrize("limit", [None, 2])
def test_cancelled_calls_that_do_not_stop_hold_up_no_other(limit: int | None, start: Start) -> None:
    """Native code that never returns, on every thread that there is: once that is cancelled, others take their places.

    What is on the main thread is stopped by a signal; where calls are limited, one of them is on it.
    """
    domain = start(max_concurrency=limit)
    stuck = [domain.submit("time:sleep", 60) for _ in range(limit or MAX_THREADS + 2)]
    while domain.status().running < (limit or MAX_THREADS):
        domain.status()
        time.sleep(0.01)
    for future in stuck:
        assert future.cancel()
    calls = [domain.submit(pow, number, 2) for number in range(4)]
    assert [call.result(JOIN_S) for call in calls] == [0, 1, 4, 9]


def test_cancelled_call_that_has_not_begun_never_begins(start: Start) -> None:
    """Calls that wait for a thread over there and are cancelled are not begun."""
    domain = start()
    holders = [domain.submit("errands:hold") for _ in range(32)]
    waiting = [domain.submit("errands:keep", number) for number in range(20)]
    assert all(future.cancel() for future in waiting)
    # A new lane comes on the same channel as the cancels, and after them.
    newcomer = threading.Thread(target=domain.call, args=("operator:add", 1, 1))
    newcomer.start()
    newcomer.join(JOIN_S)
    domain.call("errands:let_go")
    concurrent.futures.wait(holders, timeout=JOIN_S)
    domain.submit("operator:add", 1, 1).result(JOIN_S)
    assert domain.call("errands:kept") == []


def test_submitted_call_ends_at_its_time_out(domain: cloister.Domain) -> None:
    """A submitted call whose time is up fails with CallTimeout though nobody waits, and is interrupted."""
    begun = time.monotonic()
    late = domain.with_options(timeout=0.1).submit("errands:python_loop")
    with calling.timeout(30):
        in_time = domain.submit("operator:add", 1, 1)
    assert in_time.result(JOIN_S) == 2
    with pytest.raises(CallTimeout):
        late.result(JOIN_S)
    assert time.monotonic() - begun < 5
    assert domain.call("errands:add", 1, 1) == 2


def test_submit_from_eight_threads(domain: cloister.Domain) -> None:
    """Eight threads submit on the one shared lane at once; each future has the result of its own call."""
    results: list[bool] = []

    def work(index: int) -> None:
        futures = [domain.submit("operator:mul", number, index) for number in range(100)]
        results.append([future.result(JOIN_S) for future in futures] == [number * index for number in range(100)])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    assert results == [True] * 8


def test_callback_of_a_future_may_submit_and_close_nothing(domain: cloister.Domain) -> None:
    """A done-callback runs on the lane's thread and may submit the next call from there."""
    finished = threading.Event()
    counts: list[int] = []

    def again(future: Any) -> None:
        counts.append(future.result())
        if len(counts) < 50:
            domain.submit("operator:add", counts[-1], 1).add_done_callback(again)
        else:
            finished.set()

    domain.submit("operator:add", 0, 1).add_done_callback(again)
    assert finished.wait(JOIN_S)
    assert counts == list(range(1, 51))


@pytest.mark.parametrize("end", ["unload", "kill"])
def test_open_futures_end_with_the_domain(end: str, start: Start) -> None:
    """O05: Futures that wait fail when the domain ends, in bounded time, and a later submit raises."""
    domain = start(stop_timeout=0.5)
    futures = [domain.submit("errands:sleep", 60) for _ in range(50)]
    begun = time.monotonic()
    getattr(domain, end)()
    for future in futures:
        with pytest.raises((DomainUnloaded, DomainCrashed)):
            future.result(JOIN_S)
    assert time.monotonic() - begun < 5
    with pytest.raises((DomainUnloaded, DomainCrashed)):
        domain.submit("operator:add", 1, 1)


def test_unload_is_not_held_up_by_submitted_calls(start: Start) -> None:
    """O05: Unload with queued and running submitted calls returns promptly: no guest waits for their threads."""
    domain = start(stop_timeout=10)
    for _ in range(100):
        domain.submit("errands:sleep", 60)
    domain.call("errands:add", 1, 1)
    begun = time.monotonic()
    domain.unload()
    assert time.monotonic() - begun < 5


def test_submit_waits_where_too_much_waits(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-pressure: what waits for a guest that does not read is bounded; then submit waits, up to its time-out."""
    monkeypatch.setattr(sending, "MAX_QUEUED_BYTES", 1_000_000)
    domain = start()
    domain.submit("operator:add", 1, 1).result(JOIN_S)
    domain.with_options(timeout=JOIN_S).submit("errands:runaway_expression")

    def submit_too_much() -> None:
        with calling.timeout(1):
            for _ in range(200):
                domain.submit("errands:keep", b"x" * 30_000)

    with pytest.raises(CallTimeout, match="before it was sent"):
        submit_too_much()
    domain.kill()


# -- map ---------------------------------------------------------------------------------------------------------------


def test_map_keeps_order_for_several_iterables(domain: cloister.Domain) -> None:
    """`map` gives the results in order, for several iterables side by side, up to the shortest one."""
    for chunksize, buffersize in itertools.product((1, 3, 100), (1, 4, 64)):
        results: Iterator[Any] = domain.map(
            "operator:add", range(25), itertools.count(100), chunksize=chunksize, buffersize=buffersize
        )
        assert list(results) == [100 + 2 * number for number in range(25)]


def test_map_of_nothing_gives_nothing(domain: cloister.Domain) -> None:
    """`map` over an empty iterable, or over none at all, gives no results."""
    assert list(domain.map("operator:neg", [])) == []
    assert list(domain.map("operator:neg")) == []


def test_map_raises_at_the_place_of_the_exception(start: Start) -> None:
    """`map` raises the exception of an item at its place; what was asked for as values comes as values."""
    domain = start()
    results: Iterator[Any] = domain.map("operator:truediv", [1, 2, 3], [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    results = domain.map("operator:truediv", [1, 2, 3], [1, 0, 1], chunksize=3, return_exceptions=True)
    assert [type(result) for result in results] == [float, ZeroDivisionError, float]


def test_map_takes_an_endless_input_as_it_goes(start: Start) -> None:
    """`map` takes no more from its input than the chunks that may be on their way, and stops when it is closed."""
    domain = start()
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    results: Iterator[Any] = domain.map("operator:neg", endless(), chunksize=2, buffersize=4)
    assert taken == 8
    assert list(itertools.islice(results, 10)) == [-number for number in range(10)]
    assert taken <= 10 + 8
    results.close()  # type: ignore[attr-defined]  # it is a generator
    before = taken
    assert list(results) == []
    assert taken == before


def test_closed_map_cancels_what_it_has_sent(start: Start) -> None:
    """A `map` that is closed early gives up its chunks: the guest does not work on them any more."""
    domain = start()
    results: Iterator[Any] = domain.map("errands:keep_late", range(64), itertools.repeat(0.05), buffersize=64)
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    domain.submit("operator:add", 1, 1).result(JOIN_S)
    assert len(domain.call("errands:kept")) < 40


def test_map_refuses_sizes_below_one(start: Start) -> None:
    """`chunksize` and `buffersize` from 1 up; what the input raises comes out, and nothing is left open."""
    domain = start()
    for chunksize, buffersize in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(ValueError, match="from 1 up"):
            domain.map("operator:neg", [1], chunksize=chunksize, buffersize=buffersize)
    sizes: Any
    for sizes in ({"chunksize": "8"}, {"chunksize": 1.5}, {"chunksize": None}, {"buffersize": 2.0}):
        with pytest.raises(TypeError, match=f"{next(iter(sizes))} is a whole number"):
            domain.map("operator:neg", [1], **sizes)

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        list(domain.map("operator:neg", broken()))
    assert domain.call("errands:add", 1, 1) == 2


@pytest.mark.parametrize("chunksize", [1, 4])
def test_map_keeps_no_result_that_it_has_given(start: Start, chunksize: int) -> None:
    """A result of a `map` belongs to who has got it: the iterator holds it no longer, for it may be large."""
    domain = start()
    given = 0
    for made in domain.map("collections:Counter", ["a"] * 6, chunksize=chunksize):
        seen = weakref.ref(made)
        del made
        assert seen() is None
        given += 1
    assert given == 6


def test_map_ends_with_the_domain(start: Start) -> None:
    """A domain that ends in the middle of a `map` ends it with its error."""
    domain = start()
    results: Iterator[Any] = domain.map("os:_exit", [3, 3])
    with pytest.raises(DomainCrashed):
        list(results)


def test_finalizers_may_submit_in_the_middle_of_a_submit(start: Start) -> None:
    """Finalizers that the collector runs anywhere submit, call and tell; calls keep their order, and none is torn."""
    domain = start()
    counter = domain.create("collections:Counter")
    finalized: list[Any] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if len(finalized) % 2:
                finalized.append(domain.submit("operator:add", len(finalized), 1))
            else:
                finalized.append(cloister.one_way(counter.update)("a"))

    results: list[int] = []

    def work() -> None:
        while time.monotonic() < until or len(finalized) <= 20:
            Cycle()
            future = domain.submit("operator:add", 1, 1)
            late = domain.with_options(timeout=30).submit("operator:add", bytes(70_000), b"")
            results.append(future.result(JOIN_S))
            results.append(len(late.result(JOIN_S)))
            Cycle()
            results.extend(domain.map("operator:neg", [1, 2]))

    until = time.monotonic() + 0.6
    workers = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    threshold = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(JOIN_S)
            assert not worker.is_alive()
    finally:
        gc.set_threshold(*threshold)
    assert set(results) == {2, 70_000, -1, -2}
    gc.collect()
    assert len(finalized) > 20
    for future in filter(None, finalized):
        future.result(JOIN_S)


def test_submit_in_the_worst_moment_of_a_submit_comes_after_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a finalizer submits after a call was numbered and before it was written is written after it."""
    domain = start()
    domain.submit("operator:add", 0, 0).result(JOIN_S)
    inner: list[Any] = []

    class Disturbed(Numbered):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            if not inner:
                inner.append(None)
                inner[0] = domain.submit("operator:add", 20, 1)

    monkeypatch.setattr(shared_lane, "Numbered", Disturbed)
    assert domain.submit("operator:add", 10, 1).result(JOIN_S) == 11
    assert inner[0].result(JOIN_S) == 21


def test_finalizers_may_call_while_lanes_are_opened(start: Start) -> None:
    """New threads open lanes while the collector runs finalizers that call, too: nobody waits for himself."""
    domain = start()

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            called.append(domain.call("operator:add", 1, 1))

    def work() -> None:
        Cycle()
        domain.call("operator:add", 1, 1)

    called: list[int] = []
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(60):
            worker = threading.Thread(target=work, daemon=True)
            worker.start()
            worker.join(JOIN_S)
            assert not worker.is_alive()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(called) >= 50


def test_finalizer_in_the_middle_of_opening_a_lane_opens_one_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer that the collector runs while a lane is on its way to the guest calls on a lane of its own."""
    domain = start()
    original = duplex.send_with_descriptors
    results: list[int] = []

    def interrupted(*args: Any) -> int:
        monkeypatch.setattr(channel, "send_with_descriptors", original)
        results.append(domain.with_options(timeout=JOIN_S).call("operator:add", 1, 1))
        sent = original(*args)
        results.append(domain.with_options(timeout=JOIN_S).call("operator:add", 1, 2))
        return sent

    def work() -> None:
        results.append(domain.call("operator:add", 1, 3))

    domain.call("operator:add", 1, 1)  # the first lane is there from the start
    monkeypatch.setattr(channel, "send_with_descriptors", interrupted)
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(2 * JOIN_S)
    assert results == [2, 3, 4]


def test_finalizer_that_gets_the_main_thread_leaves_another_one_for_the_lane_that_is_opened(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lanes never wait for the guest's main thread, where a finalizer calls while it is decided which gets it."""
    domain = start()
    original = OpenLanes.new_number
    names: list[str] = []

    def ask() -> None:
        names.append(domain.eval("__import__('threading').current_thread().name"))

    def interrupted(self: OpenLanes) -> int:
        monkeypatch.setattr(OpenLanes, "new_number", original)
        ask()
        return original(self)

    for disturbed in (False, True):  # the lane of the first thread has the main thread, and gives it back
        if disturbed:
            monkeypatch.setattr(OpenLanes, "new_number", interrupted)
        worker = threading.Thread(target=ask, daemon=True)
        worker.start()
        worker.join(JOIN_S)
    assert names[:2] == ["MainThread", "MainThread"]
    assert names[2].startswith("cloister-lane-")  # and not on a thread that comes when the main one does not


def test_finalizer_that_calls_a_domain_with_one_lane_is_refused_while_it_is_opened(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `max_concurrency=1` a finalizer in the middle of a call gets DeadlockDetected, whatever the moment."""
    domain = start(max_concurrency=1)
    rack: Any = domain._life.peer._rack
    refused: list[BaseException] = []
    original = rack._open

    def interrupted() -> Any:
        try:
            domain.call("operator:add", 1, 1)
        except DeadlockDetected as error:
            refused.append(error)
        return original()

    monkeypatch.setattr(rack, "_open", interrupted)
    view = domain.with_options(timeout=JOIN_S)
    assert view.call("operator:add", 1, 2) == 3
    assert len(refused) == 1
    assert view.call("operator:add", 1, 3) == 4


@pytest.mark.parametrize("seconds", [30 * 24 * 3600.0, 1e300, float("inf")])
def test_time_out_beyond_what_the_system_can_wait_is_none(start: Start, seconds: float) -> None:
    """A limit of a month, or an endless one, is no limit, on a call lane and on the shared one."""
    view = start().with_options(timeout=seconds)
    assert view.call("operator:add", 1, 1) == 2
    assert view.submit("operator:add", 1, 1).result(JOIN_S) == 2


def test_code_in_the_middle_of_a_submit_may_wait_for_another(
    domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finalizer may run while a call is encoded or written. What it submits is answered while it waits for it, and
    so is what was submitted before."""
    earlier: list[concurrent.futures.Future[Any]] = []
    seen: list[Any] = []
    inside = threading.local()

    def finalizer() -> None:
        if not getattr(inside, "now", False):
            inside.now = True
            seen.append(earlier[-1].result(JOIN_S))
            seen.append(domain.submit("operator:add", 1, 1).result(JOIN_S))
            inside.now = False

    def in_front_of(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            finalizer()
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    for owner, name in [(Ledger, "encode"), (Ledger, "until"), (Sending, "_write_only")]:
        with monkeypatch.context():
            if name == "_write_only":
                monkeypatch.setattr(shared_lane, "BURST_S", 0.0)
            domain.submit("operator:add", 1, 1)
            earlier.append(domain.submit("errands:sleep", 0.02))  # it is only queued
            in_front_of(owner, name)
            with calling.timeout(JOIN_S):
                assert domain.submit("operator:add", 2, 2).result(JOIN_S) == 4
            monkeypatch.undo()
        assert seen == [0.02, 2]
        seen.clear()


def test_finalizer_on_the_reading_thread_may_wait(domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer that runs while an answer is decoded gets the answer of what it submits."""
    real, seen = Ledger.read, []

    def read(self: Any, *args: Any) -> Any:
        monkeypatch.undo()
        seen.append(domain.submit("operator:add", 1, 1).result(JOIN_S))
        return real(self, *args)

    domain.submit("operator:add", 0, 0).result(JOIN_S)
    monkeypatch.setattr(Ledger, "read", read)
    assert domain.submit("operator:add", 2, 2).result(JOIN_S) == 4
    assert seen == [2]


def test_done_callback_that_waits_for_another_call_is_told(domain: cloister.Domain) -> None:
    """A done-callback that waits for an answer which only its own thread can read gets DeadlockDetected, at once."""
    told: list[BaseException] = []
    finished = threading.Event()

    def wait(_: Any) -> None:
        for ask in (lambda: domain.submit("operator:add", 1, 1).result(), domain.submit("time:sleep", 0.01).exception):
            try:
                ask()
            except DeadlockDetected as error:
                told.append(error)
        finished.set()

    domain.submit("time:sleep", 0.05).add_done_callback(wait)
    assert finished.wait(JOIN_S)
    assert len(told) == 2
    assert "which reads its answer" in str(told[0])
    assert domain.submit("operator:add", 1, 1).result(JOIN_S) == 2


def test_end_of_a_domain_reaches_a_finalizer_that_waits_in_the_middle_of_a_submit(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the domain dies while a finalizer waits in the middle of a submit, all of it ends with the report."""
    domain = start()
    endless = domain.submit("time:sleep", 60)
    real, ends = Sending._write_only, []

    def write(self: Any, frame: bytes) -> None:
        monkeypatch.undo()
        domain.submit("os:_exit", 3)
        ends.append(endless.exception(JOIN_S))
        real(self, frame)

    monkeypatch.setattr(shared_lane, "BURST_S", 0.0)
    monkeypatch.setattr(Sending, "_write_only", write)
    monkeypatch.setattr(shared_lane, "BURST_S", 0.0)  # two calls so close would be written by the reading thread
    last = domain.submit("time:sleep", 60)
    ends.append(last.exception(JOIN_S))
    assert [type(end) for end in ends] == [DomainCrashed] * 2
    assert isinstance(ends[0], DomainCrashed)
    assert ends[0].report is not None
    assert len(ends[0].report.calls) == 3


def test_report_of_a_crash_names_the_submitted_call(start: Start) -> None:
    """A domain that dies in `submit` or `map` says in its report what it served."""
    for begin in (
        lambda domain: domain.submit("os:_exit", 3).result(JOIN_S),
        lambda domain: list(domain.map("os:_exit", [3])),
    ):
        with pytest.raises(DomainCrashed) as caught:
            begin(start())
        assert "while it served: " in str(caught.value.report)


def test_answers_are_not_lost_with_a_later_call_that_ends_the_domain(start: Start) -> None:
    """Calls that were answered in a row before one that kills the domain have their results; it has the report."""
    domain = start()
    domain.submit("operator:add", 0, 0).result(JOIN_S)
    futures = [domain.submit("operator:add", number, 1) for number in range(40)]
    last = domain.submit("os:_exit", 3)
    assert [future.result(JOIN_S) for future in futures] == list(range(1, 41))
    assert isinstance(last.exception(JOIN_S), DomainCrashed)
