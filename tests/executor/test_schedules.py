"""Random schedules: whatever tasks do, whoever kills or cancels them and when, each ends once, and nothing is left."""

from __future__ import annotations

import operator
import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import DomainCrashed, MarshalError, RemoteError

Make = Callable[..., cloister.DomainPoolExecutor]
PATIENCE_S = 30.0
TASKS = 500

KINDS: dict[str, tuple[int, tuple[Any, ...], tuple[type, ...]]] = {
    "plain": (50, (operator.neg,), ()),
    "noted": (30, ("chores:note",), ()),
    "exits": (1, ("os:_exit",), (DomainCrashed,)),
    "unpicklable": (2, ("chores:raise_unpicklable",), (RemoteError,)),
    "cyclic": (2, ("chores:cycle_of", 1), (MarshalError,)),
    "leaves": (1, ("chores:leave_the_interpreter",), (RemoteError,)),
    "late": (3, ("chores:double_late",), ()),
    "coroutine": (2, ("chores:double_on_a_loop",), ()),
}
"""How often, what, and with which errors a task of each kind ends."""


@pytest.mark.parametrize("seed", range(3))
def test_every_task_of_a_random_schedule_ends_once(make_pool: Make, marks: Path, seed: int) -> None:
    """Kills, exits, cancels in each state, results that can't travel, callbacks that submit, workers that are replaced:
    each task ends as it must, each callback runs once, and none is begun twice."""
    chance = random.Random(seed)
    pids: list[int] = []
    pool = make_pool(
        1 + seed,
        kill_after=0.1,
        max_tasks_per_worker=(None, 50, 20)[seed],
        on={cloister.events.Ready: lambda event: pids.append(event.pid)},
    )
    names = list(KINDS)
    weights = [weight for weight, _, _ in KINDS.values()]
    futures: list[tuple[str, int, Future[Any]]] = []
    more: list[Future[Any]] = []
    called: list[int] = []
    timers: list[threading.Timer] = []

    def call_back(number: int) -> None:
        called.append(number)
        more.append(pool.submit(operator.neg, number))

    with_callbacks = 0
    for number in range(TASKS):
        kind = chance.choices(names, weights)[0]
        what = KINDS[kind][1]
        extra: tuple[Any, ...] = {"noted": (str(marks), number), "late": (number, 0.002), "leaves": ()}.get(
            kind, (number % 256 or 1,)
        )
        future: Future[Any] = pool.submit(*what, *((1,) if kind == "cyclic" else extra))
        futures.append((kind, number, future))
        if chance.random() < 0.1:
            future.add_done_callback(lambda _, number=number: call_back(number))  # type: ignore[misc]  # a default
            with_callbacks += 1
        if chance.random() < 0.04:
            future.cancel()
        elif chance.random() < 0.02:
            timers.append(threading.Timer(chance.random() * 0.05, future.cancel))
            timers[-1].start()
        if chance.random() < 0.01 and pids:
            try:
                os.kill(pids.pop(), signal.SIGKILL)
            except ProcessLookupError:
                pass
    assert wait([future for _, _, future in futures], PATIENCE_S).not_done == set()
    for timer in timers:
        timer.join(PATIENCE_S)
    if seed == 2:
        pool.shutdown(wait=False)  # callbacks that submit are refused, and logged
    for kind, number, future in futures:
        if future.cancelled():
            continue
        error = future.exception()
        if kind == "plain" and error is None:
            assert future.result() == -(number % 256 or 1)
        expected = KINDS[kind][2]
        if error is None:
            assert expected == ()
        else:
            assert isinstance(error, (DomainCrashed, *expected))
    begun = marks.read_text().split()
    assert len(begun) == len(set(begun))
    pool.shutdown()
    assert len(called) == with_callbacks == len(set(called))
