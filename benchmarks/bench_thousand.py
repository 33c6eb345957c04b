"""A thousand domains: start all, call all, stop all; and what they cost their host while nobody calls.

The floor is a process with the same modules as a template, frozen, that forks as many children. Each sends a byte when
it begins, answers one, and ends when it is told to. The times are of all together, in milliseconds. Both take turns.
The first round is not counted: a virtual machine may have to get the memory for so many processes from its own host.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cloister
from benchmarks import harness, peers
from benchmarks.harness import NotHere, Table
from cloister.domain.shortage import DESCRIPTORS

COUNT, QUICK_COUNT = 1000, 60
AIM = 2.0
IDLE_AIM = 0.02
ROUNDS = 3
IDLE_S = 4.0
"""Two beats of each domain."""
AT_ONCE = 16
"""Threads that unload."""
SPARE_DESCRIPTORS = 500

_FORKS = """
import gc, os, socket, sys, time
import cloister.guest.boot, cloister.guest.template_linux
count = int(sys.argv[1])
gc.collect()
gc.freeze()
times = [time.perf_counter()]
links, children = [], []
for _ in range(count):
    mine, its = socket.socketpair()
    child = os.fork()
    if not child:
        its.send(b".")
        its.send(its.recv(1))
        its.recv(1)
        os._exit(0)
    its.close()
    links.append(mine)
    children.append(child)
    mine.recv(1)
times.append(time.perf_counter())
for link in links:
    link.send(b".")
    link.recv(1)
times.append(time.perf_counter())
for link in links:
    link.send(b".")
for child in children:
    os.waitpid(child, 0)
times.append(time.perf_counter())
print(*times)
"""


def run() -> Iterator[Table]:
    """One table of times, and one of what the host spends on them."""
    if sys.platform != "linux":
        raise NotHere("only Linux has templates")
    count = QUICK_COUNT if harness.quick else COUNT
    _allow_descriptors(count * DESCRIPTORS + SPARE_DESCRIPTORS)
    _forks(count)
    _domains(count)
    forks, domains, idle = [], [], []
    held = (0, 0)
    for _ in range(1 if harness.quick else ROUNDS):
        forks.append(_forks(count))
        times, spent, held = _domains(count)
        domains.append(times)
        idle.append(spent)
    every = {f"{count:,} forks of a template": [sum(steps) for steps in forks]}
    every[f"cloister, {count:,} domains"] = [sum(steps) for steps in domains]
    for at, step in enumerate(("start", "call", "stop")):
        every[f"forks, {step} all"] = [steps[at] for steps in forks]
        every[f"cloister, {step} all"] = [steps[at] for steps in domains]

    def columns(name: str, seconds: float) -> dict[str, float | str]:
        return {"ms each": seconds * 1e3 / count}

    yield harness.table(
        "Thousand: start all, call all, stop all",
        every,
        aims={f"cloister, {count:,} domains": AIM},
        extra=columns,
        unit="ms",
        scale=1e3,
    )
    descriptors, threads = held
    yield harness.table(
        "Thousand: processor time of the host, in each second in which nobody calls",
        {"a processor": [1.0], "cloister": idle},
        aims={"cloister": IDLE_AIM},
        extra=lambda name, _: (
            {"domains": count, "descriptors of one": descriptors / count, "threads of the host": threads}
            if name == "cloister"
            else {}
        ),
        unit="ms",
        scale=1e3,
    )


def _allow_descriptors(wanted: int) -> None:
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise NotHere(f"it takes {wanted:,} descriptors, and RLIMIT_NOFILE allows {hard:,}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _forks(count: int) -> list[float]:
    """Seconds for each step of the floor."""
    program = [sys.executable, "-c", _FORKS, str(count)]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    return [after - before for before, after in pairwise(map(float, done.stdout.split()))]


def _domains(count: int) -> tuple[list[float], float, tuple[int, int]]:
    """Seconds for each step, processor time of the host for each idle second, descriptors and threads of the host."""
    setup = cloister.Setup(template=True)
    cloister.warm_up(setup)
    before = _of_host()
    domains: list[cloister.Domain] = []
    try:
        times = [time.perf_counter()]
        for number in range(count):
            domains.append(cloister.Domain(f"bench-{number}", setup=setup))
        for domain in domains:
            domain.wait_ready()
        times.append(time.perf_counter())
        for domain in domains:
            domain.call(peers.LIGHT, 1)
        times.append(time.perf_counter())
        held = tuple(now - then for now, then in zip(_of_host(), before, strict=True))
        idle = _idle(1.0 if harness.quick else IDLE_S)
    finally:
        stopped = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(cloister.Domain.unload, domains))
        stopped = time.perf_counter() - stopped
    return [times[1] - times[0], times[2] - times[1], stopped], idle, (held[0], held[1])


def _of_host() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def _idle(seconds: float) -> float:
    begun, used = time.monotonic(), time.process_time()
    time.sleep(seconds)
    return (time.process_time() - used) / (time.monotonic() - begun)
