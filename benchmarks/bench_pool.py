"""A pool: tasks that do nothing, many at once with one and two workers, and one at a time.

What is seen is the way there and back. The floor is what encoding and dispatching alone cost. For the peers see
`peers`; each pool runs the same function, which adds one to its argument.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import cloister
from benchmarks import dispatch, harness, peers
from benchmarks.harness import Entered, Table

MANY = 2000
ALONE = 200
ROUNDS = 10
FLOOR = "encode + dispatch"


def run() -> Iterator[Table]:
    """One table for each number of workers, and one for a task alone."""
    for workers in (1, 2):
        yield _table(f"Pool: one of {MANY:,} tasks in a row, workers: {workers}", workers, _in_a_row, MANY)
    yield _table("Pool: one task, submitted and waited for, workers: 1", 1, _alone, ALONE)


def _table(title: str, workers: int, measuring: Callable[..., Any], count: int) -> Table:
    count = harness.calls(count)
    return harness.contest(
        title,
        {
            FLOOR: partial(dispatch.dispatched, count),
            "cloister, DomainPoolExecutor": partial(_cloister, workers, measuring, count),
            "ProcessPoolExecutor": partial(_processes, workers, measuring, count),
            "loky": partial(_loky, workers, measuring, count),
            "multiprocessing.Pool": partial(_multiprocessing, workers, measuring, count),
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        extra=lambda _, seconds: {"tasks/s": 1 / seconds},
    )


def _in_a_row(submit: Callable[..., Any], result: Callable[[Any], Any], count: int) -> Callable[[], list[float]]:
    _warm(submit, result)

    def measure() -> list[float]:
        begun = time.perf_counter()
        futures = [submit(number) for number in range(count)]
        results = [result(future) for future in futures]
        took = time.perf_counter() - begun
        assert results[-1] == count
        return [took / count]

    return measure


def _alone(submit: Callable[..., Any], result: Callable[[Any], Any], count: int) -> Callable[[], list[float]]:
    _warm(submit, result)

    def measure() -> list[float]:
        times = []
        for number in range(count):
            begun = time.perf_counter()
            result(submit(number))
            times.append(time.perf_counter() - begun)
        return times

    return measure


def _warm(submit: Callable[..., Any], result: Callable[[Any], Any]) -> None:
    """Let all workers be there."""
    for future in [submit(number) for number in range(500)]:
        result(future)


def _of_future(future: Any) -> Any:
    return future.result()


@contextlib.contextmanager
def _cloister(workers: int, measuring: Callable[..., Any], count: int) -> Iterator[Entered]:
    with cloister.DomainPoolExecutor(workers) as pool:
        yield measuring(lambda number: pool.submit(peers.ADD, number), _of_future, count), []


@contextlib.contextmanager
def _processes(workers: int, measuring: Callable[..., Any], count: int) -> Iterator[Entered]:
    with ProcessPoolExecutor(workers, peers.spawned) as pool:
        yield measuring(lambda number: pool.submit(peers.add, number), _of_future, count), []


@contextlib.contextmanager
def _loky(workers: int, measuring: Callable[..., Any], count: int) -> Iterator[Entered]:
    pool = harness.need("loky").ProcessPoolExecutor(workers)
    try:
        yield measuring(lambda number: pool.submit(peers.add, number), _of_future, count), []
    finally:
        pool.shutdown()


@contextlib.contextmanager
def _multiprocessing(workers: int, measuring: Callable[..., Any], count: int) -> Iterator[Entered]:
    with peers.spawned.Pool(workers) as pool:
        yield (
            measuring(lambda number: pool.apply_async(peers.add, (number,)), lambda answer: answer.get(), count),
            [],
        )
        pool.close()
        pool.join()
