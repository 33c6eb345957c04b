"""A function of a few nanoseconds over many items, in chunks of 1,024: against a loop in this process, and the pools.

The function adds one, so what is seen is the way there and back. Half the speed of the loop is the aim: the work of
both sides then takes as long as the function itself. A bare program, which sends the same chunks and has nothing else,
shows what Python leaves of that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import cloister
from benchmarks import bare, harness, peers
from benchmarks.harness import Entered, Table

ITEMS = 100_000
CHUNK = 1024
ROUNDS = 10
AIM = 1 / 0.5


def run() -> Iterator[Table]:
    """One table for ints, one for text."""
    for kind, items in (("ints", list(range(ITEMS))), ("text", [f"item {number}" for number in range(ITEMS)])):
        name = "add" if kind == "ints" else "shout"
        yield harness.contest(
            f"Map: one of {ITEMS:,} {kind}, in chunks of {CHUNK:,}",
            {
                "a loop here": partial(_loop, name, items),
                "a bare program": partial(bare.mapped, f"{__name__}:{name}", items, CHUNK),
                "cloister, Domain.map": partial(_domain, name, items),
                "cloister, DomainPoolExecutor(1)": partial(_pool, name, items, 1),
                "cloister, DomainPoolExecutor(2)": partial(_pool, name, items, 2),
                "multiprocessing.Pool(2)": partial(_multiprocessing, name, items),
                "ProcessPoolExecutor(2)": partial(_processes, name, items),
            },
            rounds=harness.rounds(ROUNDS),
            placement="free",
            aims={"cloister, Domain.map": AIM},
            extra=lambda _, seconds: {"items/s": 1 / seconds},
        )


add = peers.add


def shout(text: str) -> str:
    return text.upper()


def _measuring(mapped: Callable[[], Any], items: list[Any]) -> Callable[[], list[float]]:
    def measure() -> list[float]:
        begun = time.perf_counter()
        results = list(mapped())
        took = time.perf_counter() - begun
        assert len(results) == len(items)
        return [took / len(items)]

    return measure


@contextlib.contextmanager
def _loop(name: str, items: list[Any]) -> Iterator[Entered]:
    function = globals()[name]
    yield _measuring(lambda: [function(item) for item in items], items), []


@contextlib.contextmanager
def _domain(name: str, items: list[Any]) -> Iterator[Entered]:
    with cloister.Domain("bench") as domain:
        yield _measuring(lambda: domain.map(f"{__name__}:{name}", items, chunksize=CHUNK), items), []


@contextlib.contextmanager
def _pool(name: str, items: list[Any], workers: int) -> Iterator[Entered]:
    with cloister.DomainPoolExecutor(workers) as pool:
        yield _measuring(lambda: pool.map(f"{__name__}:{name}", items, chunksize=CHUNK), items), []


@contextlib.contextmanager
def _multiprocessing(name: str, items: list[Any]) -> Iterator[Entered]:
    with peers.spawned.Pool(2) as pool:
        yield _measuring(lambda: pool.imap(globals()[name], items, CHUNK), items), []
        pool.close()
        pool.join()


@contextlib.contextmanager
def _processes(name: str, items: list[Any]) -> Iterator[Entered]:
    with ProcessPoolExecutor(2, peers.spawned) as pool:
        yield _measuring(lambda: pool.map(globals()[name], items, chunksize=CHUNK), items), []
