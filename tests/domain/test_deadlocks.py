"""Calls that would wait for themselves: across domains with few places, on threads and in submitted calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DeadlockDetected
from tests.patience import wait_until

JOIN_S = 20.0
Make = Callable[..., cloister.Domain]


def cross(first: cloister.Domain, second: cloister.Domain, seconds: float | None = None) -> list[BaseException | int]:
    """Call two domains from two threads, each of which calls the other one from a call-back; return what they got."""
    met = threading.Barrier(2, timeout=JOIN_S)
    outcomes: list[BaseException | int] = []

    def work(own: cloister.Domain, other: cloister.Domain) -> None:
        def up() -> int:
            met.wait()
            return int(other.with_options(timeout=seconds).call("troubles:add", 1, 1))

        try:
            outcomes.append(own.call("troubles:call_back", up))
        except (DeadlockDetected, CallTimeout) as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
        assert not thread.is_alive()
    return outcomes


def test_two_threads_that_want_the_other_ones_domain(make: Make) -> None:
    """A cross-over of two domains with one place each: one call is told the chain, and the other goes on."""
    first, second = make("first", max_concurrency=1), make("second", max_concurrency=1)
    outcomes = cross(first, second)
    (error,) = [outcome for outcome in outcomes if isinstance(outcome, DeadlockDetected)]
    assert 2 in outcomes
    for domain in ("'first' (1 call at a time), held by thread", "'second' (1 call at a time), held by thread"):
        assert domain in str(error)
    assert first.call("troubles:add", 1, 1) == second.call("troubles:add", 1, 1) == 2


def test_wait_with_an_end_is_no_deadlock(make: Make) -> None:
    """Where the waits have time-outs of their own they end so; and with a free place there is nothing to wait for."""
    first, second = make("first", max_concurrency=1), make("second", max_concurrency=1)
    outcomes = cross(first, second, seconds=0.2)
    assert not any(isinstance(outcome, DeadlockDetected) for outcome in outcomes)
    assert cross(make("wide", max_concurrency=2), make("open")) == [2, 2]


def test_call_through_two_domains_and_back_waits_for_nobody(make: Make) -> None:
    """Host, A, host, B, host, A: the logical thread has its place in A already, and uses it again."""
    a, b = make("a", max_concurrency=1), make("b", max_concurrency=1)

    def in_a() -> object:
        return b.call("troubles:call_back", in_b)

    def in_b() -> object:
        return a.call("troubles:call_back", lambda: b.call("troubles:add", 1, 1))

    assert a.call("troubles:call_back", in_a) == 2


def test_submitted_calls_are_strands_of_their_own(make: Make) -> None:
    """A thread that submits to a domain that it is not in waits for itself in no sense, whoever has the places."""
    a, b = make("a", max_concurrency=1), make("b", max_concurrency=1)

    def work() -> list[int]:
        futures = [b.submit("troubles:add", number, 1) for number in range(5)]
        return [future.result(JOIN_S) for future in futures]

    assert a.call("troubles:call_back", work) == [1, 2, 3, 4, 5]
    assert a.call("troubles:add", 1, 1) == 2


def test_answer_that_waits_for_the_thread_that_waits_for_it(make: Make) -> None:
    """To wait in a call-back for a call submitted to the same domain, which has one place, is told at once."""
    domain = make(max_concurrency=1)

    def up() -> Future[int]:
        future = domain.submit("troubles:add", 1, 1)
        with pytest.raises(DeadlockDetected, match="the answer of the submitted call"):
            future.result()
        return future

    kept = []
    assert domain.call("troubles:call_back", lambda: kept.append(up())) is None
    assert kept[0].result(JOIN_S) == 2


def joined(work: Callable[[], int]) -> int:
    """Let a thread do something, and join it."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def in_an_executor(work: Callable[[], int]) -> int:
    """Let a thread of an executor do something, and wait for its result."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()


@pytest.mark.parametrize("way", [joined, in_an_executor])
@pytest.mark.parametrize("wanted", ["turn", "lane", "answer"])
def test_thread_that_waits_for_another_one_which_waits_for_it(
    make: Make, way: Callable[[Callable[[], int]], int], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call-back waits for a thread that calls the place in which it is: that call is told, and all goes on."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    domain = make(max_concurrency=None if wanted == "turn" else 1)
    errors: list[BaseException] = []

    def inner() -> int:
        try:
            if wanted == "turn":
                broker.where()
            elif wanted == "lane":
                domain.call("troubles:add", 1, 1)
            else:
                domain.submit("troubles:add", 1, 1).result()
        except DeadlockDetected as error:
            errors.append(error)
        return 1

    broker: Any = domain.create("hotel:HotelBroker") if wanted == "turn" else None
    call = partial(domain.call, "troubles:call_back") if broker is None else broker.call
    assert call(lambda: way(inner)) == 1
    assert len(errors) == 1
    assert "waits for a thread" in str(errors[0])
    assert domain.call("troubles:add", 1, 1) == 2


def test_thread_that_waits_with_an_end_for_another_one_is_no_deadlock(make: Make) -> None:
    """A join with a time-out ends by itself: the call of the other thread gets its place then."""
    domain = make(max_concurrency=1)
    found: list[int] = []

    def up() -> None:
        thread.start()
        thread.join(0.6)

    thread = threading.Thread(target=lambda: found.append(domain.call("troubles:add", 1, 1)))
    domain.call("troubles:call_back", up)
    thread.join(JOIN_S)
    assert found == [2]


def test_coroutine_of_a_guest_that_does_not_wait_for_ever_is_no_deadlock(make: Make) -> None:
    """What a coroutine over there awaits here may have a time limit of its own: no call is refused because of it."""
    between, first, second = make("between"), make("first", max_concurrency=1), make("second", max_concurrency=1)
    met = threading.Barrier(2, timeout=JOIN_S)
    outcomes: dict[str, Any] = {}

    def up() -> None:
        outcomes["up"] = second.call("troubles:add", 1, 1)

    def limited() -> None:
        met.wait()
        outcomes["limited"] = between.call("coroutines:within", up, 0.8)

    def patient() -> None:
        met.wait()
        outcomes["patient"] = first.call("troubles:add", 1, 1)

    works = ((first, limited), (second, patient))
    threads = [threading.Thread(target=domain.call, args=("troubles:call_back", work)) for domain, work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    assert outcomes.pop("limited") == "late"
    assert outcomes.pop("patient") == 2
    wait_until(lambda: outcomes == {"up": 2})
