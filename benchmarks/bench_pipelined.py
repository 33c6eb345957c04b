"""Many calls open at once: futures that are submitted in a row and then waited for, 2,000 at a time.

The floor is what encoding and dispatching alone cost; a bare program, with a future of the standard library for each
call and nothing else, shows what Python leaves of it. Pyro5 sends all of them in one message (its batch), execnet has
no futures and is given all numbers before it is asked for the first answer. Our own pool is in `bench_pool`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import cloister
from benchmarks import bare, dispatch, harness, peers
from benchmarks.harness import Entered, Table

MANY = 2000
ROUNDS = 10


def run() -> Iterator[Table]:
    """One table."""
    yield harness.contest(
        f"Pipelined: one of {MANY:,} calls that are open at once",
        {
            "encode + dispatch": partial(dispatch.dispatched, MANY),
            "a bare program": partial(bare.submitted, peers.ADD, MANY),
            "cloister, Domain.submit": submitted,
            "ProcessPoolExecutor(1)": _processes,
            "loky(1)": _loky,
            "Pyro5, batch": _pyro,
            "execnet": _execnet,
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        extra=lambda _, seconds: {"calls/s": 1 / seconds},
    )


def _submitting(submit: Callable[..., Any], what: Any) -> Callable[[], list[float]]:
    submit(what, 1).result()

    def measure() -> list[float]:
        begun = time.perf_counter()
        futures = [submit(what, number) for number in range(MANY)]
        results = [future.result() for future in futures]
        took = time.perf_counter() - begun
        assert results[-1] == MANY
        return [took / MANY]

    return measure


@contextlib.contextmanager
def submitted() -> Iterator[Entered]:
    with cloister.Domain("bench") as domain:
        yield _submitting(domain.submit, peers.ADD), []


@contextlib.contextmanager
def _processes() -> Iterator[Entered]:
    with ProcessPoolExecutor(1, peers.spawned) as pool:
        yield _submitting(pool.submit, peers.add), []


@contextlib.contextmanager
def _loky() -> Iterator[Entered]:
    pool = harness.need("loky").ProcessPoolExecutor(1)
    try:
        yield _submitting(pool.submit, peers.add), []
    finally:
        pool.shutdown()


@contextlib.contextmanager
def _pyro() -> Iterator[Entered]:
    with peers.pyro() as (connect, pid), connect() as call:
        batched: Any = call

        def measure() -> list[float]:
            begun = time.perf_counter()
            batch = batched.batch()
            for number in range(MANY):
                batch.add(number)
            results = list(batch())
            took = time.perf_counter() - begun
            assert results[-1] == MANY
            return [took / MANY]

        yield measure, [pid]


@contextlib.contextmanager
def _execnet() -> Iterator[Entered]:
    with peers.execnet() as (connect, pid), connect() as call:
        channel: Any = call.channel  # type: ignore[attr-defined]  # see there

        def measure() -> list[float]:
            begun = time.perf_counter()
            for number in range(MANY):
                channel.send(number)
            results = [channel.receive() for _ in range(MANY)]
            took = time.perf_counter() - begun
            assert results[-1] == MANY
            return [took / MANY]

        yield measure, [pid]
