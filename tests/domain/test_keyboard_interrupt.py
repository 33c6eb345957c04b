"""KeyboardInterrupt in every state of a call: it goes on upwards, costs that call only, and the domain goes on."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import cloister
from cloister import calling, waits

JOIN_S = 20.0
OWN = calling.logical_thread()
Make = Callable[..., cloister.Domain]


@contextlib.contextmanager
def interrupted_when(reached: Callable[[], object]) -> Iterator[None]:
    """Send SIGINT to the main thread when a state is reached; expect the KeyboardInterrupt from what runs inside.

    Where that has ended before, no interrupt is sent: it would end the run.
    """
    main = threading.main_thread().ident
    assert main is not None
    over = threading.Event()

    def send() -> None:
        deadline = time.monotonic() + JOIN_S
        while not reached() and not over.is_set() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not over.is_set():
            signal.pthread_kill(main, signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        over.set()
        sender.join(JOIN_S)


def in_calls(domain: cloister.Domain, *names: str) -> Callable[[], bool]:
    """A function that says whether this program waits for exactly these calls."""
    return lambda: domain._life.peer.calls() == names


def goes_on(domain: cloister.Domain) -> None:
    """Check that the domain serves calls of every kind."""
    assert domain.with_options(timeout=JOIN_S).call("operator:add", 1, 1) == 2
    assert domain.submit("operator:add", 1, 1).result(JOIN_S) == 2


@pytest.mark.parametrize("limit", [None, 1])
def test_while_a_call_waits(make: Make, limit: int | None) -> None:
    """While the guest computes, while it calls back, and while a nested call of the call-back waits."""
    domain = make(max_concurrency=limit)
    domain.call("troubles:pid")
    begun = threading.Event()
    with interrupted_when(in_calls(domain, "troubles:compute")):
        domain.call("troubles:compute", 60)
    goes_on(domain)

    def wait() -> None:
        begun.set()
        time.sleep(60)

    with interrupted_when(begun.is_set):
        domain.call("troubles:call_back", wait)
    goes_on(domain)
    with interrupted_when(in_calls(domain, "troubles:call_back", "troubles:compute")):
        domain.call("troubles:call_back", lambda: domain.call("troubles:compute", 60))
    goes_on(domain)


def test_while_it_waits_for_the_domain(make: Make) -> None:
    """Before the domain is ready, and while another thread has the only place."""
    starting = make("starting", setup=cloister.Setup(initializer="time:sleep", initargs=[1.0]))
    with interrupted_when(lambda: starting._life.python):
        starting.call("operator:add", 1, 1)
    goes_on(starting)
    narrow = make("narrow", max_concurrency=1)
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        release.wait(JOIN_S)

    holder = threading.Thread(target=lambda: _call_back(narrow, hold))
    holder.start()
    assert inside.wait(JOIN_S)
    with interrupted_when(main_thread_waits):
        narrow.call("operator:add", 1, 1)
    with interrupted_when(main_thread_waits):
        narrow.submit("operator:add", 1, 1).result()
    release.set()
    holder.join(JOIN_S)
    goes_on(narrow)


def main_thread_waits() -> bool:
    """Whether this thread is known to wait for something exclusive."""
    return any(strand == OWN for strand, _ in list(waits._graph.waiting()))


def _call_back(domain: cloister.Domain, function: Callable[[], None]) -> None:
    domain.call("errands:call", function)


def test_while_a_large_argument_is_on_its_way(make: Make) -> None:
    """In the middle of a message to a guest that does not read: the lane is lost, and nothing else."""
    domain = make()
    domain.wait_ready(JOIN_S)
    sent = threading.Event()
    with interrupted_when(sent.is_set):
        while True:
            sent.set()
            domain.call("builtins:len", b"x" * 50_000_000)
    goes_on(domain)


def test_while_it_waits_whether_a_call_stops(make: Make) -> None:
    """After the time-out of a call with `kill_after`: the caller goes, the domain is killed all the same."""
    domain = make()
    domain.call("troubles:pid")
    with interrupted_when(lambda: domain._life.stops._open):
        domain.with_options(timeout=0.3, kill_after=4).call("troubles:hold_the_lock")
    assert domain._life.wait_ended(JOIN_S)
    assert domain.report is not None
    assert domain.report.reason is cloister.Reason.CANCELLED


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 1])
def test_at_any_moment_of_many_calls(make: Make, limit: int | None) -> None:
    """At random moments of ordinary calls: no place is lost, and no answer reaches another call."""
    domain = make(max_concurrency=limit)
    domain.wait_ready(JOIN_S)
    chance = random.Random(1)
    main = threading.main_thread().ident
    assert main is not None
    for number in range(60):
        # From a thread: a timer of the system would also hit what is not a call.
        timer = threading.Timer(chance.random() * 0.004, signal.pthread_kill, (main, signal.SIGINT))
        try:
            timer.start()
            while timer.is_alive():
                assert domain.call("errands:echo", number) == number
            time.sleep(0.001)
        except KeyboardInterrupt:
            pass
        timer.join(JOIN_S)
    goes_on(domain)
