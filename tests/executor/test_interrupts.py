"""Ctrl-C at each place in the middle of `submit`, `map` and `cancel` of a pool: nothing is left, or done twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import cloister
from tests.stepping import each_interrupt, stepped

pytestmark = stepped
PATHS = "/cloister/executor/", "/cloister/lanes/", "/cloister/conditions.py", "/concurrent/futures/_base.py"
PATIENCE_S = 10.0
Make = Callable[..., cloister.DomainPoolExecutor]


def open_work(pool: cloister.DomainPoolExecutor) -> int:
    """How much of a pool is not done, once no more of it gets done by itself."""
    force: Any = pool._force
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and (force._open or force.pending or any(w.queue for w in force.workers)):
        time.sleep(0.0005)
    return int(force._open)


@pytest.mark.parametrize("count", [1, 4])
def test_task_is_not_left_behind_wherever_an_interrupt_comes(make_pool: Make, marks: Path, count: int) -> None:
    """At each place of `submit`: without anything that follows, each task that was taken in is done, once."""
    pool = make_pool(1)
    assert [pool.submit("operator:neg", 1).result(PATIENCE_S) for _ in range(8)] == [-1] * 8
    workers = set(pool._force.workers)
    number = 0

    def submit() -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            pool.submit("chores:note", str(marks), str(number))

    for _ in each_interrupt(submit, *PATHS):
        assert open_work(pool) == 0
    assert open_work(pool) == 0
    noted = [int(line) for line in marks.read_text().split()]
    assert len(noted) == len(set(noted))
    assert set(range(number - count + 1, number + 1)) <= set(noted)
    assert set(pool._force.workers) == workers


def test_map_that_is_interrupted_leaves_nothing_behind(make_pool: Make) -> None:
    """At each place of `map`: the chunks that were sent are done or cancelled, and the next map is whole."""
    pool = make_pool(2)
    assert list(pool.map("operator:neg", range(8))) == [-n for n in range(8)]
    for _ in each_interrupt(lambda: pool.map("operator:neg", range(4), chunksize=2), *PATHS):
        assert open_work(pool) == 0
    assert list(pool.map("operator:neg", range(8), chunksize=3)) == [-n for n in range(8)]


def test_future_that_is_being_cancelled_ends_wherever_an_interrupt_comes(make_pool: Make) -> None:
    """At each place of `cancel`: the future is as before, or over; and the pool counts it once."""
    pool = make_pool(1, kill_after=None)
    assert pool.submit("operator:neg", 1).result(PATIENCE_S) == -1
    futures: list[Future[Any]] = []

    def cancel() -> None:
        futures[-1].cancel()

    futures.append(pool.submit("errands:python_loop"))
    for _ in each_interrupt(cancel, *PATHS):
        if not futures[-1].done():
            assert futures[-1].cancel()
        assert open_work(pool) == 0
        futures.append(pool.submit("errands:python_loop"))
    assert open_work(pool) == 0
    assert all(future.cancelled() for future in futures)
