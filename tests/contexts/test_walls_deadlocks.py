"""Circles through synchronized objects of several domains: one call is told the chain, all others go on."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import cloister
from cloister.errors import DeadlockDetected
from tests.contexts.crowd import JOIN_S, run_all
from tests.objects.conftest import MODULES
from tests.patience import wait_until


@pytest.fixture(scope="module")
def domains() -> Iterator[list[cloister.Domain]]:
    """Three domains that find the hotel, for the tests of this module."""
    made = [cloister.Domain(f"hotels {number}", setup=cloister.Setup(path=[MODULES])) for number in range(3)]
    yield made
    for domain in made:
        domain.unload()


def in_a_circle(brokers: list[Any]) -> list[Callable[[], object]]:
    """Works of which each is in one broker when all are in one, and then calls the next broker."""
    met = threading.Barrier(len(brokers), timeout=JOIN_S)

    def work(own: Any, following: Any) -> object:
        def up() -> int:
            met.wait()
            return int(following.where()[3])

        return own.call(up)

    return [partial(work, *pair) for pair in zip(brokers, [*brokers[1:], brokers[0]], strict=True)]


@pytest.mark.parametrize("count", [2, 3])
def test_threads_that_want_each_others_objects_in_several_domains(domains: list[cloister.Domain], count: int) -> None:
    """A circle through two, and through three domains: one call is told the chain, and the others go on."""
    brokers = [domain.create("hotel:HotelBroker") for domain in domains[:count]]
    outcomes = run_all(in_a_circle(brokers))
    (error,) = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert isinstance(error, DeadlockDetected)
    for domain in domains[:count]:
        assert f"(one at a time) of domain {domain.name!r}, held by thread" in str(error)
    assert str(error).count("wait") == count
    for broker in brokers:
        assert broker.call(lambda: 1) == 1
        assert broker.inside == 0


@cloister.synchronized
class Desk:
    """A synchronized object of the host."""

    def call(self, function: Callable[[], object]) -> object:
        return function()

    def where(self) -> tuple[int, ...]:
        return (0, 0, 0, 1)


def test_circle_through_a_context_of_the_host(domains: list[cloister.Domain]) -> None:
    """Where one object of the circle is the host's, the call in the guest is told."""
    broker, desk = domains[0].create("hotel:HotelBroker"), Desk()
    outcomes = run_all(in_a_circle([broker, desk]))
    (error,) = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert isinstance(error, DeadlockDetected)
    assert "of domain 'hotels 0'" in str(error)
    assert broker.call(lambda: desk.call(lambda: 1)) == 1


def test_circle_through_a_domain_that_takes_one_call_at_a_time(domains: list[cloister.Domain]) -> None:
    """The place of a limited domain and a turn in another one make a circle too."""
    broker = domains[0].create("hotel:HotelBroker")
    met = threading.Barrier(2, timeout=JOIN_S)
    with cloister.Domain("narrow", setup=cloister.Setup(path=[MODULES]), max_concurrency=1) as narrow:

        def from_narrow() -> object:
            return narrow.call("troubles:call_back", lambda: (met.wait(), broker.where())[1])

        def from_broker() -> object:
            return broker.call(lambda: (met.wait(), narrow.call("troubles:add", 1, 1))[1])

        outcomes = run_all([from_narrow, from_broker])
        assert isinstance(outcomes[0], DeadlockDetected)
        assert "domain 'narrow' (1 call at a time), held by thread" in str(outcomes[0])
        assert outcomes[1] == 2
        assert narrow.call("troubles:add", 1, 1) == 2


def test_circle_through_a_domain_that_a_domain_has_made(domains: list[cloister.Domain]) -> None:
    """A turn, a lane or an answer two levels down is passed on to the host of both, which finds the circle."""
    broker = domains[0].create("hotel:HotelBroker")
    met = threading.Barrier(2, timeout=JOIN_S)
    with cloister.Domain("outer", setup=cloister.Setup(path=[MODULES])) as outer:

        def below(place: str) -> object:
            return outer.call("nested_places:hold", place, lambda: (met.wait(), broker.where()[3])[1])

        def beside(place: str) -> object:
            return broker.call(lambda: (met.wait(), outer.call("nested_places:hold", place, lambda: 1))[1])

        for place in outer.call("nested_places:make"):
            outcomes = run_all([partial(below, place), partial(beside, place)])
            (error,) = [outcome for outcome in outcomes if not isinstance(outcome, int)]
            assert isinstance(error, DeadlockDetected), place
            assert "of domain 'hotels 0', held by thread" in str(error)
            assert "of domain 'outer', held by thread" in str(error)
            assert outer.call("nested_places:hold", place, lambda: 2) == 2
    assert broker.call(lambda: 1) == 1


def test_answers_that_are_waited_for_in_a_circle() -> None:
    """Threads that wait for submitted calls, which want each other's objects: a call is told."""
    met = threading.Barrier(2, timeout=JOIN_S)

    def work(own: Any, other: Any) -> object:
        return own.call(lambda: (met.wait(), cloister.submit(other.where).result()[3])[1])

    setup = cloister.Setup(path=[MODULES])
    with cloister.Domain("one", setup=setup) as one, cloister.Domain("two", setup=setup) as two:
        brokers = [domain.create("hotel:HotelBroker") for domain in (one, two)]
        outcomes = run_all([partial(work, *brokers), partial(work, *reversed(brokers))])
        (error,) = [outcome for outcome in outcomes if not isinstance(outcome, int)]
        assert isinstance(error, DeadlockDetected)
        assert "the answer of the submitted call where(), held by thread" in str(error)
        for broker in brokers:
            assert broker.call(lambda: 1) == 1


def test_submitted_calls_in_a_circle() -> None:
    """Submitted calls are strands of their own, and a circle of them is found as well."""
    met = threading.Barrier(2, timeout=JOIN_S)

    def submit(own: Any, other: Any) -> Any:
        return cloister.submit(own.call, lambda: (met.wait(), other.where()[3])[1])

    setup = cloister.Setup(path=[MODULES])
    with cloister.Domain("one", setup=setup) as one, cloister.Domain("two", setup=setup) as two:
        brokers = [domain.create("hotel:HotelBroker") for domain in (one, two)]
        futures = [submit(*brokers), submit(*reversed(brokers))]
        errors = [future.exception(JOIN_S) for future in futures]
    assert sorted(type(error).__name__ for error in errors) == ["DeadlockDetected", "NoneType"]


def test_objects_taken_in_one_order_are_no_circle(domains: list[cloister.Domain]) -> None:
    """However long the turns take and whoever waits for whom, no call is refused where none is in a circle."""
    brokers = [domain.create("hotel:HotelBroker") for domain in domains]
    draw = random.Random(7)
    plans = [sorted(draw.sample(range(3), draw.choice([2, 3]))) for _ in range(8)]
    pause = threading.Event()

    def take(order: list[int]) -> int:
        if not order:
            pause.wait(0.08)  # as long as a call that takes its time, so that waits become long
            return 1
        result = brokers[order[0]].call(lambda: take(order[1:]))
        assert isinstance(result, int)
        return result

    assert run_all([partial(take, plan) for plan in plans]) == [1] * 8


def test_guest_that_dies_while_it_waits(domains: list[cloister.Domain]) -> None:
    """The end of a domain ends its waits: nobody is refused for them, and what waited for them goes on."""
    from cloister import waits

    broker = domains[0].create("hotel:HotelBroker")
    release, inside = threading.Event(), threading.Event()
    with cloister.Domain("mortal", setup=cloister.Setup(path=[MODULES])) as mortal:
        other = mortal.create("hotel:HotelBroker")

        def stay() -> bool:
            inside.set()
            return release.wait(JOIN_S)

        def hold() -> object:
            return other.call(stay)

        def wait() -> object:
            assert inside.wait(JOIN_S)
            return broker.call(lambda: other.where())

        def kill() -> None:
            assert inside.wait(JOIN_S)
            wait_until(lambda: bool(waits._graph.afar))
            mortal.kill()
            release.set()

        outcomes = run_all([hold, wait, kill])
    assert all(isinstance(outcome, cloister.errors.CloisterError) for outcome in outcomes[:2])
    assert not any(isinstance(outcome, DeadlockDetected) for outcome in outcomes)
    assert not waits._graph.afar
    assert not waits._suspicions
    assert broker.call(lambda: 1) == 1


def test_lane_speaks_for_one_strand_after_the_other(domains: list[cloister.Domain]) -> None:
    """A thread of the host that serves several threads of a guest is known in other domains as each of them."""
    first, second = domains[:2]
    seen: list[tuple[int, int]] = []

    def here() -> None:
        seen.append((cloister.logical_thread(), second.call("cloister:logical_thread")))

    for _ in range(3):
        first.call("troubles:call_back_from_thread", here)
    assert len({own for own, _ in seen}) == 3
    assert all(own == there for own, there in seen)
