"""Events at every level: the last moments of a domain, unloading from inside, exceptions that nobody handles."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister import events
from cloister.domain.domain import Domain
from cloister.errors import DomainUnloaded, MarshalError
from cloister.report import Reason
from tests.domain.journal import Journal
from tests.patience import wait_until

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
def test_exceptions_that_nobody_handles_are_told(
    make: Make, level: str, call: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S47, S09: what a thread or a task of the domain raises is told once, and the domain and its host go on."""
    hooked: list[object] = []
    monkeypatch.setattr(threading, "excepthook", hooked.append)
    seen, others = Journal(), Journal()
    domain, other = make(on=seen.all), make("other", on=others.all)
    other.wait_ready()
    domain.call(f"happenings:{call}", "nobody waits")
    domain.call("gc:collect")
    told = seen.wait_for(events.UnhandledException, 30)
    assert (told.domain, told.where, str(told.error)) == ("subject", where, "nobody waits")
    assert domain.eval("1") == 1
    domain.unload()
    other.unload()
    assert len(seen.of(events.UnhandledException)) == 1
    assert others.of(events.UnhandledException) == []
    assert len(hooked) == (1 if level == "thread" and call == "fail_in_thread" else 0)


def test_a_domain_hears_of_its_own_exceptions(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """S47: code in a domain is told of what nobody handles there, beside its creator; another domain is not."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    seen = Journal()
    domain, other = make(on=seen.all), make("other")
    for each in (domain, other):
        each.call("happenings:note_unhandled")
    domain.call("happenings:fail_in_thread", "here")
    assert domain.call("happenings:unhandled", 1) == [("subject", "thread lost")]
    assert other.call("happenings:unhandled", 0) == []
    assert seen.wait_for(events.UnhandledException, 30).where == "thread lost"


def test_every_exception_is_told_where_it_was_asked_for(make: Make) -> None:
    """S47: opted in, caught exceptions are told too, each once, of this domain alone."""
    if sys.version_info < (3, 12):
        pytest.skip("needs Python 3.12")
    seen = Journal()
    domain = make(on={events.ExceptionRaised: seen.write, events.Exited: seen.write})
    for number in range(3):
        domain.call("happenings:catch", f"caught {number}")
    domain.unload()
    seen.wait_for(events.Exited, 30)
    told = [event for event in seen.of(events.ExceptionRaised) if "caught" in event.message]
    assert [(event.kind, event.message, event.function) for event in told] == [
        ("builtins.KeyError", f"'caught {number}'", "catch.<locals>.deep") for number in range(3)
    ]


def test_loaded_modules_are_told_where_it_was_asked_for(make: Make) -> None:
    """S47: opted in at its making or later, a domain tells of each module that its code loads, once."""
    seen, late = Journal(), Journal()
    domain = make(on={events.ModuleLoaded: seen.write, events.Exited: seen.write})
    domain.load("numbers_apart")
    domain.load("numbers_apart")
    wait_until(lambda: seen.of(events.ModuleLoaded), 30)  # else it is told to who comes now, too
    domain.on(events.ModuleLoaded, late.write)
    domain.call("happenings:in_thread", "partings")
    domain.unload()
    seen.wait_for(events.Exited, 30)
    told = [event for event in seen.of(events.ModuleLoaded) if "modules" in event.file]
    assert [event.module for event in told] == ["numbers_apart", "happenings", "partings"]
    assert told[0].file.endswith("numbers_apart.py")
    assert [event.module for event in late.of(events.ModuleLoaded)][-1] == "partings"
    assert "numbers_apart" not in [event.module for event in late.of(events.ModuleLoaded)]


def test_each_domain_is_told_of_its_own(make: Make, level: str) -> None:
    """S47: where domains share an interpreter, exceptions and modules are told to that one whose code it was, and to
    the code there; the host goes on as it was when they have ended."""
    kinds = [events.ModuleLoaded, *([events.ExceptionRaised] if sys.version_info >= (3, 12) else [])]
    finders = list(sys.meta_path)
    tools = [_tool(number) for number in range(6)]
    journals = {name: Journal() for name in ("first", "second")}
    domains = {name: make(name, on=dict.fromkeys(kinds, journals[name].write)) for name in journals}
    for name, domain in domains.items():
        domain.call("happenings:watch_itself", [kind.__name__ for kind in kinds])
        domain.call("happenings:catch_in_thread", f"caught by {name}")
    domains["first"].load("numbers_apart")
    domains["second"].load("lifetimes")
    exec("try:\n    raise KeyError('caught by the host')\nexcept KeyError:\n    pass", {})
    importlib.import_module("leased")
    inside = {name: domain.call("happenings:watched", len(kinds)) for name, domain in domains.items()}
    for domain in domains.values():
        domain.unload()
    for name, journal in journals.items():
        loaded = [event.module for event in journal.of(events.ModuleLoaded) if "modules" in event.file]
        own = "numbers_apart" if name == "first" else "lifetimes"
        assert own in loaded
        assert not {"numbers_apart", "lifetimes", "leased"}.difference([own]).intersection(loaded)
        raised = [event.message for event in journal.of(events.ExceptionRaised) if "caught by" in event.message]
        assert raised == ([f"'caught by {name}'"] if len(kinds) == 2 else [])
        assert inside[name] == {own, *raised}
    assert sys.meta_path == finders
    assert [_tool(number) for number in range(6)] == tools


def _tool(number: int) -> Any:
    """Who uses a tool of `sys.monitoring`."""
    monitoring: Any = getattr(sys, "monitoring", None)  # there from 3.12 on
    return monitoring and monitoring.get_tool(number)


def test_a_lease_runs_out(make: Make) -> None:
    """O13: at every level a leased object that is still held is let go when its time is up; others live."""
    domain = make()
    held, short = domain.create("leased:Held"), domain.create("leased:Short")
    kept = domain.call("leased:sponsored", lambda: 60)
    wait_until(lambda: domain.call("leased:alive") == 2, 30)
    with pytest.raises(MarshalError, match="its lease ran out"):
        short.name()
    assert (held.name(), kept.name()) == ("held", "held")


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
