"""A thousand idle domains on one machine: start all, call all, watch the host idle, stop all.

Run by hand: ``python tests/soak/thousand.py [number]``. Prints times, memory, descriptors and the host's idle cost; a
fork of a bare process is timed in the same run, as the floor.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import cloister
from cloister.domain.shortage import DESCRIPTORS

IDLE_S = 5.0


def proportional_memory(pid: int) -> int:
    """The memory of a process in bytes, with shared pages divided by their users."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main(number: int) -> None:
    """Do it with so many domains."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = number * DESCRIPTORS + 100
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{number:,} domains need about {wanted:,} descriptors; RLIMIT_NOFILE allows {hard:,}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), hard))
    setup = cloister.Setup(template=True)
    begin = time.monotonic()
    assert cloister.warm_up(setup)
    print(f"template ready   {time.monotonic() - begin:8.2f} s")

    begin = time.monotonic()
    for _ in range(100):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    print(f"a bare fork      {(time.monotonic() - begin) * 10:8.2f} ms")

    begin, descriptors = time.monotonic(), len(os.listdir("/proc/self/fd"))
    domains = [cloister.Domain(f"idle-{index}", setup=setup) for index in range(number)]
    for domain in domains:
        domain.wait_ready()
    print(f"start all        {time.monotonic() - begin:8.2f} s")
    begin = time.monotonic()
    for domain in domains:
        assert domain.call("operator:add", 1, 1) == 2
    print(f"call all         {time.monotonic() - begin:8.2f} s")
    held = (len(os.listdir("/proc/self/fd")) - descriptors) / number
    some = domains[:: max(1, number // 50)]
    memory = sum(proportional_memory(domain.pid) for domain in some) / len(some)
    print(f"a domain holds   {held:8.2f} descriptors here, {memory / 1024 / 1024:.2f} MiB")
    begin, used = time.monotonic(), time.process_time()
    time.sleep(IDLE_S)
    print(f"the host idles   {(time.process_time() - used) / (time.monotonic() - begin) * 100:8.2f} % of a core")
    begin = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(cloister.Domain.unload, domains))
    print(f"stop all         {time.monotonic() - begin:8.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
