"""The reason of an end is exact also where the application meddles with the statuses of its children."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.domain.journal import MODULES, is_running
from tests.patience import wait_until

PROGRAM = f"""
import os, signal, sys, threading, time
from cloister import Domain, DomainCrashed, Setup

{{meddle}}
for target, args in (("segfault", ()), ("exit_at_once", (3,)), ("exit_at_once", (0,)), ("abort", ())):
    domain = Domain(target, setup=Setup(path=[{MODULES!r}]), echo=False)
    child = domain.call("troubles:start_child")
    try:
        domain.call(f"troubles:{{{{target}}}}", *args)
    except DomainCrashed as crash:
        print(crash.report.reason.value, crash.report.exit_code, crash.report.signal, flush=True)
    print(child, file=sys.stderr)
# an orderly stop is known whatever the kernel says
domain = Domain("last", setup=Setup(path=[{MODULES!r}]))
domain.wait_ready()
domain.unload()
print(domain.report.reason.value)
"""

MEDDLING = {
    "SIGCHLD is ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "a thread waits for any child": """
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0005)
threading.Thread(target=reap, daemon=True).start()""",
    "a handler of SIGCHLD takes all": """
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)""",
}


def kernel_tells_again() -> bool:
    """Whether the kernel tells an exit status through a pidfd after it was taken (Linux 6.15)."""
    with open("/proc/sys/kernel/osrelease") as file:
        major, minor = file.read().split(".")[:2]
    return (int(major), int(minor)) >= (6, 15)


@pytest.mark.parametrize("meddle", MEDDLING)
def test_reason_is_exact_or_unknown_whoever_takes_the_status(meddle: str) -> None:
    """S08: with SIGCHLD ignored, or the status taken by `waitpid(-1)`, signals and exit codes are exact where the
    kernel tells them twice, else as `unknown`, never wrongly; and the children of the guest are gone."""
    command = [sys.executable, "-c", PROGRAM.format(meddle=MEDDLING[meddle])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 0, done.stderr
    exact = ["signal None 11", "exited 3 None", "exited 0 None", "signal None 6"]
    wait_until(lambda: not any(is_running(int(pid)) for pid in done.stderr.split()))
    *said, last = done.stdout.splitlines()
    assert last == "unloaded"
    assert len(said) == 4
    for line, right in zip(said, exact, strict=True):
        assert line == right or (not kernel_tells_again() and line == "unknown None None")
