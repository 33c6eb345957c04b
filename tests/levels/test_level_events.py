"""Events at every level: the last moments of a domain, unloading from inside, exceptions that nobody handles."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import cloister
from cloister import events
from cloister.domain.domain import Domain
from cloister.errors import DomainUnloaded
from cloister.report import Reason
from tests.domain.journal import Journal

Make = Callable[..., Domain]


def test_last_moments_meet_a_working_domain(make: Make) -> None:
    """O06: handlers of `Unloading`, here and in the domain, call each other; the domain ends after them."""
    told: list[object] = []
    domain = make()
    domain.on(events.Unloading, lambda event: told.append(domain.call("partings:answer")))

    def tell(words: str) -> str:
        told.append(words)
        told.append(domain.call("partings:answer"))
        return "thanks"

    domain.call("partings:tell_before_the_end", tell)
    domain.unload()
    assert told == ["still here", "subject: a new thread", "still here"]
    assert domain.report is not None
    assert domain.report.reason is Reason.UNLOADED


@pytest.mark.parametrize("how", ["unload", "unload_in_a_coroutine"])
def test_a_domain_unloads_itself(make: Make, how: str) -> None:
    """O05: unload from inside works; the call that did it gets DomainUnloaded."""
    seen = Journal()
    domain = make(on=seen.all)
    with pytest.raises(DomainUnloaded):
        domain.call(f"partings:{how}")
    assert seen.wait_for(events.Exited).report.reason is Reason.UNLOADED
    assert seen.kinds()[-2:] == ["Unloading", "Exited"]


@pytest.mark.parametrize(("call", "where"), [("fail_in_thread", "thread lost"), ("fail_in_task", "task")])
def test_exceptions_that_nobody_handles_are_told(make: Make, level: str, call: str, where: str) -> None:
    """S47, S09: what a thread or a task of the domain raises is told once, and the domain and its host go on."""
    if level == "thread":
        pytest.skip("threads and tasks are the interpreter's, which the level thread shares with its host")
    seen = Journal()
    domain = make(on=seen.all)
    domain.call(f"happenings:{call}", "nobody waits")
    domain.call("gc:collect")
    told = seen.wait_for(events.UnhandledException)
    assert (told.domain, told.where, str(told.error)) == ("subject", where, "nobody waits")
    assert domain.eval("1") == 1
    domain.unload()
    assert len(seen.of(events.UnhandledException)) == 1


def test_events_are_iterated_over(make: Make) -> None:
    """S47: a stream has each event once, in the stated order, and ends with the domain."""
    domain = make()
    stream = domain.events(events.Unloading, events.Exited)
    domain.wait_ready()
    domain.unload()
    assert [type(event).__name__ for event in stream] == ["Unloading", "Exited"]


def test_signals_reach_their_subscribers(make: Make) -> None:
    """A host subscribes to an object of a domain; with the domain the subscription of its objects is gone."""
    domain = make()
    thermometer = domain.create("signalling:Thermometer")
    heard: list[float] = []
    thermometer.changed.connect(heard.append)
    assert thermometer.measure_in_thread(20.5) == 1
    signal = cloister.Signal()
    signal.connect(thermometer.hear)
    assert signal.emit(1.5) == 1
    assert thermometer.heard == [1.5]
    domain.unload()
    assert signal.emit(2.5) == 0
    assert heard == [20.5]
    assert threading.current_thread() is threading.main_thread()
