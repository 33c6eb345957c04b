"""A guest that calls its host: nested calls, threads of its own, and what stays with a thread."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import pytest

import cloister


def test_call_back_runs_on_the_thread_that_waits(domain: cloister.Domain) -> None:
    """A call-back is served by the thread that made the call, with its thread-locals."""
    local = threading.local()
    local.value = "mine"
    customers = domain.create("customers:Customers")
    assert customers.call(lambda: (local.value, threading.get_ident())) == ("mine", threading.get_ident())


def test_calls_nest_to_a_depth_of_fifty(domain: cloister.Domain) -> None:
    """Host and guest call one another to a depth of 50 and more, and each level gets its own answer."""

    def up(depth: int) -> int:
        return int(domain.call("callers:down", depth, up))

    assert domain.call("callers:down", 60, up) == 60


def test_call_back_may_use_proxies_of_the_domain_that_waits(domain: cloister.Domain) -> None:
    """A call-back calls the object that is calling it; nothing waits for anything."""
    customers = domain.create("customers:Customers")
    assert customers.call(lambda: customers.add("Ada") + customers.call(lambda: customers.add("Bob"))) == 3


def test_nested_call_runs_on_the_guest_thread_that_waits(domain: cloister.Domain) -> None:
    """What the host calls within a call-back sees the thread-locals of the guest's thread that waits for it."""
    assert domain.call("callers:local_value", lambda: domain.call("callers:set_local", 2)) == [1, 2]


def test_thread_of_the_guest_calls_the_host(domain: cloister.Domain) -> None:
    """A thread that the guest started itself calls the host back, while the thread that made the call waits."""
    assert domain.call("callers:from_thread", lambda number: number + 1, 41) == (42, "own")
    customers = domain.create("customers:Customers")
    result, _ = domain.call("callers:from_thread", lambda: customers.add("Ada"))
    assert result == 1
    with pytest.raises(IndexError):  # the exception ended the thread over there
        domain.call("callers:from_thread", lambda: 1 / 0)


def test_many_threads_of_the_guest_call_the_host_at_once(domain: cloister.Domain) -> None:
    """Each of the guest's own threads gets the answer to its own call."""
    assert domain.call("callers:from_threads", lambda number: number * 2, 6) == [0, 2, 4, 6, 8, 10]


def test_call_back_is_kept_and_called_later(domain: cloister.Domain) -> None:
    """A function that the guest keeps is called in a later call, on the thread that waits then."""
    calls: list[int] = []

    def note(number: int) -> int:
        calls.append(number)
        return number

    domain.call("lifetimes:keep", note)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(domain.call("lifetimes:use_kept", 5)))
    thread.start()
    thread.join(10)
    assert domain.call("lifetimes:use_kept", 6) == 6
    assert (calls, found) == ([5, 6], [5])
    domain.call("lifetimes:forget")


def test_two_domains_call_one_another_through_the_host(domain: cloister.Domain, setup: cloister.Setup) -> None:
    """An object of one domain is used by another one: each call passes the host, which shows it nothing else."""
    with cloister.Domain("second", setup=setup) as second:
        customers = domain.create("customers:Customers")
        assert second.call(lambda customers: [customers.add("Ada"), customers.list()], customers) == [1, ["Ada"]]
        assert customers.call(second.create("customers:Customers").add, "Bob") == 1
        assert customers.list() == ["Ada"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timers")
def test_signal_handler_calls_in_the_middle_of_a_call(domain: cloister.Domain) -> None:
    """A handler that interrupts a waiting call may call the same domain: it takes another lane."""
    seen: list[int] = []

    def handler(*_: object) -> None:
        seen.append(domain.call("operator:add", 40, 2))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        while len(seen) < 3:
            assert domain.call("time:sleep", 0.05) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(seen) == {42}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timers")
def test_call_in_the_middle_of_the_only_call_is_a_clear_error(setup: cloister.Setup) -> None:
    """Where a domain runs one call at a time, a handler that calls in the middle of it is told, and does not hang."""
    seen: list[BaseException] = []

    def handler(*_: object) -> None:
        try:
            domain.call("operator:add", 40, 2)
        except cloister.DeadlockDetected as error:
            seen.append(error)

    with cloister.Domain("single", setup=setup, max_concurrency=1) as domain:
        assert domain.call("operator:add", 1, 2) == 3
        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            while not seen:
                domain.call("time:sleep", 0.05)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert "'single' runs one call at a time" in str(seen[0])
        assert domain.call("operator:add", 1, 2) == 3
