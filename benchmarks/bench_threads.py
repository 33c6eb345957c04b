"""Eight threads of the host call one domain at the same time, against eight threads on a manager, RPyC and Pyro5.

The floor is multiprocessing's manager, which has a connection and a thread for each of them, as we have. What is given
is the time of all calls together divided by their number. One interpreter lock on each side bounds them all.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import cloister
from benchmarks import harness, peers
from benchmarks.harness import Entered, Table

THREADS = 8
CALLS = 500
ROUNDS = 10
AIMS = {"same": 0.5}


def run() -> Iterator[Table]:
    """One table for each placement."""
    for placement in harness.placements():
        yield harness.contest(
            f"Threads: {THREADS} of them call add(int) -> int",
            {
                "multiprocessing manager": partial(_peer, peers.manager),
                "cloister, one domain": partial(_peer, _domain),
                "Pyro5": partial(_peer, peers.pyro),
                "RPyC": partial(_peer, peers.rpyc),
            },
            rounds=harness.rounds(ROUNDS),
            placement=placement,
            aims={"cloister, one domain": AIMS[placement]} if placement in AIMS else None,
            extra=lambda _, seconds: {"calls/s": 1 / seconds},
        )


@contextlib.contextmanager
def _domain() -> Iterator[peers.Maker]:
    with cloister.Domain("bench") as domain:
        adder = domain.create(peers.ADDER)
        assert domain.pid is not None
        yield lambda: contextlib.nullcontext(adder.add), domain.pid


@contextlib.contextmanager
def _peer(peer: Callable[[], contextlib.AbstractContextManager[peers.Maker]]) -> Iterator[Entered]:
    with peer() as (connect, pid):
        start, end = threading.Barrier(THREADS + 1), threading.Barrier(THREADS + 1)
        over, calls = threading.Event(), harness.calls(CALLS)

        def work() -> None:
            with connect() as call:
                call(1)
                while True:
                    start.wait()
                    if over.is_set():
                        return
                    for number in range(calls):
                        call(number)
                    end.wait()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()

        def measure() -> list[float]:
            start.wait()
            begun = time.perf_counter()
            end.wait()
            return [(time.perf_counter() - begun) / (THREADS * calls)]

        try:
            yield measure, [pid]
        finally:
            over.set()
            start.wait()
            for thread in threads:
                thread.join()
