"""Many at once: threads, calls in both directions, random schedules on a loop. None is lost or answered twice."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from pathlib import Path

import pytest

import cloister
from tests.soak import both_ways
from tests.soak.loop_schedules import LoopSchedule

MODULES = Path(__file__).parent.parent / "modules"
COUNT = int(os.environ.get("CLOISTER_SCHEDULES", "2"))
"""Schedules of each kind. ``python -m tests.soak.loop_schedules`` runs more."""
JOIN_S = 60.0


def test_sixty_four_threads_use_one_domain() -> None:
    """64 threads call, call back and submit on one domain: each gets its own answers, in its own order."""
    got: dict[int, list[object]] = {}
    start = threading.Barrier(64, timeout=JOIN_S)

    def work(index: int, domain: cloister.Domain) -> None:
        start.wait()
        found: list[object] = []
        for step in range(5):
            value = index * 100 + step
            future = domain.submit("errands:echo", value)
            found += [domain.call("errands:echo", value), domain.call("errands:call", lambda value=value: value)]
            found.append(future.result(JOIN_S))
        got[index] = found

    with cloister.Domain("many", setup=cloister.Setup(path=[MODULES])) as domain:
        threads = [threading.Thread(target=work, args=(index, domain)) for index in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(JOIN_S)
        assert not domain.status().calls
    assert got == {index: [index * 100 + step for step in range(5) for _ in range(3)] for index in range(64)}


def test_ten_thousand_calls_are_open_at_once() -> None:
    """10,000 awaited calls are open in one domain at the same moment; each gets its own answer, in bounded memory.

    None of them ends before all have begun, each once.
    """
    count = 10_000

    async def main() -> None:
        async with cloister.aio.Domain("many", setup=cloister.Setup(path=[MODULES])) as domain:
            await domain.call("coroutines:echo", 0)
            before = (await domain.call("coroutines:memory"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            calls = [domain.submit("coroutines:all_here", number, count) for number in range(count)]
            answers = await asyncio.wait_for(asyncio.gather(*calls), JOIN_S)
            assert [number for number, _ in answers] == list(range(count))
            assert sorted(place for _, place in answers) == list(range(1, count + 1))
            after = (await domain.call("coroutines:memory"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            assert not domain.status().calls
        for there, now in zip(before, after, strict=True):
            assert now - there < 200 * 1024, "KiB"  # some 10 KiB for each call

    asyncio.run(main())


@pytest.mark.slow
def test_both_ways_with_threads() -> None:
    """S12: calls down and calls up, 4,000 each way at the same time; none lost, those of one thread in their order."""
    both_ways.with_threads(4000)


@pytest.mark.slow
def test_both_ways_on_a_loop() -> None:
    """S12: the same on an event loop, where the call-backs are coroutines."""
    asyncio.run(both_ways.on_a_loop(4000))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 1, 2])
@pytest.mark.parametrize("kill", [False, True])
def test_random_schedules_on_a_loop(kill: bool, limit: int | None) -> None:
    """Calls, call-backs, streams, time-outs, cancels and a kill in random order: each call ends once, as it should."""
    for seed in range(COUNT):
        schedule = LoopSchedule(seed, kill=kill, limit=limit)
        asyncio.run(schedule.run())
        assert schedule.wrong == [], f"seed {seed}"
        assert kill or schedule.ends["answered"]
