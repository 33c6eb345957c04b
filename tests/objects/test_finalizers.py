"""Finalizers may run anywhere: in any thread, in the middle of encoding, under our own locks. They only enqueue."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import cloister
from cloister.errors import ProtocolError
from cloister.objects import exports as exports_module
from cloister.objects.descriptions import describe_type
from cloister.objects.exports import Exported, Exports
from cloister.objects.imports import Imports
from cloister.objects.peer import Peer
from cloister.objects.rule import Marshaller
from cloister.wire.limits import DEFAULT_LIMITS
from tests.patience import wait_until


class Cycle:
    """Garbage that only the collector finds, and that calls a domain when it is found."""

    def __init__(self, finalizer: Any) -> None:
        self.itself = self
        self.finalizer = finalizer

    def __del__(self) -> None:
        self.finalizer()


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Collect garbage at every few allocations."""
    before = gc.get_threshold()
    gc.set_threshold(7, 1, 1)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("eager_collector")
def test_finalizer_that_makes_calls_never_deadlocks(domain: cloister.Domain) -> None:
    """O13: garbage of one thread is collected in the middle of the calls of others, and its finalizers make calls."""
    customers = domain.create("customers:Customers")
    made: list[int] = []
    seen: list[Any] = []

    def finalizer() -> None:
        seen.append(customers.echo([customers, len]))

    def litter() -> None:
        for number in range(60):
            Cycle(finalizer)
            made.append(number)
        # A thread that is gone already, but for its own dictionary, must not be the one that finds the last ones: what
        # a finalizer puts there then is lost to Python itself, and with it the lane of its call.
        while len(seen) < 60:
            gc.collect()

    def work() -> None:
        while len(made) < 60 or len(seen) < 60:
            assert customers.echo([customers, len, {"a": (customers,)}])[0] is customers
            assert domain.create("lifetimes:Thing").ping() == "pong"

    threads = [threading.Thread(target=each) for each in (work, litter, work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert all(found[0] is customers and found[1] is len for found in seen)


def test_collector_in_the_middle_of_receiving_keeps_identity_and_count() -> None:
    """O09, O13: a finalizer that receives the very object that is just being received gets the same proxy."""
    exports, imports = Exports(open_attributes=True), Imports(Callee())
    thing, view = Thing(), describe_type(Thing)
    numbers = [exports.hand_out(thing, view).number for _ in range(2)]
    inner: list[Any] = []

    def collect() -> None:  # called while the lock is held, where the collector could run
        imports.keep = None
        inner.append(imports.receive(numbers[1], 1, view))
        assert imports.take_dropped() == []

    imports.keep = collect  # type: ignore[assignment]  # called as a weak reference is
    outer = imports.receive(numbers[0], 1, view)
    assert outer is inner.pop()
    del outer
    exports.release(imports.take_dropped())
    assert len(exports) == len(imports) == 0


def test_collector_in_the_middle_of_handing_out_keeps_identity_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """O09, O13: a finalizer that sends the very object that is just being sent finds one entry; both count."""
    exports = Exports(open_attributes=True)
    thing, view = Thing(), describe_type(Thing)
    inner: list[Exported] = []

    class Interrupted(Exported):
        __slots__ = ()

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            if not inner:
                monkeypatch.undo()
                inner.append(exports.hand_out(thing, view))

    monkeypatch.setattr(exports_module, "Exported", Interrupted)
    outer = exports.hand_out(thing, view)
    assert outer is inner[0]
    exports.release([[outer.number, 2, 0]])
    assert len(exports) == 0


def test_proxies_that_die_in_any_thread_are_released(domain: cloister.Domain) -> None:
    """O13: proxies that are dropped by threads that never call, also as cyclic garbage, are released all the same."""
    wait_until(lambda: domain.call("lifetimes:living") == 0)
    things = domain.call("lifetimes:make", 100)

    def drop() -> None:
        while things:
            ring: list[Any] = [things.pop()]
            ring.append(ring)
            del ring
        gc.collect()

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join(10)
    wait_until(lambda: domain.call("lifetimes:living") == 0)


class Callee:
    """The other side, for proxies that are never called."""

    name = "nobody"

    def call(self, *_: Any) -> Any:
        raise AssertionError("it was called")

    def awaiting(self) -> bool:
        return False

    def describe(self, error: BaseException) -> Any:
        raise AssertionError("it was asked")


class Thing:
    """What is handed out."""


@hypothesis.given(st.lists(st.sampled_from(["send", "hear", "drop", "release", "home", "arrive"]), max_size=60))
def test_counting_holds_in_every_order_of_two_ways(steps: list[str]) -> None:
    """O13: whatever the order in which messages and releases arrive, an object that is held or on its way is never let
    go, nothing is released twice, and in the end nothing is left."""
    exports, imports = Exports(open_attributes=True), Imports(Callee())
    thing, view = Thing(), describe_type(Thing)
    sent: list[int] = []  # on a lane, from the owner
    homeward: list[int] = []  # on a lane, to the owner
    releases: list[Any] = []  # on the control channel, to the owner
    held: list[Any] = []

    def step(name: str) -> None:
        if name == "send":
            sent.append(exports.hand_out(thing, view).number)
        elif name == "hear" and sent:
            held.append(imports.receive(sent.pop(0), 1, view))
        elif name == "drop" and held:
            held.clear()
            releases.extend(imports.take_dropped())
        elif name == "home" and held:
            imports.mention(held[0]._cloister_id)
            homeward.append(held[0]._cloister_id)
        elif name == "arrive" and homeward:
            assert exports.arrive(homeward.pop(0)).value is thing
        elif name == "release" and releases:
            exports.release([releases.pop(0)])
        for number in [*sent, *homeward, *(proxy._cloister_id for proxy in held)]:
            assert exports.find(number).value is thing

    for name in [*steps, *["hear"] * 60, "drop", *["arrive", "release"] * 60]:
        step(name)
    assert len(exports) == len(imports) == 0


def test_same_object_received_again_while_its_proxy_dies_counts_anew() -> None:
    """O13: the release of a proxy that died is for what that one received; a new proxy of the same object stays."""
    exports, imports = Exports(open_attributes=True), Imports(Callee())
    thing, view = Thing(), describe_type(Thing)
    number = exports.hand_out(thing, view).number
    assert imports.receive(number, 1, view) is not None  # and gone again
    again = imports.receive(exports.hand_out(thing, view).number, 1, None)
    exports.release(imports.take_dropped())
    assert exports.find(number).value is thing
    del again
    exports.release(imports.take_dropped())
    assert len(exports) == len(imports) == 0
    with pytest.raises(cloister.MarshalError, match="gone"):
        exports.find(number)
    with pytest.raises(ProtocolError, match="never handed out"):
        exports.find(number + 1)


def test_withdrawn_references_leave_no_trace() -> None:
    """What was prepared for a message that is not sent is taken back: counts, ways home and descriptions."""
    here, there = Peer("there", True, {}, DEFAULT_LIMITS), Peer("here", False, {}, DEFAULT_LIMITS)
    marshaller = Marshaller(here)
    codec = here._codec(marshaller)
    shared = cloister.share(Thing())
    with pytest.raises(cloister.MarshalError, match="lock"):
        codec.encode([shared, shared, threading.Lock()])
    assert len(here.exports) == 0
    received = there._codec(Marshaller(there)).decode(codec.encode([shared, shared]))
    assert received[0] is received[1]
    assert type(received[0]).__name__ == "Thing"


def test_attributes_of_two_views_keep_their_ids_apart() -> None:
    """One object under two descriptions has two ids, and each is let go by itself."""
    exports = Exports(open_attributes=False)
    feed = iter([1])
    whole, narrow = exports.view(type(feed)), exports.view_of_iteration(type(feed))
    one, two = exports.hand_out(feed, whole), exports.hand_out(feed, narrow)
    assert one.number != two.number
    exports.release([[one.number, 1, 0]])
    assert exports.find(two.number).value is feed
    assert exports.hand_out(feed, narrow).number == two.number
