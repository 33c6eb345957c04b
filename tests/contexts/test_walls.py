"""Contexts and the walls of domains: synchronized objects in a guest, calls that come back over the wall, programs."""

from __future__ import annotations

import contextvars
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest

import cloister
from cloister.objects.descriptions import describe_type
from cloister.objects.marks import KNOWN
from tests.contexts.crowd import JOIN_S, enter_all
from tests.objects.conftest import MODULES
from tests.patience import wait_until


@pytest.fixture(scope="module")
def domain() -> Iterator[cloister.Domain]:
    """A domain that finds the hotel, for the tests of this module."""
    with cloister.Domain("hotels", setup=cloister.Setup(path=[MODULES])) as shared:
        yield shared


def test_a_thread_runs_the_reservation_program_in_a_second_domain(capfd: pytest.CaptureFixture[str]) -> None:
    """S44: a new thread makes a domain and runs the program there, which loads Hotel; it gets the exit code."""
    codes: list[tuple[int, int, bool]] = []

    def work() -> None:
        with cloister.Domain("CreatedDomain2", setup=cloister.Setup(path=[MODULES])) as second:
            code = second.run_module("make_reservation", ["MakeReservation"])
            codes.append((code, threading.get_ident(), "hotel" in second.modules()))

    thread = threading.Thread(target=work)
    thread.start()
    identity = thread.ident
    thread.join(2 * JOIN_S)
    assert codes == [(1, identity, True)]
    assert "reservation 1001 in CreatedDomain2" in capfd.readouterr().out
    assert "hotel" not in sys.modules


def test_a_synchronized_object_of_a_domain_runs_in_another_context(domain: cloister.Domain) -> None:
    """S37, S45: constructor and methods run in that domain, in a context of its own, for the caller's thread."""
    broker = domain.create("hotel:HotelBroker")
    process, _, logical, context = broker.made_in
    assert (process, logical) == (domain.pid, cloister.logical_thread())
    assert process != os.getpid()
    assert context > 0
    assert broker.where()[3] == context
    assert broker.make_reservation(1, "Boston", "Sheraton", date(2001, 12, 2), 3) == 1001
    assert domain.call("cloister:current_context").id == 0
    assert domain.create("hotel:Agile").where() == 0


def test_the_same_object_is_the_same_proxy(domain: cloister.Domain) -> None:
    """S46: over the wall a context-bound object has one proxy, however it comes, and is itself at home."""
    broker = domain.create("hotel:HotelBroker")
    shown: list[Any] = []
    assert broker.itself() is broker
    broker.show(shown.append)
    assert shown[0] is broker
    assert broker.is_itself(broker)
    assert domain.call("hotel:visit", broker) == (True, 0, broker.where()[3])


@pytest.mark.parametrize("reentrant", [False, True], ids=["not re-entrant", "re-entrant"])
def test_of_eight_threads_one_is_inside(domain: cloister.Domain, reentrant: bool) -> None:
    """S45, O03: of eight threads that meet one is inside; during its call-backs others are, if re-entrant."""
    broker = domain.create("hotel:OpenBroker" if reentrant else "hotel:HotelBroker")
    assert enter_all(broker, lambda: int(domain.call("proving:waiting", broker)), reentrant) == [True] * 8
    assert broker.most_inside == (8 if reentrant else 1)
    assert broker.inside == 0


@pytest.mark.parametrize("name", ["HotelBroker", "OpenBroker"])
def test_a_nested_call_back_does_not_deadlock(domain: cloister.Domain, name: str) -> None:
    """S45, O03: the broker calls the host, which calls the broker again, three times nested: each call goes on."""
    broker = domain.create(f"hotel:{name}")
    context = broker.where()[3]
    assert broker.call(lambda: broker.call(lambda: broker.call(lambda: broker.where()[3]))) == context
    assert broker.inside == 0


def test_a_call_back_over_two_domains_comes_home(domain: cloister.Domain) -> None:
    """O03: a broker calls the host, which calls a broker elsewhere, which calls the host, which calls the first."""
    with cloister.Domain("other", setup=cloister.Setup(path=[MODULES])) as other:
        here, there = domain.create("hotel:HotelBroker"), other.create("hotel:HotelBroker")
        assert here.call(lambda: there.call(lambda: here.where()[0])) == domain.pid
        assert here.most_inside == there.most_inside == 1


def test_submitted_calls_of_one_thread_exclude_each_other() -> None:
    """O02: calls that one thread submitted take turns, although they are one logical thread."""
    with cloister.Domain("submitted", setup=cloister.Setup(path=[MODULES])) as domain:
        broker = domain.create("hotel:HotelBroker")
        calls = [cloister.submit(broker.call, lambda: 1) for _ in range(8)]
        assert [each.result(JOIN_S) for each in calls] == [1] * 8
        assert broker.most_inside == 1


def test_a_synchronized_object_of_the_host_serves_a_guest(domain: cloister.Domain) -> None:
    """S45: a guest reaches a synchronized object of the host in its context; its call-outs come back."""

    @cloister.synchronized
    class Desk:
        def here(self) -> int:
            return cloister.current_context().id

        def ask(self, broker: Any) -> Any:
            return broker.call(self.here)

        def give(self, broker: Any) -> Any:
            return broker.is_itself(self), domain.call("operator:is_", self, self), broker.show(self.get)

        def get(self, broker: Any) -> bool:
            return cloister.is_proxy(broker) and not cloister.current_context().is_default

    desk = Desk()
    broker = domain.create("hotel:HotelBroker")
    home = cloister.context_of(desk)
    assert home is not None
    assert desk.ask(broker) == home.id
    assert desk.give(broker) == (False, True, True)
    assert domain.call(_ask_here, desk) == home.id


def _ask_here(desk: Any) -> Any:
    return desk.here()


@pytest.mark.parametrize("reentrant", [False, True], ids=["not re-entrant", "re-entrant"])
def test_a_call_over_the_wall_is_a_call_out_of_the_host(domain: cloister.Domain, reentrant: bool) -> None:
    """O03: while an object of the host waits for a domain, another thread comes in if it is re-entrant, else not."""

    @cloister.synchronized(cloister.Synchronization.REQUIRES_NEW, reentrant=reentrant)
    class Desk:
        def ask(self, function: Callable[[], object]) -> Any:
            return domain.create("hotel:Agile").call(function=function)

        def here(self) -> bool:
            return cloister.current_context().is_reentrant

    desk: Any = Desk()
    out, came_in = threading.Event(), threading.Event()
    seen: list[bool] = []

    def look() -> None:
        assert out.wait(JOIN_S)
        desk.here()
        came_in.set()

    def hold() -> None:
        out.set()
        seen.append(came_in.wait(JOIN_S if reentrant else 0.05))

    other = threading.Thread(target=look)
    other.start()
    desk.ask(hold)
    other.join(JOIN_S)
    assert not other.is_alive()
    assert seen == [reentrant]


def test_a_call_over_the_wall_on_another_thread_leaves_nothing(domain: cloister.Domain) -> None:
    """S46: a thread that a method starts with its context variables calls a domain as from the default context."""

    @cloister.synchronized
    class Desk:
        def start(self) -> int:
            results: list[int] = []
            variables = contextvars.copy_context()

            def ask() -> None:
                results.append(domain.call("os:getpid"))

            thread = threading.Thread(target=lambda: variables.run(ask))
            thread.start()
            thread.join(JOIN_S)
            return results[0]

    assert Desk().start() == domain.pid


def test_a_generator_of_a_synchronized_object_crosses_the_wall(domain: cloister.Domain) -> None:
    """S45: each step of a generator that the broker returns runs in its context, whoever asks for it."""
    broker = domain.create("hotel:HotelBroker")
    assert list(broker.floors(3)) == [broker.where()[3]] * 3


def test_a_call_that_waits_for_its_turn_can_be_given_up() -> None:
    """O02: the time-out of a call that waits in a domain ends the wait; the one inside goes on."""
    with cloister.Domain("waited", setup=cloister.Setup(path=[MODULES])) as domain:
        broker = domain.create("hotel:HotelBroker")
        go_on = threading.Event()
        inside = threading.Event()

        def hold() -> bool:
            inside.set()
            return go_on.wait(JOIN_S)

        holder = threading.Thread(target=broker.call, args=(hold,))
        holder.start()
        assert inside.wait(JOIN_S)
        with pytest.raises(cloister.CallTimeout), cloister.timeout(0.05):
            broker.where()
        go_on.set()
        holder.join(JOIN_S)
        assert not holder.is_alive()
        assert broker.where()[0] == domain.pid


def test_a_synchronized_class_travels_as_code(domain: cloister.Domain) -> None:
    """S45: a synchronized class that is no part of a module, and has been used here, is made in a domain as it is."""

    @cloister.synchronized
    class Local:
        def __init__(self, name: str) -> None:
            self.name = name

        def where(self) -> tuple[int, bool]:
            return os.getpid(), cloister.current_context().is_default

    assert Local("here").where() == (os.getpid(), False)
    made = domain.create(Local, "there")
    assert (made.where(), made.name) == ((domain.pid, False), "there")


def test_a_handle_of_the_default_domain_unwraps_within_its_context(domain: cloister.Domain) -> None:
    """S36: in the default domain a handle gives the real object, made on this thread and in this context, 0."""

    class Made:
        def __init__(self) -> None:
            self.made_in = self.where()

        def where(self) -> tuple[int, cloister.Context]:
            return threading.get_ident(), cloister.current_context()

    made = cloister.current_domain().create_handle(Made).unwrap()
    assert type(made) is Made
    assert made.made_in == made.where() == (threading.get_ident(), cloister.current_context())
    assert made.made_in[1].id == 0


def test_classes_made_on_the_way_are_let_go() -> None:
    """S48: a context-bound class keeps itself alive no longer than others: it goes, with the class of its proxies."""

    def make() -> weakref.ref[type]:
        cls: Any = cloister.synchronized(type("Passing", (), {"go": lambda self: 1}))
        assert cls().go() == 1
        return weakref.ref(cls)

    made = make()
    describe_type.cache_clear()  # it keeps the last 512
    for name in [name for name, known in KNOWN.items() if known is made()]:
        del KNOWN[name]  # where every class by reference is kept, the last one under each name
    gc.collect()
    assert made() is None


def test_many_contexts_leave_nothing_behind(domain: cloister.Domain) -> None:
    """S34: contexts appear on need and go with the last object in them."""

    @cloister.synchronized
    class Short:
        pass

    made = Short()
    context = weakref.ref(cloister.context_of(made))
    proxy = weakref.ref(made)
    del made
    gc.collect()
    assert context() is None
    assert proxy() is None
    broker = domain.create("hotel:HotelBroker")
    first = broker.where()[3]
    del broker
    wait_until(lambda: domain.create("hotel:HotelBroker").where()[3] > first)
