"""Signals: subscribing to what happens to an object, over walls, with dead subscribers left out."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister import aio
from cloister.errors import CallCancelled, MarshalError
from tests.patience import wait_until

SETUP = cloister.Setup(path=[Path(__file__).parent.parent / "modules"])


@pytest.fixture
def domain() -> Iterator[cloister.Domain]:
    """A domain with a thermometer."""
    with cloister.Domain("station", setup=SETUP) as one:
        yield one


@pytest.mark.parametrize("how", ["measure", "measure_in_thread"])
def test_host_subscribes_to_an_object_of_a_guest(domain: cloister.Domain, how: str) -> None:
    """What the guest emits, in a call or on a thread of its own, reaches the subscribers in order, until they leave."""
    thermometer = domain.create("signalling:Thermometer")
    heard: list[tuple[str, float]] = []
    first = thermometer.changed.connect(lambda degrees: heard.append(("first", degrees)))
    with thermometer.changed.connect(lambda degrees: heard.append(("second", degrees))):
        assert getattr(thermometer, how)(20.5) == 2
    first.disconnect()
    first.disconnect()
    assert getattr(thermometer, how)(21.0) == 0
    assert heard == [("first", 20.5), ("second", 20.5)]


def test_task_of_a_guest_emits_without_waiting(domain: cloister.Domain) -> None:
    """In a coroutine of the guest, subscribers of the host are told by the loop, and it is not held up."""
    thermometer = domain.create("signalling:Thermometer")
    heard: list[float] = []
    thermometer.changed.connect(heard.append)
    assert thermometer.measure_in_a_task(19.0) == 1
    wait_until(lambda: heard == [19.0])


def test_subscriber_of_another_domain_is_left_out_when_that_ends(domain: cloister.Domain) -> None:
    """A guest's method subscribes to a host's signal, and to one of another guest; with its domain it is gone."""
    signal = cloister.Signal()
    thermometer = domain.create("signalling:Thermometer")
    with cloister.Domain("listener", setup=SETUP) as other:
        listener = other.create("signalling:Thermometer")
        signal.connect(listener.hear)
        thermometer.changed.connect(listener.hear)
        assert signal.emit(1.0) == 1
        assert thermometer.measure(2.0) == 1
        assert listener.heard == [1.0, 2.0]
    assert signal.emit(3.0) == 0
    assert len(signal) == 0
    assert thermometer.measure(4.0) == 0
    assert thermometer.subscribers() == 0


@pytest.mark.parametrize("error", ["ended", "cancelled", "words"])
def test_subscriber_that_meets_what_is_gone_stays(
    domain: cloister.Domain, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscriber whose own code uses a domain or an object that is gone is there itself: it is told the next time."""
    with cloister.Domain("gone", setup=SETUP) as gone:
        lost = gone.create("signalling:Thermometer")
    errors = {"cancelled": CallCancelled("by its own caller"), "words": MarshalError("object #3 is gone")}
    heard: list[float] = []

    def hear(degrees: float) -> None:
        heard.append(degrees)
        if error == "ended":
            lost.hear(degrees)
        raise errors[error]

    thermometer = domain.create("signalling:Thermometer")
    thermometer.changed.connect(hear)
    assert [thermometer.measure(1.0), thermometer.measure(2.0)] == [0, 0]
    assert heard == [1.0, 2.0]
    assert thermometer.subscribers() == 1


def test_subscriber_whose_lease_has_run_out_is_left_out(domain: cloister.Domain) -> None:
    """What is let go though it is held is a subscriber no more."""
    listener = domain.call("signalling:leased", 0.05)
    signal = cloister.Signal()
    signal.connect(listener.hear)
    wait_until(lambda: domain.call("signalling:living") == 0, 30)
    assert signal.emit(1.0) == 0
    assert len(signal) == 0


def test_error_of_what_is_gone_is_not_taken_for_one_of_the_next_domain(domain: cloister.Domain) -> None:
    """An error over two walls says nothing of what was called over the second one."""
    listener = domain.call("signalling:leased", 0.05)
    wait_until(lambda: domain.call("signalling:living") == 0, 30)
    heard: list[float] = []

    def hear(degrees: float) -> None:
        heard.append(degrees)
        listener.hear(degrees)

    with cloister.Domain("other", setup=SETUP) as other:
        thermometer = other.create("signalling:Thermometer")
        thermometer.changed.connect(hear)
        assert [thermometer.measure(1.0), thermometer.measure(2.0)] == [0, 0]
    assert heard == [1.0, 2.0]


def test_subscriber_behind_a_loop_is_left_out_when_its_domain_ends() -> None:
    """The same for a subscriber in another domain of `cloister.aio`, which the host passes on."""

    async def run() -> tuple[int, int]:
        async with aio.Domain("station", setup=SETUP, echo=False) as domain:
            thermometer: Any = await domain.create("signalling:Thermometer")
            changed = await thermometer.changed
            async with aio.Domain("listener", setup=SETUP, echo=False) as other:
                listener: Any = await other.create("signalling:Thermometer")
                await changed.connect(listener.hear)
                assert await thermometer.measure(1.0) == 1
            return await thermometer.measure(2.0), await thermometer.subscribers()

    assert asyncio.run(run()) == (0, 0)


def test_what_a_subscriber_raises_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """A subscriber that raises is logged and kept; the next ones are told."""
    signal = cloister.Signal()
    heard: list[int] = []

    def broken(number: int) -> None:
        raise ValueError("not this one")

    signal.connect(broken)
    signal.connect(heard.append)
    with caplog.at_level(logging.ERROR, "cloister"):
        assert [signal.emit(number) for number in (1, 2)] == [1, 1]
    assert heard == [1, 2]
    assert caplog.text.count("ValueError: not this one") == 2
    assert len(signal) == 2


def test_dropped_objects_are_not_kept_by_their_subscriptions() -> None:
    """A bound method is held weakly; a function is held; `disconnect` takes either, once."""

    class Display:
        def show(self, number: int) -> None:
            shown.append(number)

    shown: list[int] = []
    signal, display = cloister.Signal(), Display()
    signal.connect(display.show)
    signal.connect(lambda number: shown.append(-number))
    assert signal.emit(1) == 2
    del display
    gc.collect()
    assert signal.emit(2) == 1
    assert shown == [1, -1, -2]
    other = Display()
    signal.connect(other.show)
    signal.disconnect(other.show)
    with pytest.raises(LookupError, match="not connected"):
        signal.disconnect(other.show)
    with pytest.raises(TypeError, match="can't be called"):
        signal.connect(3)  # type: ignore[arg-type]  # that is the point
    assert signal


def test_subscribers_may_come_and_go_while_they_are_told() -> None:
    """One that ends its own subscription, or makes another one, changes nothing for this time."""
    signal = cloister.Signal()
    heard: list[str] = []

    def once(number: int) -> None:
        heard.append("once")
        connection.disconnect()
        signal.connect(lambda number: heard.append("new"))

    connection = signal.connect(once)
    signal.connect(lambda number: heard.append("other"))
    signal.emit(1)
    signal.emit(2)
    assert heard == ["once", "other", "other", "new"]


def test_coroutine_of_an_event_loop_subscribes() -> None:
    """With `aio.Domain` the subscriber may be a coroutine function, and runs on the loop."""

    async def run() -> list[float]:
        heard: list[float] = []

        async def hear(degrees: float) -> None:
            await asyncio.sleep(0)
            heard.append(degrees)

        async with aio.Domain("station", setup=SETUP, echo=False) as domain:
            thermometer: Any = await domain.create("signalling:Thermometer")
            changed = await thermometer.changed
            await changed.connect(hear)
            assert await thermometer.measure_in_thread(18.5) == 1
        return heard

    assert asyncio.run(run()) == [18.5]
