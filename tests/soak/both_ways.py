"""Calls in both directions at the same time on one domain: none is lost, each gets its own answer, memory is bounded.

``python -m tests.soak.both_ways 100000`` makes so many each way, with threads and on an event loop, as a program of its
own; the suite makes a few thousand (tests/conformance/test_many.py).
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import sys
import threading
from pathlib import Path

import cloister

__all__ = ["main", "on_a_loop", "with_threads"]

MODULES = Path(__file__).parent.parent / "modules"
THREADS = 4
OPEN = 200
WAIT_S = 600.0


def with_threads(count: int) -> None:
    """So many calls down from some threads, while threads of the guest make so many up."""
    seen: list[int] = []
    wrong: list[str] = []
    with cloister.Domain("both", setup=cloister.Setup(path=[MODULES])) as domain:
        up = [domain.submit("callers:count_up", seen.append, count // THREADS, at) for at in range(THREADS)]

        def down(at: int) -> None:
            for number in range(at, count, THREADS):
                if (answer := domain.call("errands:echo", number)) != number:
                    wrong.append(f"{answer!r} instead of {number}")

        threads = [threading.Thread(target=down, args=(at,)) for at in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        for future in up:
            future.result(WAIT_S)
    _check(seen, count, wrong)


async def on_a_loop(count: int) -> None:
    """The same on an event loop, with so many calls open at once, and coroutines as call-backs."""
    seen: list[int] = []
    wrong: list[str] = []

    async def take(number: int) -> None:
        await asyncio.sleep(0)
        seen.append(number)

    numbers = itertools.count()

    async def down(domain: cloister.aio.Domain) -> None:
        while (number := next(numbers)) < count:
            if (answer := await domain.call("errands:echo", number)) != number:
                wrong.append(f"{answer!r} instead of {number}")

    async with cloister.aio.Domain("both", setup=cloister.Setup(path=[MODULES])) as domain:
        up = [domain.submit("callers:count_up", take, count // THREADS, at) for at in range(THREADS)]
        await asyncio.gather(*(down(domain) for _ in range(OPEN)))
        await asyncio.gather(*up)
    _check(seen, count, wrong)


def _check(seen: list[int], count: int, wrong: list[str]) -> None:
    if wrong:
        raise AssertionError(f"{len(wrong)} answers were wrong: {wrong[:3]}")
    if sorted(seen) != list(range(count)):
        raise AssertionError(f"{count} calls were made up, {len(seen)} arrived, {len(set(seen))} of them different")
    for at in range(THREADS):
        mine = [number for number in seen if number % THREADS == at]
        if mine != sorted(mine):
            raise AssertionError("calls of one thread of the guest arrived out of their order")


def main() -> None:
    """Run it from the command line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    count -= count % THREADS
    with_threads(THREADS * 100)
    asyncio.run(on_a_loop(THREADS * 100))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with_threads(count)
    asyncio.run(on_a_loop(count))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{count} calls each way, twice: {before} MiB before, at most {after} MiB")
    if after - before > 64:
        raise SystemExit("that grows with the calls")


if __name__ == "__main__":
    main()
