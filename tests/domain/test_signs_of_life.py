"""Signs of life of real guests: beats, work, silence, and what follows."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cloister.domain import diagnosis, events
from cloister.domain.domain import Domain
from cloister.domain.guard import Guard
from cloister.domain.setup import Watchdog
from cloister.errors import CallCancelled, CallTimeout, DomainCrashed
from cloister.report import Reason
from tests.domain.journal import Journal
from tests.patience import wait_until

Make = Callable[..., Domain]

QUICK = Watchdog(beat=0.1, misses=6)
"""Signs of life for tests: two thirds of a second of silence are noticed; a quarter occurs on a crowded machine."""


@contextmanager
def calling(domain: Domain, target: str, *args: object) -> Iterator[list[BaseException]]:
    """Make a call in a thread while the block runs; give the list that its exception comes into."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            domain.call(f"troubles:{target}", *args)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: any(target in name for name in domain.status().calls) or not thread.is_alive())
    yield raised
    thread.join(10)
    assert not thread.is_alive()


def beats(domain: Domain) -> int:
    """How many beats have come so far."""
    return domain._life.guard.vitals.beats


def test_beats_come_every_two_seconds_by_default(make: Make) -> None:
    """S06: without any setting the guest beats every 2 s, and with no code in the module."""
    assert Watchdog().beat == 2.0
    domain = make()
    domain.wait_ready(10)
    wait_until(lambda: beats(domain) == 1)
    took = wait_until(lambda: beats(domain) == 2)
    assert 1.8 < took < 3.0


def test_beats_come_while_python_code_computes(make: Make) -> None:
    """S06: a long loop of Python code, on the main thread, does not keep the beats away."""
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    with calling(domain, "compute", 1.0):
        before = beats(domain)
        wait_until(lambda: beats(domain) >= before + 5)
        assert domain.status().responsive


def test_work_is_told_from_life(make: Make) -> None:
    """S06: the calls that run are told by the threads that serve them; one that nobody takes up shows."""
    domain = make(watchdog=QUICK, max_concurrency=1)
    domain.wait_ready(10)
    with calling(domain, "sleep", 0.6):
        wait_until(lambda: domain.status().running == 1)
        assert domain.status().working
    wait_until(lambda: domain.status().running == 0)
    domain.call("troubles:hold_main_thread", 0.8)
    time.sleep(0.1)  # the handler begins 50 ms after the call
    with calling(domain, "pid"):
        wait_until(lambda: not domain.status().working)
        assert domain.status().responsive
    wait_until(lambda: domain.status().working)


def test_idle_domain_is_never_called_unresponsive(make: Make, journal: Journal) -> None:
    """S07: an idle domain owes beats and nothing else; many periods go by without an event."""
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    wait_until(lambda: beats(domain) >= 12)
    assert journal.kinds() == ["Connected", "Ready"]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no page to leave a beat in")
def test_beats_of_an_idle_domain_wake_nobody(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """S06: a guest with nothing else to tell leaves its beats in the page; that a call runs, or has ended, is told."""
    told: list[list[tuple[int, int]]] = []
    take = Guard.beat

    def beat(self: Guard, number: int, cpu_seconds: float, running: list[tuple[int, int]]) -> None:
        told.append(running)
        take(self, number, cpu_seconds, running)

    monkeypatch.setattr(Guard, "beat", beat)
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    wait_until(lambda: beats(domain) >= 6)
    assert told == [[]]
    assert time.monotonic() - domain._life.guard.vitals.last_beat < 6 * 0.1
    with calling(domain, "sleep", 0.3):
        wait_until(lambda: domain.status().running == 1)
    wait_until(lambda: domain.status().running == 0)
    before = len(told)
    seen = beats(domain)
    wait_until(lambda: beats(domain) >= seen + 3)
    assert len(told) == before


def test_a_beat_that_comes_while_the_status_is_taken_is_no_news_of_the_future(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`last_beat` is at least 0, also where the beat came after the status had looked at the clock."""
    domain = make()
    domain.wait_ready(10)
    vitals = domain._life.guard.vitals

    def memory(pid: int) -> int:
        vitals.began(time.monotonic() + 1)
        return pid

    monkeypatch.setattr(diagnosis, "memory", memory)
    assert domain.status().last_beat == 0


@pytest.mark.skipif(sys.platform != "linux", reason="there is no page to leave a beat in")
@pytest.mark.parametrize("rubbish", [0, 1, 2**63, 2**64 - 1])
def test_rubbish_in_the_page_is_no_news(make: Make, rubbish: int) -> None:
    """What a guest leaves in the page is a number, a time and a time; whatever they are, its host goes on."""
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    page = domain._life.speaker.page
    assert page is not None
    page._beat[1] = page._beat[2] = page._beat[0] = rubbish
    wait_until(lambda: beats(domain) >= 3 or domain._life.guard._heard == rubbish)
    status = domain.status()
    assert 0 <= status.last_beat < 60
    assert status.responsive
    assert domain.call("troubles:add", 1, 1) == 2


def test_stopped_domain_is_unresponsive_and_responsive_again(make: Make, journal: Journal) -> None:
    """S07: SIGSTOP is told after the misses, as `stopped`; SIGCONT is told too, and the domain goes on."""
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    begin = time.monotonic()
    os.kill(domain.pid, signal.SIGSTOP)
    event = journal.wait_for(events.Unresponsive)
    assert time.monotonic() - begin >= 5 * 0.1
    assert event.why == "stopped"
    assert event.missed >= 6
    assert event.stacks == ""
    assert not domain.status().responsive
    os.kill(domain.pid, signal.SIGCONT)
    assert journal.wait_for(events.Responsive).silent_seconds >= 0.6
    assert domain.status().responsive
    assert domain.call("troubles:add", 1, 1) == 2
    assert journal.kinds() == ["Connected", "Ready", "Unresponsive", "Responsive"]


def test_kill_policy_ends_a_stopped_domain_and_leaves_the_host_well(make: Make, journal: Journal) -> None:
    """S07: with the policy `kill` a stopped domain ends as `watchdog`; its caller is told, a sibling is served."""
    sibling = make("sibling", on={})
    domain = make(watchdog=Watchdog(beat=0.1, misses=6, policy="kill"))
    domain.wait_ready(10)
    with calling(domain, "stop_oneself") as raised:
        report = journal.wait_for(events.Exited).report
    assert (report.reason, report.signal) == (Reason.WATCHDOG, signal.SIGKILL)
    assert isinstance(raised[0], DomainCrashed)
    assert raised[0].report is report
    assert sibling.call("troubles:add", 1, 2) == 3


def test_runaway_native_code_is_busy_and_its_stacks_are_told(make: Make, journal: Journal) -> None:
    """S07: a regular expression that holds the interpreter lock sends no beat; the event says busy, with the stack."""
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    with calling(domain, "runaway"):
        event = journal.wait_for(events.Unresponsive)
        assert event.why == "busy"
        assert event.cpu_seconds > 0
        assert "in runaway" in event.stacks
        domain.kill()


def test_silent_native_code_is_told_from_busy_code(make: Make, journal: Journal) -> None:
    """S07: native code that waits and holds the interpreter lock uses no CPU: the event says silent."""
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    with calling(domain, "hold_the_lock_idly"):
        event = journal.wait_for(events.Unresponsive)
        assert event.why == "silent"
        assert "in hold_the_lock_idly" in event.stacks
        domain.kill()


def test_interrupt_policy_gives_the_domain_back(make: Make, journal: Journal) -> None:
    """S07: with the policy `interrupt` a runaway regular expression is stopped, and the domain serves the next call."""
    domain = make(watchdog=Watchdog(beat=0.1, misses=6, policy="interrupt"))
    domain.wait_ready(10)
    with calling(domain, "runaway") as raised:
        journal.wait_for(events.Responsive)
    assert isinstance(raised[0], CallCancelled | CallTimeout)
    assert domain.call("troubles:add", 1, 1) == 2


def test_second_silence_has_stacks_again(make: Make, journal: Journal) -> None:
    """S07: stacks are told for each silence anew, not only for the first one."""
    domain = make(watchdog=Watchdog(beat=0.1, misses=6, policy="interrupt"), max_concurrency=1)
    for count in (1, 2):
        with calling(domain, "runaway"):
            event = journal.wait_for(events.Unresponsive, count=count)
            journal.wait_for(events.Responsive, count=count)
        assert event.stacks.count("in runaway") == 1


def test_domain_under_a_debugger_is_not_called_hung(make: Make, journal: Journal) -> None:
    """S07: a guest that a debugger holds is silent and is not called unresponsive."""
    domain = make(watchdog=QUICK)
    domain.wait_ready(10)
    wait_until(lambda: beats(domain) >= 1)
    libc = ctypes.CDLL(None, use_errno=True)
    attach, detach = 16, 17
    if libc.ptrace(attach, domain.pid, None, None):
        pytest.skip("this user may not trace")
    try:
        os.waitpid(domain.pid, os.WUNTRACED)
        time.sleep(1.0)  # longer than a silence that would be told
    finally:
        libc.ptrace(detach, domain.pid, None, None)
    before = beats(domain)
    wait_until(lambda: beats(domain) > before)
    assert journal.kinds() == ["Connected", "Ready"]


def test_watchdog_refuses_what_it_can_not_do() -> None:
    """A beat of nothing, no misses and an unknown policy are errors at once."""
    with pytest.raises(ValueError, match="beat"):
        Watchdog(beat=0)
    with pytest.raises(ValueError, match="misses"):
        Watchdog(misses=0)
    with pytest.raises(ValueError, match="policy"):
        Watchdog(policy="pray")  # type: ignore[arg-type]  # that is the point
