"""A domain that stands still and goes on: no beat is owed, calls wait, time-outs hold, and its end is not held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cloister
from cloister import aio, events
from cloister.domain.domain import Domain
from cloister.errors import CallTimeout, DomainUnloaded
from cloister.report import Reason
from tests.domain.journal import Journal, is_running
from tests.patience import wait_until

Make = Callable[..., Domain]


def stands_still(pid: int) -> bool:
    """Whether a signal has stopped a process."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"


def test_suspended_domain_is_not_unresponsive(make: Make, journal: Journal) -> None:
    """S07: a domain that was suspended owes no beat: no `Unresponsive`, no kill; afterwards beats are owed again."""
    domain = make(watchdog=cloister.Watchdog(beat=0.05, misses=2, policy="kill"))
    domain.wait_ready()
    wait_until(lambda: domain._life.guard.vitals.beats >= 2)
    domain.suspend()
    domain.suspend()
    wait_until(lambda: stands_still(domain.pid))
    assert domain.status().suspended
    wait_until(lambda: domain.status().last_beat > 0.5)
    domain.resume()
    domain.resume()
    assert domain.eval("6 * 7") == 42
    assert not domain.status().suspended
    journal.wait_for(events.Resumed)
    assert journal.kinds() == ["Connected", "Ready", "Suspended", "Resumed"]
    beats = domain._life.guard.vitals.beats
    wait_until(lambda: domain._life.guard.vitals.beats > beats + 1)


def test_calls_wait_for_a_suspended_domain_and_time_out(make: Make) -> None:
    """Calls of a suspended domain wait until it goes on; those with a time-out end in time, and it serves the next."""
    domain = make(on={})
    customers = domain.create("customers:Customers")
    domain.suspend()
    future = domain.submit("os:getpid")
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.1).call("os:getpid")
    with cloister.timeout(0.1), pytest.raises(CallTimeout):
        customers.add("Ada")
    assert not future.done()
    domain.resume()
    assert future.result(10) == domain.pid
    assert domain.call("os:getpid") == domain.pid


def test_children_of_the_group_stand_still_too(make: Make) -> None:
    """What the guest has started in its group is suspended and goes on with it."""
    domain = make(on={})
    child = domain.call("troubles:start_child")
    domain.suspend()
    wait_until(lambda: stands_still(child))
    domain.resume()
    wait_until(lambda: not stands_still(child))


@pytest.mark.parametrize("end", ["unload", "kill"])
def test_suspended_domain_ends_as_any_other(make: Make, journal: Journal, end: str) -> None:
    """Unloading lets it go on, so that its handlers and exit hooks run; killing needs no such thing."""
    domain = make(stop_timeout=20)
    domain.call("partings:print_at_the_end")
    domain.suspend()
    begin = time.monotonic()
    getattr(domain, end)()
    assert time.monotonic() - begin < 10
    journal.wait_for(events.Exited)
    assert domain.report is not None
    assert domain.report.reason is (Reason.UNLOADED if end == "unload" else Reason.KILLED)
    assert journal.lines() == (["unloading subject", "exit subject"] if end == "unload" else [])
    assert not is_running(domain.pid)
    domain.resume()
    with pytest.raises(cloister.DomainError):
        domain.suspend()


def test_suspending_what_was_unloaded_raises(make: Make) -> None:
    """O05: suspend is a use after unload like any other."""
    domain = make(on={})
    domain.unload()
    with pytest.raises(DomainUnloaded):
        domain.suspend()


def test_event_loop_suspends_and_resumes() -> None:
    """The same for `aio.Domain`; the loop goes on meanwhile."""

    async def run() -> int:
        async with aio.Domain("loop", echo=False) as domain:
            await domain.suspend()
            call = domain.submit("os:getpid")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(call), 0.05)
            await domain.resume()
            return int(await call) - domain.pid

    assert asyncio.run(run()) == 0
