"""How a domain is stopped: asked, waited for, dumped, killed as a tree, and every step bounded in time."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from cloister.domain import events
from cloister.domain.domain import Domain
from cloister.domain.state import State
from cloister.errors import DomainCrashed, DomainUnloaded
from cloister.levels import template
from cloister.report import Reason
from tests.domain.journal import MODULES, Journal, is_running
from tests.patience import wait_until

Make = Callable[..., Domain]


def watcher_is_there() -> bool:
    """Whether the thread that watches the domains runs."""
    return any(thread.name == "cloister-watcher" for thread in threading.enumerate())


def test_exit_hook_runs_on_an_orderly_stop_and_knows_its_domain(make: Make, journal: Journal) -> None:
    """S10: the hook runs in the guest before it ends, and traces the domain's name."""
    domain = make("billing")
    domain.call("troubles:print_at_exit")
    domain.unload()
    assert journal.lines() == ["exit hook of billing"]
    assert domain.report is not None
    assert (domain.report.reason, domain.report.exit_code, domain.report.detail) == (Reason.UNLOADED, 0, "")


def test_exit_hook_does_not_run_after_a_kill(make: Make, journal: Journal) -> None:
    """S10: after SIGKILL no hook runs."""
    domain = make()
    domain.call("troubles:print_at_exit")
    domain.kill()
    journal.wait_for(events.Exited)
    assert journal.lines() == []
    assert domain.report is not None
    assert (domain.report.reason, domain.report.signal) == (Reason.KILLED, signal.SIGKILL)


def test_watcher_ends_with_the_last_domain(make: Make) -> None:
    """S01, S04: the thread that hears the guests is a daemon with a telling name, and is gone 100 ms after the end."""
    domain = make()
    domain.wait_ready(10)
    thread = next(thread for thread in threading.enumerate() if thread.name == "cloister-watcher")
    assert thread.daemon
    domain.unload()
    thread.join(0.1)
    assert not thread.is_alive()


def test_channel_that_fails_ends_the_loop_without_an_exception(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """S04: when the guest is gone the host's loop for it ends; no exception escapes and nothing is logged."""
    domain = make()
    domain.wait_ready(10)
    os.kill(domain.pid, signal.SIGKILL)
    wait_until(lambda: domain.state is State.ENDED)
    assert wait_until(lambda: not watcher_is_there()) < 0.1
    assert caplog.records == []


def test_stop_with_a_running_call_ends_the_call(make: Make) -> None:
    """A call that runs while its domain is unloaded raises DomainUnloaded, and the unloading does not wait for it."""
    domain = make()
    domain.wait_ready(10)
    raised: list[BaseException] = []

    def call() -> None:
        try:
            domain.call("troubles:sleep", 30)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: domain.status().calls)
    begin = time.monotonic()
    domain.unload()
    thread.join(10)
    assert time.monotonic() - begin < 15
    assert [type(error) for error in raised] == [DomainUnloaded]


def test_second_unload_raises_and_kill_is_idempotent(make: Make) -> None:
    """Unloading twice is an error that says so; killing what has ended is none; calls raise at once."""
    domain = make()
    domain.unload()
    with pytest.raises(DomainUnloaded, match="unloaded before"):
        domain.unload()
    domain.kill()
    with pytest.raises(DomainUnloaded):
        domain.call("troubles:pid")
    assert domain.report is not None
    assert domain.report.reason is Reason.UNLOADED


def test_unload_before_ready_is_quick_and_silent(make: Make, journal: Journal) -> None:
    """A domain that is unloaded at once, before its guest has said a word, is gone without noise."""
    domain = make()
    domain.unload()
    assert journal.wait_for(events.Exited).report.reason is Reason.UNLOADED
    assert journal.kinds()[-1] == "Exited"
    assert journal.lines("stderr") == []


@pytest.mark.parametrize("moment", [0.02, 0.04, 0.06, 0.08, 0.1])
def test_unload_while_starting_is_silent_at_every_moment(make: Make, journal: Journal, moment: float) -> None:
    """A stop that meets the guest anywhere in its start ends it as unloaded, and it prints nothing."""
    domain = make()
    assert not domain._life.wait_ended(moment)
    domain.unload()
    assert journal.wait_for(events.Exited).report.reason is Reason.UNLOADED
    assert journal.lines("stderr") == []


def stop_slowly(domain: Domain, target: str, *args: object) -> None:
    """Start a call that will not end by itself, and unload its domain, which has half a second to end."""

    begun = threading.Event()

    def call() -> None:
        with pytest.raises(DomainUnloaded):
            domain.call("troubles:tell_and_do", begun.set, target, *args)

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(30)
    assert not domain._life.wait_ended(0.1)  # the guest has its answer by now, and goes on
    domain.unload()
    thread.join(10)


@pytest.mark.parametrize("how", ["block_signals", "hold_the_lock"])
def test_guest_that_can_not_listen_is_dumped_and_killed(make: Make, how: str) -> None:
    """A guest that blocks its signals or its interpreter is killed when its time is up, and the report says so."""
    domain = make(stop_timeout=0.5)
    begin = time.monotonic()
    stop_slowly(domain, how)
    assert time.monotonic() - begin < 15
    report = domain.report
    assert report is not None
    assert (report.reason, report.signal) == (Reason.STOP_TIMEOUT, signal.SIGKILL)
    assert "0.5 s" in report.detail
    if how == "hold_the_lock":
        assert "hold_the_lock" in report.stacks


def test_guest_that_swallows_the_stop_is_killed_in_time(make: Make) -> None:
    """Code that catches every exception delays its domain's end by no more than the time for stopping."""
    domain = make(stop_timeout=0.5)
    begin = time.monotonic()
    stop_slowly(domain, "swallow_everything", 60.0)
    assert time.monotonic() - begin < 15
    assert domain.report is not None
    assert domain.report.reason is Reason.STOP_TIMEOUT
    assert "swallow_everything" in domain.report.stacks


def test_guest_that_swallows_the_stop_for_a_while_ends_in_order(make: Make, journal: Journal) -> None:
    """Code that caught the stop but returns in time does not keep its domain: hooks run, the end is an unloading."""
    domain = make()
    domain.call("troubles:print_at_exit")
    stop_slowly(domain, "swallow_everything", 0.6)
    assert domain.report is not None
    assert domain.report.reason is Reason.UNLOADED
    assert journal.lines() == ["exit hook of subject"]


@pytest.mark.parametrize("how", ["leave_thread_running", "hang_at_exit"])
def test_exit_that_hangs_is_killed_in_time(make: Make, how: str) -> None:
    """A thread that Python waits for, or an exit hook that hangs, is killed when the time for stopping is up."""
    domain = make(stop_timeout=0.5)
    domain.call(f"troubles:{how}", 60)
    begin = time.monotonic()
    domain.unload()
    assert time.monotonic() - begin < 15
    assert domain.report is not None
    assert domain.report.reason is Reason.STOP_TIMEOUT


def test_crash_while_stopping_is_said_in_the_report(make: Make) -> None:
    """The first cause stays the unloading; that the guest crashed on the way is the detail."""
    domain = make()
    domain.call("troubles:crash_at_exit")
    domain.unload()
    assert domain.report is not None
    assert domain.report.reason is Reason.UNLOADED
    assert "SIGSEGV" in domain.report.detail


def test_crash_before_the_stop_stays_the_reason(make: Make) -> None:
    """A domain that has crashed a moment before it is unloaded is reported as crashed, not as unloaded."""
    domain = make()
    domain.wait_ready(10)
    os.kill(domain.pid, signal.SIGSEGV)
    wait_until(domain._life.process.has_ended)
    domain.kill()
    assert domain.report is not None
    assert (domain.report.reason, domain.report.signal) == (Reason.SIGNAL, signal.SIGSEGV)


@pytest.mark.parametrize("end", ["unload", "kill", "crash"])
def test_children_of_the_guest_end_with_it(make: Make, end: str) -> None:
    """However a domain ends, the children of its guest are gone; in other sessions too, when we end it."""
    domain = make()
    children = [domain.call("troubles:start_child")]
    if end != "crash":
        children.append(domain.call("troubles:start_child", True))
        getattr(domain, end)()
    else:
        with pytest.raises(DomainCrashed):
            domain.call("troubles:segfault")
    wait_until(lambda: not any(map(is_running, children)))


def test_forgotten_domain_warns_and_is_unloaded(make: Make, journal: Journal) -> None:
    """A domain that nobody holds any more gives a ResourceWarning and is unloaded."""
    domain = Domain("forgotten", on=journal.all)
    domain.wait_ready(10)
    with pytest.warns(ResourceWarning, match="'forgotten' was forgotten"):  # noqa: PT031  # it takes both steps
        del domain
        gc.collect()
    assert journal.wait_for(events.Exited).report.reason is Reason.UNLOADED


def test_domain_lives_while_a_proxy_of_it_does(make: Make, journal: Journal) -> None:
    """Who holds an object of a domain holds the domain."""
    domain = Domain("held", on=journal.all)
    counter = domain.create("collections:Counter", "hello")
    pid = domain.pid
    del domain
    gc.collect()
    assert counter["l"] == 2
    with pytest.warns(ResourceWarning, match="'held' was forgotten"):  # noqa: PT031  # it takes both steps
        del counter
        gc.collect()
    journal.wait_for(events.Exited)
    assert not is_running(pid)


def test_domain_survives_the_thread_that_made_it(make: Make) -> None:
    """A domain made in a thread that has ended goes on as if nothing had happened."""
    made: list[Domain] = []

    def create() -> None:
        made.append(make())
        made[0].wait_ready(10)

    thread = threading.Thread(target=create)
    thread.start()
    thread.join(10)
    domain = made[0]
    pid = domain.pid
    assert [domain.call("troubles:add", number, 1) for number in range(3)] == [1, 2, 3]
    assert domain.call("troubles:pid") == pid


def run_host(program: str, *args: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    """Run a program of its own that is a host."""
    text = f"import sys; MODULES = {MODULES!r}\nfrom cloister import Domain, Setup, events\n{program}"
    command = [sys.executable, "-c", text, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_interpreter_exit_unloads_living_domains() -> None:
    """A program that ends with domains alive ends at once and in order: their hooks run, their output is shown."""
    program = """
domains = [Domain(f"d{i}", setup=Setup(path=[MODULES])) for i in range(3)]
for domain in domains:
    domain.call("troubles:print_at_exit")
print(*[domain.pid for domain in domains], file=sys.stderr)
"""
    begin = time.monotonic()
    done = run_host(program)
    assert time.monotonic() - begin < 15
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"exit hook of d{i}" for i in range(3)]
    assert not any(is_running(int(pid)) for pid in done.stderr.split())


def test_interpreter_exit_is_bounded_by_the_time_for_stopping() -> None:
    """A program whose domain does not stop, and is in a call of a daemon thread, ends when the time is up."""
    program = """
import threading, time
domain = Domain("stuck", setup=Setup(path=[MODULES]), stop_timeout=0.5)
domain.wait_ready()
threading.Thread(target=lambda: domain.call("troubles:hold_the_lock"), daemon=True).start()
while not domain.status().calls: time.sleep(0.01)
time.sleep(0.1)
print(domain.pid)
"""
    begin = time.monotonic()
    done = run_host(program)
    assert time.monotonic() - begin < 15
    assert done.returncode == 0, done.stderr
    assert not is_running(int(done.stdout.split()[0]))


@pytest.mark.slow
def test_many_short_domains_leave_no_descriptor_to_the_collector() -> None:
    """Domains made and unloaded in a row, with the collector off, keep descriptors and mappings flat."""

    def held() -> tuple[int, int]:
        with open("/proc/self/maps") as maps:
            return len(os.listdir("/proc/self/fd")), sum("cloister-page" in line for line in maps)

    before = held()
    gc.disable()
    try:
        for number in range(12):
            with Domain("short", echo=False) as domain:
                domain.create("collections:Counter").update("abc")
                if number % 2:
                    domain.submit("os:getpid").result(10)
            del domain
        template.close_all()
        wait_until(lambda: held() == before)
    finally:
        gc.enable()
