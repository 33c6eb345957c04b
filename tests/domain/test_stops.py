"""Calls that are given up, in a domain that is killed where they do not stop: on every lane, and what callers see."""

from __future__ import annotations

import concurrent.futures
import contextlib
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister import events
from cloister.errors import CallTimeout, DomainCrashed, DomainUnloaded
from cloister.report import Reason
from tests.domain.journal import Journal
from tests.patience import wait_until

JOIN_S = 20.0
Make = Callable[..., cloister.Domain]


def ready(domain: cloister.Domain) -> cloister.Domain:
    """Wait until the domain serves calls, and has what they need: an import may be interrupted too."""
    domain.call("troubles:pid")
    domain.call("errands:thread_name")
    return domain


def killed(error: CallTimeout, domain: cloister.Domain) -> None:
    """Check that an error tells of a call that did not stop, and that the domain ended for it."""
    assert "did not stop within" in str(error)
    assert "was killed" in str(error)
    assert domain._life.wait_ended(JOIN_S)
    assert error.report is not None
    assert error.report is domain.report
    assert error.report.reason is Reason.CANCELLED
    assert error.report.signal == signal.SIGKILL
    with pytest.raises(DomainCrashed, match="cancelled"):
        domain.call("troubles:pid")


def went_on(error: CallTimeout, domain: cloister.Domain) -> None:
    """Check that an error tells of a call that stopped, and that the domain serves the next one."""
    assert "stop and did, the domain goes on" in str(error)
    assert error.report is None
    assert domain.with_options(timeout=JOIN_S).call("troubles:add", 1, 1) == 2


@pytest.mark.parametrize("limit", [None, 1, 2])
def test_call_that_stops_leaves_the_domain(make: Make, limit: int | None) -> None:
    """A call whose time is up and that stops when it is told to costs the call only, and the error says so."""
    domain = ready(make(max_concurrency=limit))
    impatient = domain.with_options(timeout=0.1, kill_after=JOIN_S)
    with pytest.raises(CallTimeout) as raised:
        impatient.call("troubles:sleep", 60)
    went_on(raised.value, domain)
    with pytest.raises(CallTimeout) as raised:
        impatient.submit("troubles:sleep", 0.3).result(JOIN_S)
    went_on(raised.value, domain)


@pytest.mark.parametrize("limit", [None, 1])
def test_native_code_that_holds_the_interpreter_lock_is_killed(make: Make, limit: int | None) -> None:
    """Code that neither a message nor a signal stops is killed with its domain, and the report gives the reason."""
    domain = ready(make(max_concurrency=limit))
    with pytest.raises(CallTimeout) as raised:
        domain.with_options(timeout=0.5, kill_after=0.1).call("troubles:hold_the_lock")
    killed(raised.value, domain)
    assert raised.value.report is not None
    assert raised.value.report.detail == "troubles:hold_the_lock() was given up, and did not stop within 0.1 s"


def test_call_on_another_thread_than_the_main_one_is_watched_too(make: Make) -> None:
    """What a thread of its own serves is killed where it swallows the interruption, and goes on where it does not."""
    domain = ready(make())
    domain.call("troubles:pid")
    seen: list[CallTimeout] = []

    def work(name: tuple[Any, ...]) -> None:
        with pytest.raises(CallTimeout) as raised:
            domain.with_options(timeout=0.5, kill_after=1).call(*name)
        seen.append(raised.value)

    for name in (("troubles:compute", 60), ("troubles:hold_the_lock",)):
        thread = threading.Thread(target=work, args=(name,))
        thread.start()
        thread.join(JOIN_S)
    assert seen[0].report is None
    killed(seen[1], domain)


def test_submitted_call_is_killed_and_its_neighbours_get_the_report(make: Make) -> None:
    """A submitted call that does not stop ends the domain: it fails as a time-out, the others with the same report."""
    domain = ready(make())
    other = domain.submit("troubles:sleep", 60)
    late = domain.with_options(timeout=0.5, kill_after=0.1).submit("troubles:hold_the_lock")
    with pytest.raises(CallTimeout) as raised:
        late.result(JOIN_S)
    killed(raised.value, domain)
    with pytest.raises(DomainCrashed) as crashed:
        other.result(JOIN_S)
    assert crashed.value.report is domain.report


def test_cancelled_future_ends_the_domain_where_its_call_goes_on(make: Make, journal: Journal) -> None:
    """`cancel()` is over at once; the domain is killed for it later, if the call does not stop."""
    domain = ready(make())
    stops = domain.with_options(kill_after=JOIN_S).submit("troubles:compute", 60)
    while not domain._life.peer.calls():
        pass
    assert stops.cancel()
    assert domain.submit("troubles:add", 1, 1).result(JOIN_S) == 2
    begun = threading.Event()
    hangs = domain.with_options(kill_after=0.1).submit("troubles:tell_and_hold_the_lock", begun.set)
    assert begun.wait(JOIN_S)
    assert hangs.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        hangs.result()
    assert journal.wait_for(events.Exited).report.reason is Reason.CANCELLED


def test_nested_call_that_stops_leaves_the_call_around_it(make: Make) -> None:
    """A nested call that stops in time costs the call around it nothing."""
    domain = ready(make())

    def inner() -> str:
        with pytest.raises(CallTimeout) as raised:
            domain.with_options(timeout=0.1, kill_after=JOIN_S).call("troubles:sleep", 60)
        went_on(raised.value, domain)
        return "went on"

    assert domain.call("troubles:call_back", inner) == "went on"


def test_nested_call_that_hangs_ends_the_call_around_it(make: Make) -> None:
    """A nested call that does not stop is a CallTimeout with the report; the call around it has lost its domain."""
    domain = ready(make())
    seen: list[CallTimeout] = []

    def inner() -> None:
        with pytest.raises(CallTimeout) as raised:
            domain.with_options(timeout=0.5, kill_after=0.1).call("troubles:hold_the_lock")
        seen.append(raised.value)

    with pytest.raises(DomainCrashed) as crashed:
        domain.call("troubles:call_back", inner)
    killed(seen[0], domain)
    assert crashed.value.report is domain.report


def test_keyboard_interrupt_of_a_call_that_hangs(make: Make) -> None:
    """A KeyboardInterrupt goes on upwards at once; where the call does not stop, the domain is killed behind it."""
    domain = ready(make())
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        domain.with_options(kill_after=0.1).call("troubles:hold_the_lock")
    timer.join(JOIN_S)
    assert domain._life.wait_ended(JOIN_S)
    assert domain.report is not None
    assert domain.report.reason is Reason.CANCELLED


def test_end_of_the_domain_while_the_caller_waits_is_told(make: Make) -> None:
    """Where the domain ends by itself, or is unloaded, before it is known, the error carries that end."""
    domain = ready(make())
    timer = threading.Timer(1.0, domain.kill)
    timer.start()
    with pytest.raises(CallTimeout, match="ended before it had stopped: killed") as raised:
        domain.with_options(timeout=0.5, kill_after=JOIN_S).call("troubles:hold_the_lock")
    timer.join(JOIN_S)
    assert raised.value.report is domain.report is not None
    with pytest.raises(CallTimeout) as copied:
        raise pickle.loads(pickle.dumps(raised.value))
    assert copied.value.report == domain.report


def test_options_of_calls_are_checked(make: Make) -> None:
    """What is no number of seconds is refused where it is given, with a message that says what it is."""
    domain = ready(make())
    for wrong in ("1", True, [1]):
        for option in ("timeout", "kill_after"):
            with pytest.raises(TypeError, match="a number of seconds"):
                domain.with_options(**{option: wrong})  # type: ignore[arg-type]  # that is the test
        with pytest.raises(TypeError, match="a number of seconds"), cloister.timeout(wrong):  # type: ignore[arg-type]  # that is the test
            pass
    for option in ("timeout", "kill_after"):
        with pytest.raises(ValueError, match="from 0 up"):
            domain.with_options(**{option: -1})  # type: ignore[arg-type]  # not each option is a number
    view = domain.with_options(timeout=0.1).with_options(kill_after=JOIN_S)
    with pytest.raises(CallTimeout, match="and did"):
        view.call("troubles:sleep", 60)
    assert view.with_options(timeout=None).call("troubles:add", 1, 1) == 2
    with pytest.raises(CallTimeout, match="and did"), cloister.timeout(0.1, kill_after=JOIN_S):
        domain.call("troubles:sleep", 60)


def test_domain_that_has_ended_needs_no_watching(make: Make) -> None:
    """A call that is given up when its domain has just ended is told the end."""
    domain = ready(make())
    domain.unload()
    told: list[object] = []
    stop = domain._life.stops.watch(0, 1, 60, "late", told.append)
    assert told == [stop]
    assert stop.report is domain.report
    with pytest.raises(DomainUnloaded):
        domain.call("troubles:pid")


def test_running_call_of_a_limited_domain_can_be_cancelled(make: Make) -> None:
    """Where lanes are limited `cancel()` stops a call that runs, and one that waits for its place is never sent."""
    domain = ready(make(max_concurrency=1))
    running = domain.submit("troubles:compute", 60)
    waiting = domain.submit("errands:keep", "never")
    wait_until(lambda: domain._life.peer.calls())
    assert waiting.cancel()
    assert running.cancel()
    assert running.cancelled()
    assert running.cancel()
    assert concurrent.futures.wait([running, waiting], timeout=JOIN_S).not_done == set()
    assert domain.with_options(timeout=JOIN_S).call("errands:kept") == []
    done = domain.submit("troubles:add", 1, 1)
    assert done.result(JOIN_S) == 2
    assert not done.cancel()
    begun = threading.Event()
    hangs = domain.with_options(kill_after=0.1).submit("troubles:tell_and_hold_the_lock", begun.set)
    assert begun.wait(JOIN_S)
    assert hangs.cancel()
    assert domain._life.wait_ended(JOIN_S)
    assert domain.report is not None
    assert domain.report.reason is Reason.CANCELLED


def test_cancels_that_race_with_the_end_of_their_calls_stop_no_other(make: Make) -> None:
    """Cancels at random moments of calls on one limited lane: whatever is not cancelled gets its own result."""
    domain = ready(make(max_concurrency=1))
    cancelled = 0
    for number in range(300):
        future = domain.submit("troubles:add", number, 1)
        for _ in range(number % 30):
            time.sleep(0)
        cancelled += future.cancel()
        assert domain.submit("troubles:add", number, 2).result(JOIN_S) == number + 2
    assert cancelled


@pytest.mark.parametrize("submitted", [False, True])
def test_coroutine_is_cancelled_and_one_that_swallows_that_is_killed(make: Make, submitted: bool) -> None:
    """A coroutine over there is cancelled as a task is; where it goes on all the same, its domain is killed."""
    domain = ready(make())

    def run(name: str, kill_after: float) -> object:
        view = domain.with_options(timeout=0.5, kill_after=kill_after)
        return view.submit(name, 60).result(JOIN_S) if submitted else view.call(name, 60)

    with pytest.raises(CallTimeout) as raised:
        run("troubles:nap", JOIN_S)
    went_on(raised.value, domain)
    with pytest.raises(CallTimeout) as raised:
        run("troubles:nap_stubbornly", 0.3)
    killed(raised.value, domain)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_coroutine_that_swallows_its_cancel_is_killed(make: Make, nested: bool) -> None:
    """Its thread waits for it only for a while, and then serves the next call; it counts as running until it ends."""
    domain = ready(make())
    domain.exec("import cloister.guest.coroutines as coroutines; coroutines.PATIENCE_S = 0.05")
    domain.call("coroutines:echo", 1)
    errors: list[CallTimeout] = []

    def swallowed(seconds: float, grace: float) -> None:
        with pytest.raises(CallTimeout) as raised:
            domain.with_options(timeout=0.1, kill_after=grace).call("coroutines:stubborn", seconds)
        errors.append(raised.value)

    def call(*args: float) -> None:
        if nested:
            domain.call("errands:call", lambda: swallowed(*args))
        else:
            swallowed(*args)

    call(0.4, JOIN_S)
    went_on(errors[0], domain)
    assert domain.call("coroutines:other_tasks") == 0
    with contextlib.suppress(DomainCrashed):
        call(60, 0.5)
    killed(errors[1], domain)
