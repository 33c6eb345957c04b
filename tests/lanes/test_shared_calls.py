"""Many calls at once on the shared lane of a domain: futures, cancel, time-out, order, back-pressure."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister import calling
from cloister.domain.mapping import Results
from cloister.errors import CallTimeout, DomainCrashed, DomainUnloaded, MarshalError
from cloister.guest.shared import MAX_THREADS
from cloister.lanes import sending

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


@pytest.mark.parametrize("seconds", [30 * 24 * 3600.0, 1e300, float("inf")])
def test_time_out_beyond_what_the_system_can_wait_is_none(start: Start, seconds: float) -> None:
    """A limit of a month, or an endless one, is no limit, on a call lane and on the shared one."""
    view = start().with_options(timeout=seconds)
    assert view.call("operator:add", 1, 1) == 2
    assert view.submit("operator:add", 1, 1).result(JOIN_S) == 2


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


def test_chunk_of_a_function_written_in_c_is_stopped_between_its_items(start: Start) -> None:
    """A long chunk whose items never pass through Python's own steps ends when it is given up; places are kept."""
    domain = start()
    results = domain.map("time:sleep", [0.005] * 10_000, chunksize=10_000)
    assert isinstance(results, Results)
    time.sleep(0.1)  # where it has not begun by now it never does
    results.close()
    deadline = time.monotonic() + JOIN_S
    while domain.status().running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not domain.status().running
    domain.exec("def odd(n):\n    if n % 2:\n        return n\n    raise StopIteration if n % 4 else ValueError(n)")
    results = domain.map("__cloister__:odd", range(100), chunksize=100, return_exceptions=True)
    assert [isinstance(result, int) for result in results] == [n % 2 == 1 for n in range(100)]


def test_answers_do_not_wait_for_a_function_that_was_slow_before(start: Start) -> None:
    """What once held up the reader begins when the answers before it have left: its end takes none of them along."""
    domain = start()
    domain.exec("import os, time\ndef end(after):\n    time.sleep(after) if after else os._exit(3)")
    for _ in range(2):  # first it is new, then it is known
        futures = [domain.submit("operator:add", number, 1) for number in range(20)]
        futures.append(domain.submit("__cloister__:end", 0.2))
        assert concurrent.futures.wait(futures, JOIN_S).not_done == set()
    futures = [domain.submit("operator:add", number, 1) for number in range(40)]
    domain.submit("__cloister__:end", 0)
    assert [future.result(JOIN_S) for future in futures] == list(range(1, 41))
