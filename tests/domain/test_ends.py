"""How a domain ends by itself: the host and its siblings live, and the reason is exact."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister.domain import events
from cloister.domain.domain import Domain
from cloister.domain.setup import Watchdog
from cloister.errors import DomainCrashed, RemoteError, StartFailed
from cloister.report import Reason, Report
from tests.domain.journal import Journal, is_running
from tests.patience import wait_until

Make = Callable[..., Domain]


def crash(domain: Domain, target: str, *args: object) -> Report:
    """Make a call that ends its domain; return the report of the exception."""
    with pytest.raises(DomainCrashed) as caught:
        domain.call(f"troubles:{target}", *args)
    report = caught.value.report
    assert report is not None
    assert report is domain.report
    return report


def end_of(journal: Journal) -> Report:
    """The report of the event of the end."""
    return journal.wait_for(events.Exited).report


def test_host_and_sibling_live_when_a_domain_calls_os_exit(make: Make) -> None:
    """S08: `os._exit(3)` is reported as exit code 3, and a second domain goes on being served."""
    sibling, domain = make("sibling", on={}), make()
    report = crash(domain, "exit_at_once", 3)
    assert (report.reason, report.exit_code, report.signal) == (Reason.EXITED, 3, None)
    assert report.calls == ("troubles:exit_at_once",)
    assert sibling.call("troubles:add", 1, 2) == 3


def test_segfault_is_reported_with_its_signal_and_stack(make: Make, journal: Journal) -> None:
    """S08: a native crash is reported as SIGSEGV, with the Python stack that led there."""
    report = crash(make(), "segfault")
    assert (report.reason, report.signal, report.exit_code) == (Reason.SIGNAL, signal.SIGSEGV, None)
    assert "in segfault" in report.stacks
    assert "SIGSEGV" in str(report)
    assert end_of(journal) is report


def test_abort_is_reported_with_its_signal(make: Make) -> None:
    """S08: `abort()` is reported as SIGABRT."""
    report = crash(make(), "abort")
    assert (report.reason, report.signal) == (Reason.SIGNAL, signal.SIGABRT)


def test_kill_from_outside_is_reported_as_signal(make: Make) -> None:
    """S08: a SIGKILL that this program did not send is reported as that signal, in a call and in idleness."""
    domain = make()
    domain.wait_ready(10)
    threading.Timer(0.05, os.kill, (domain.pid, signal.SIGKILL)).start()
    report = crash(domain, "sleep", 30)
    assert (report.reason, report.signal) == (Reason.SIGNAL, signal.SIGKILL)


def test_term_signal_ends_a_domain_with_that_signal(make: Make) -> None:
    """S08: a SIGTERM ends a guest that does not handle it, and is named."""
    report = crash(make(), "die_of", int(signal.SIGTERM))
    assert (report.reason, report.signal) == (Reason.SIGNAL, signal.SIGTERM)


def test_cpu_limit_is_told_from_other_signals(make: Make) -> None:
    """S08: SIGXCPU, the signal of a used-up CPU limit, has a reason of its own."""
    assert crash(make(), "die_of", int(signal.SIGXCPU)).reason is Reason.CPU_LIMIT


def test_unhandled_exception_ends_a_domain_with_its_traceback(make: Make, journal: Journal) -> None:
    """S08: an exception that nobody waits for, raised on the idle main thread, is the reason `raised`."""
    make().call("troubles:raise_when_idle", 0.01)
    report = end_of(journal)
    assert (report.reason, report.exit_code) == (Reason.RAISED, 1)
    assert "ValueError: nobody waits for this" in report.detail


def test_exception_of_a_call_goes_to_its_caller_and_the_domain_lives(make: Make) -> None:
    """S08: what a call raises, SystemExit too, ends the call and not the domain."""
    domain = make()
    with pytest.raises(ZeroDivisionError):
        domain.call("operator:floordiv", 1, 0)
    with pytest.raises(RemoteError, match="SystemExit"):
        domain.call("sys:exit", 4)
    assert domain.call("troubles:add", 1, 1) == 2


def test_exception_in_a_thread_of_the_guest_is_an_event(make: Make, journal: Journal) -> None:
    """S08: an unhandled exception in a guest's own thread is told, and the domain lives."""
    domain = make()
    domain.call("troubles:raise_in_thread", "lost")
    error = journal.wait_for(events.UnhandledException).error
    assert isinstance(error, LookupError)
    assert error.args == ("lost",)
    assert domain.call("troubles:add", 1, 1) == 2


def test_ordinary_exit_of_the_guest_is_reported_with_its_code(make: Make, journal: Journal) -> None:
    """S08: `sys.exit(7)` outside of any call ends the domain with exit code 7."""
    make().call("troubles:exit_when_idle", 0.01, 7)
    report = end_of(journal)
    assert (report.reason, report.exit_code) == (Reason.EXITED, 7)


def test_memory_error_goes_to_the_caller_and_the_domain_lives(make: Make) -> None:
    """S08: a call that gets no more memory raises MemoryError here; the domain goes on."""
    domain = make()
    with pytest.raises(MemoryError):
        domain.call("troubles:use_memory", 1 << 30, 1 << 31)
    assert domain.call("troubles:add", 1, 1) == 2


def test_memory_error_that_ends_a_domain_is_out_of_memory(make: Make, journal: Journal) -> None:
    """S08: a MemoryError that nobody catches ends the domain as `out of memory`."""
    make().call("troubles:use_memory_when_idle", 0.01)
    assert end_of(journal).reason is Reason.OUT_OF_MEMORY


@pytest.fixture
def memory_group() -> Iterator[str]:
    """A control group whose processes together get 64 MiB and no swap."""
    root = Path("/sys/fs/cgroup")
    version_1 = (root / "memory" / "cgroup.procs").exists()
    folder = (root / "memory" if version_1 else root) / f"cloister-test-{os.getpid()}"
    limits = ("memory.max", "memory.swap.max")
    if version_1:
        limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    try:
        folder.mkdir()
        (folder / limits[0]).write_text(str(64 * 1024 * 1024))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    with contextlib.suppress(OSError):
        (folder / limits[1]).write_text(str(64 * 1024 * 1024) if version_1 else "0")
    yield str(folder)
    wait_until(lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


def test_kernel_that_kills_for_memory_is_reported_as_out_of_memory(make: Make, memory_group: str) -> None:
    """S08: a guest that the kernel kills because memory is used up ends as `out of memory`, its sibling lives."""
    sibling, domain = make("sibling", on={}), make()
    domain.call("troubles:join_memory_group", memory_group)
    report = crash(domain, "eat_memory")
    assert (report.reason, report.signal) == (Reason.OUT_OF_MEMORY, signal.SIGKILL)
    assert sibling.call("troubles:add", 1, 2) == 3


def test_every_later_use_of_a_crashed_domain_raises_its_report(make: Make) -> None:
    """S08: calls, submits and proxies of a domain that has crashed raise at once, always with the same report."""
    domain = make()
    counter = domain.create("collections:Counter", "hello")
    report = crash(domain, "exit_at_once", 5)
    for use in (lambda: domain.call("troubles:pid"), lambda: counter.total(), lambda: domain.submit("troubles:pid")):
        with pytest.raises(DomainCrashed) as caught:
            use()
        assert caught.value.report is report
    domain.unload()  # in silence


def test_child_that_keeps_the_descriptors_does_not_hide_the_end(make: Make) -> None:
    """S08: a grandchild that holds the guest's pipes open delays neither the error nor the report, and is killed."""
    domain = make()
    child = domain.call("troubles:fork_and_keep_descriptors")
    report = crash(domain, "exit_at_once", 9)
    assert (report.reason, report.exit_code) == (Reason.EXITED, 9)
    wait_until(lambda: not is_running(child))


def test_guest_that_closes_its_control_channel_ends_as_bad_message(
    make: Make, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """S05: the failure of the one channel that is not a lane is reported with the domain's name, and ends it."""
    make("odd", watchdog=Watchdog(beat=0.05)).call("troubles:close_control")
    report = end_of(journal)
    assert report.reason is Reason.BAD_MESSAGE
    assert "control channel" in report.detail
    assert "domain 'odd'" in caplog.text


def test_events_of_a_life_come_once_and_in_order(make: Make, journal: Journal) -> None:
    """S03: connected, ready and exited are told exactly once each, in this order, with the domain's name and pid."""
    domain = make("thumbnails")
    crash(domain, "exit_at_once", 0)
    journal.wait_for(events.Exited)
    assert journal.kinds() == ["Connected", "Ready", "Exited"]
    assert {(event.domain, event.pid) for event in journal.events} == {("thumbnails", domain.pid)}


@pytest.mark.parametrize("hooks_s", [1.5, 30.0])
def test_call_while_slow_exit_hooks_run_gets_the_reason_of_the_exit(make: Make, hooks_s: float) -> None:
    """S08: a guest that has exited and is still in its exit hooks is told as exited, not as one that misbehaves."""
    domain = make(stop_timeout=0.8)
    domain.exec(
        "import atexit, signal, sys, time\n"
        f"atexit.register(time.sleep, {hooks_s})\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    )
    os.kill(domain.pid, signal.SIGTERM)
    with pytest.raises(DomainCrashed) as caught:  # noqa: PT012 - the first calls may come before the signal
        while True:
            domain.call("os:getpid")
    report = caught.value.report
    assert report.reason is Reason.EXITED
    if hooks_s < 2:
        assert report.exit_code == 7
    else:
        assert "exit hooks took longer than 0.8 s" in report.detail


def test_errors_of_a_domain_in_a_domain_arrive_with_their_reports(make: Make) -> None:
    """S08, O11: DomainCrashed and StartFailed that a guest raises about its own domains keep their whole reports."""
    outer = make()
    outer.exec("import cloister")
    outer.exec("def end(**options):\n with cloister.Domain('inner', **options) as inner: inner.call('os:_exit', 3)")
    with pytest.raises(DomainCrashed) as crash:
        outer.eval("end()")
    with pytest.raises(StartFailed) as failure:
        outer.eval("end(setup=cloister.Setup(initializer='os:_exit', initargs=(4,)))")
    for report, code in ((crash.value.report, 3), (failure.value.report, 4)):
        assert isinstance(report, Report)
        assert (report.domain, report.reason, report.exit_code) == ("inner", Reason.EXITED, code)
        assert f"exited with code {code}" in str(report)
    assert outer.call("os:getpid") == outer.pid
