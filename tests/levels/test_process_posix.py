"""A guest's process as the kernel sees it: what it gets, how it ends, and what of its tree is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from cloister.levels import lifeline
from cloister.levels.process_posix import Process, begin
from tests.domain.journal import is_running
from tests.patience import wait_until

Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a shell or Python program as a guest's process; it is killed, reaped and closed in the end."""
    started: list[Process] = []

    def run(*command: str) -> Process:
        process, _, lane = begin(command, dict(os.environ), lifeline.reader())
        lane.close()
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        wait_until(process.has_ended)
        process.reap()
        process.close()
        process.control.close()


def said(process: Process) -> bytes:
    """All that a process prints until it ends."""
    wait_until(process.has_ended)
    return os.read(process.output[0], 65536)


def is_gone(pid: int) -> bool:
    """Whether a process runs no more."""
    return not is_running(pid)


def python(text: str) -> tuple[str, ...]:
    """The command that runs a text."""
    return (sys.executable, "-I", "-S", "-c", text)


@pytest.mark.parametrize(
    ("text", "code", "number"),
    [("raise SystemExit(0)", 0, None), ("raise SystemExit(7)", 7, None), ("import os; os.abort()", None, 6)],
)
def test_end_is_told_exactly_and_kept(start: Start, text: str, code: int | None, number: int | None) -> None:
    """S08: the exit code or the signal of a process, with its CPU time and memory, as often as it is asked for."""
    process = start(*python(text))
    wait_until(process.has_ended)
    ending = process.reap()
    assert (ending.exit_code, ending.signal, ending.known) == (code, number, True)
    assert ending.cpu_seconds is not None
    assert ending.peak_memory is not None
    assert ending.peak_memory > 1024 * 1024
    assert process.reap() is ending


def test_status_that_was_taken_is_told_again_or_unknown(start: Start) -> None:
    """S08: where another part of the program has reaped the child, the kernel tells its status again, or it is lost."""
    process = start(*python("raise SystemExit(7)"))
    os.waitpid(process.pid, 0)
    ending = process.reap()
    assert ending.exit_code in (7, None)
    assert ending.known == (ending.exit_code is not None)


def test_process_is_alone_in_its_session_with_standard_streams(start: Start) -> None:
    """S11: session and group are its own, stdin is empty, stdout and stderr are pipes of its own."""
    process = start(*python("import os; print(os.getsid(0), os.getpgrp(), os.getpid(), repr(os.read(0, 1)))"))
    words = said(process).split()
    assert words == [b"%d" % process.pid] * 3 + [b"b''"]


def test_process_inherits_what_it_is_given_and_nothing_else(start: Start) -> None:
    """S02: the descriptors are 0, 1, 2 and those of the table, whatever the host has open."""
    process = start(*python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"))
    assert eval(said(process))[:7] == [0, 1, 2, 3, 4, 5, 6]


def test_signal_mask_and_handlers_of_the_host_are_not_inherited(start: Start) -> None:
    """S11: a host that blocks or ignores signals makes guests that do not."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ignored = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        process = start(*python("import signal; print(signal.pthread_sigmask(0, []), signal.getsignal(15).name)"))
    finally:
        signal.signal(signal.SIGTERM, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert said(process).decode().split() == ["set()", "SIG_DFL"]


TREE = """
import subprocess, sys, time
sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
deep = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(600)"
children = [
    subprocess.Popen(sleeper),
    subprocess.Popen(sleeper, start_new_session=True),
    subprocess.Popen([*sleeper[:4], deep, *sleeper], stdout=subprocess.PIPE, start_new_session=True),
]
print(*[child.pid for child in children], int(children[2].stdout.readline()), flush=True)
time.sleep(600)
"""


def test_kill_reaches_descendants_in_other_sessions(start: Start) -> None:
    """A kill ends the whole tree: children, those that made sessions of their own, and their children."""
    process = start(*python(TREE))
    os.set_blocking(process.output[0], True)
    pids = [int(word) for word in os.read(process.output[0], 4096).split()]
    assert len(pids) == 4
    assert all(map(is_running, pids))
    process.kill()
    wait_until(process.has_ended)
    process.reap()
    wait_until(lambda: not any(map(is_running, pids)))


def test_reap_ends_the_group_of_a_guest_that_ended_by_itself(start: Start) -> None:
    """Children that stay in the group of a guest that has ended are killed when it is reaped, by whomever."""
    for taken in (False, True):
        process = start("/bin/sh", "-c", "sleep 600 & echo $!")
        pid = int(said(process))
        assert is_running(pid)
        if taken:
            os.waitpid(process.pid, 0)
        process.reap()
        wait_until(partial(is_gone, pid))


def test_nothing_is_sent_to_a_reaped_process(start: Start) -> None:
    """After the end a signal is refused, and a kill does nothing: the number may be another's by then."""
    process = start("/bin/true")
    wait_until(process.has_ended)
    process.reap()
    assert not process.signal(signal.SIGTERM)
    process.kill()
    assert process.has_ended()


def test_program_that_is_not_there_leaves_no_descriptor() -> None:
    """A start that fails raises OSError, and every descriptor is closed."""
    reader = lifeline.reader()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        begin(["/nowhere/python"], {}, reader)
    assert os.listdir("/proc/self/fd") == before
