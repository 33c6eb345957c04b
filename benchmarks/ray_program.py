"""Ray, measured by a program of its own, because Ray may be installed elsewhere. Nothing of the package is used here.

It reads lines: what to do, and how often or how much. It answers each with a line of JSON: the seconds that it took.

    call N      a call of an actor, waited for, N times
    many N      N calls of an actor, made in a row, then waited for: the time of one
    start N     an actor and its first answer, N times; the processes of Ray are there
    bytes N     an array of N bytes, put into the store, and had by an actor
    death N     from SIGKILL of an actor to the error in the call that was running, N times
    memory N    the share of memory, in bytes, of each of N actors that have imported numpy
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETTLE_S = 0.02
STORE_BYTES = 1 << 30


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray, and what it starts, may write what it likes
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        num_cpus=256,  # so that no actor waits for another one to end
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=STORE_BYTES,
    )
    work = _Work(ray)
    print(json.dumps(ray.__version__), file=answers, flush=True)
    for line in sys.stdin:
        what, count = line.split()
        measure: Callable[[int], list[float]] = getattr(work, f"measure_{what}")
        print(json.dumps(measure(int(count))), file=answers, flush=True)
    ray.shutdown()


class _Work:
    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._actor = ray.remote(Actor)
        self._one = self._actor.remote()
        self._arrays: dict[int, Any] = {}
        ray.get(self._one.add.remote(1))

    def measure_call(self, count: int) -> list[float]:
        get, add = self._ray.get, self._one.add
        return [_timed(lambda: get(add.remote(1))) for _ in range(count)]

    def measure_many(self, count: int) -> list[float]:
        add = self._one.add
        return [_timed(lambda: self._ray.get([add.remote(number) for number in range(count)])) / count]

    def measure_start(self, count: int) -> list[float]:
        return [self._start() for _ in range(count)]

    def _start(self) -> float:
        begun = time.perf_counter()
        actor = self._actor.remote()
        self._ray.get(actor.add.remote(1))
        took = time.perf_counter() - begun
        self._ray.kill(actor)
        return took

    def measure_bytes(self, size: int) -> list[float]:
        import numpy

        array = self._arrays.setdefault(size, numpy.arange(size // 8, dtype="f8"))
        return [_timed(lambda: self._ray.get(self._one.length.remote(self._ray.put(array))))]

    def measure_death(self, count: int) -> list[float]:
        return [self._death() for _ in range(count)]

    def _death(self) -> float:
        actor = self._actor.remote()
        pid = self._ray.get(actor.pid.remote())
        begun: list[float] = []

        def kill() -> None:
            time.sleep(SETTLE_S)
            begun.append(time.perf_counter())
            os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            self._ray.get(actor.sleep.remote(60))
        except self._ray.exceptions.RayActorError:
            ended = time.perf_counter()
        else:
            raise AssertionError("the actor was killed, and has answered")
        thread.join()
        return ended - begun[0]

    def measure_memory(self, count: int) -> list[float]:
        actors = [self._actor.remote() for _ in range(count)]
        pids = self._ray.get([actor.with_numpy.remote() for actor in actors])
        shares = [_share(pid) for pid in pids]
        for actor in actors:
            self._ray.kill(actor)
        return shares


class Actor:
    """What is called."""

    def add(self, number: int) -> int:
        return number + 1

    def length(self, array: Any) -> int:
        return int(array.nbytes)

    def pid(self) -> int:
        return os.getpid()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def with_numpy(self) -> int:
        import numpy  # noqa: F401  # that is what takes the memory

        return os.getpid()


def _timed(operation: Callable[[], object]) -> float:
    begun = time.perf_counter()
    operation()
    return time.perf_counter() - begun


def _share(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1]) * 1024
    raise OSError("this kernel does not tell the share of a process")


if __name__ == "__main__":
    main()
