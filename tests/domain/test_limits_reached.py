"""What a domain takes of its host, and limits of the system that are reached: a clear error, and the rest goes on."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.domain import shortage
from cloister.domain.domain import Domain
from cloister.domain.shortage import DESCRIPTORS
from tests.domain.journal import wait_until

Make = Callable[..., Domain]

FEW_PROCESSES = """
import ctypes, resource, os, sys

RESOURCE, ADMIN = 24, 21  # root, and who has these, may have as many processes as the machine has
libc = ctypes.CDLL(None, use_errno=True)
for number in (RESOURCE, ADMIN):
    assert libc.prctl(24, number, 0, 0, 0) == 0
os.setresuid(60123, 0, 0)  # a user who has nothing else
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
for which in range(3):
    sets[which] &= ~(1 << RESOURCE | 1 << ADMIN)
assert libc.capset(header, sets) == 0
resource.setrlimit(resource.RLIMIT_NPROC, (10, 10))

import cloister

living, refused = [], []
while len(refused) < 2:
    try:
        domain = cloister.Domain("one of many", echo=False)
        domain.wait_ready(60)
        living.append(domain)
    except cloister.StartFailed as error:
        refused.append(str(error))
print(len(living), [domain.call("operator:add", 1, 1) for domain in living])
print(*refused, sep="\\n")
living.pop().unload()
with cloister.Domain("in its place", echo=False) as domain:
    print(domain.call("operator:add", 1, 1))
for domain in living:
    domain.unload()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts descriptors in /proc/self/fd")
@pytest.mark.usefixtures("by_exec")
def test_domain_takes_few_descriptors_and_no_thread(make: Make) -> None:
    """S34: ten domains that have answered a call take at most eight descriptors each, and no thread of this process."""

    def held() -> tuple[int, int]:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    make("first").call("operator:add", 1, 1)
    wait_until(lambda: threading.active_count() <= 2)  # this one and the watcher
    descriptors, threads = held()
    for number in range(10):
        assert make(f"number {number}").call("operator:add", number, 1) == number + 1
    wait_until(lambda: threading.active_count() <= 2)
    now, threads_now = held()
    assert now - descriptors <= 10 * DESCRIPTORS
    assert threads_now <= threads


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may become a user with no process")
@pytest.mark.usefixtures("by_exec")
def test_no_process_left_is_a_clear_error_and_the_others_go_on() -> None:
    """Where RLIMIT_NPROC is reached a start is StartFailed, with the numbers; others answer, an end makes room."""
    done = subprocess.run(
        [sys.executable, "-c", FEW_PROCESSES], check=True, capture_output=True, text=True, timeout=200
    )
    served, *refused, last = done.stdout.splitlines()
    count, _, answers = served.partition(" ")
    assert int(count) >= 2
    assert answers == str([2] * int(count))
    assert len(refused) == 2
    for words in refused:
        assert "Resource temporarily unavailable" in words or "can't start new thread" in words
        assert "RLIMIT_NPROC, ulimit -u: 10 for this user" in words
        assert "a thousand take 2,000" in words
    assert last == "2"


def test_advice_is_given_for_what_is_used_up_only() -> None:
    """Descriptors, processes and threads each have their numbers; another error has no advice."""
    assert "of this process" in shortage.advice(OSError(24, "Too many open files"), 3)
    assert "3 domains live" in shortage.advice(OSError(24, "Too many open files"), 3)
    assert "2,000" in shortage.advice(BlockingIOError(11, "Resource temporarily unavailable"), 3)
    assert "2,000" in shortage.advice(RuntimeError("can't start new thread"), 3)
    assert shortage.advice(FileNotFoundError(2, "No such file"), 3) == ""
    assert shortage.advice(RuntimeError("something else"), 3) == ""
