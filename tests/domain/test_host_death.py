"""The host ends without a word: its guests and their children end with it, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.domain.journal import MODULES, is_running

HOST = f"""
import threading, time
from cloister import Domain, Setup
domain = Domain("orphan", setup=Setup(path=[{MODULES!r}]))
pids = [domain.pid, domain.call("troubles:start_child")]
"""

BUSY = (
    HOST
    + """
def call():
    while True:
        domain.call("troubles:add", 1, 1)
for _ in range(2):
    threading.Thread(target=call, daemon=True).start()
threading.Thread(target=domain.call, args=("troubles:runaway",), daemon=True).start()
time.sleep(0.05)
print(*pids, flush=True)
time.sleep(60)
"""
)

IDLE = (
    HOST
    + """
print(*pids, flush=True)
time.sleep(60)
"""
)

STARTING = f"""
import time
from cloister import Domain, Setup
domain = Domain("unborn", setup=Setup(path=[{MODULES!r}]))
print(domain.pid, flush=True)
time.sleep(60)
"""

MAKING_THREAD_ENDED = f"""
import threading, time
from cloister import Domain, Setup
pids = []
def make():
    domain = Domain("orphan", setup=Setup(path=[{MODULES!r}]))
    pids.extend([domain, domain.call("troubles:start_child")])
thread = threading.Thread(target=make)
thread.start()
thread.join()
print(pids[0].pid, pids[1], flush=True)
time.sleep(60)
"""


@contextmanager
def host(program: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run a host; give it with the pids that it prints."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, [int(pid) for pid in process.stdout.readline().split()]
        finally:
            process.kill()


def kill_and_time(process: subprocess.Popen[str], pids: list[int]) -> float:
    """Kill the host; return how many seconds its guests lived on."""
    assert pids
    assert all(map(is_running, pids))
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGKILL)
    while any(map(is_running, pids)):
        assert time.monotonic() - begin < 5
    return time.monotonic() - begin


@pytest.mark.parametrize(
    "program", [IDLE, STARTING, MAKING_THREAD_ENDED], ids=["idle", "starting", "made in a thread that has ended"]
)
def test_guest_and_its_child_end_with_a_killed_host(program: str) -> None:
    """S13, S15: the host is killed with SIGKILL, also before its guest has connected: guest and child are soon gone."""
    with host(program) as (process, pids):
        assert kill_and_time(process, pids) < 2


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_host_killed_in_the_middle_of_calls_again_and_again() -> None:
    """S15: killed amid calls, one of them a runaway regular expression that holds the interpreter lock, the host takes
    guest and grandchild along, 8 times in a row, and leaves no file."""
    files = {path for folder in ("/dev/shm", os.environ["TMPDIR"]) for path in Path(folder).iterdir()}
    for _ in range(8):
        with host(BUSY) as (process, pids):
            assert kill_and_time(process, pids) < 2
    assert {path for folder in ("/dev/shm", os.environ["TMPDIR"]) for path in Path(folder).iterdir()} <= files


def test_guest_without_its_lifeline_ends_by_the_end_of_file() -> None:
    """S15: a guest that has closed its lifeline ends all the same: its control channel says that the host is gone."""
    with host(HOST + 'assert domain.call("troubles:close_lifeline")\n' + IDLE[len(HOST) :]) as (process, pids):
        assert kill_and_time(process, pids) < 2
