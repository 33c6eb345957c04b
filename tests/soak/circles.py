"""Random graphs of waits: threads or tasks take exclusive places, one inside of the other, in any order.

The places are turns of synchronized objects, in the host, in domains and in domains that domains have made, and the
lanes of limited domains. They are waited for directly, by threads that are joined or of an executor, and by tasks in
groups, shields and threads. Whenever a call is refused with DeadlockDetected, the strands must be in a circle at that
moment, as they have noted it themselves; and nothing hangs, so every circle was found.

``python -m tests.soak.circles 500`` runs so many of each side as a program of its own; the suite runs a few
(tests/conformance/test_circles.py).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cloister
from cloister.errors import DeadlockDetected

try:
    import anyio
except ImportError:  # an extra, which is not there for every Python
    anyio = None  # type: ignore[assignment]  # it is asked for before use

__all__ = ["Tasks", "Threads", "main"]

MODULES = str(Path(__file__).parent.parent / "modules")
FOUND_S = 30.0
"""How long all strands of one schedule may take together. A circle is found in seconds, a busy machine needs more."""

WORKERS = 32
"""Threads of an executor: enough for each strand, however deep."""

SUBMITTED = ("again", "nested answer")
"""Places that a submitted call takes, whose answer the strand waits for."""

DOMAINS = {"one": None, "two": None, "outer": None, "narrow": 1, "pair": 2}
"""With how many calls at a time each runs."""

Hold = Callable[[Callable[[], Any]], Any]


@dataclass
class Truth:
    """What the strands have noted: that they want a place before they ask for it, that they have it when they have."""

    places: dict[str, int]
    wants: dict[int, str] = field(default_factory=dict)
    held: dict[str, list[int]] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    def plan(self, seed: int, strands: int) -> list[list[list[str]]]:
        """What each strand does: twice it takes some places, one inside the other."""
        chance = random.Random(seed)
        names = chance.sample(list(self.places), chance.randrange(2, 5))
        return [
            [chance.sample(names, chance.randrange(1, min(3, len(names)) + 1)) for _ in range(2)]
            for _ in range(strands)
        ]

    def want(self, strand: int, place: str) -> None:
        with self.lock:
            self.wants[strand] = place

    def got(self, strand: int, place: str) -> int:
        """A strand has its place. Returns which strand goes on inside: a submitted call is one of its own."""
        with self.lock:
            self.wants.pop(strand, None)
            inside = strand
            if place in SUBMITTED:
                inside = next(self.numbers)
                self.wants[strand] = f"answer of {inside}"
                self.held[f"answer of {inside}"] = [inside]
            self.held.setdefault(place, []).append(inside)
            return inside

    def give_back(self, inside: int, place: str) -> None:
        with self.lock:
            self.held[place].remove(inside)
            self.held.pop(f"answer of {inside}", None)

    def over(self, strand: int) -> None:
        """A call has returned."""
        with self.lock:
            self.wants.pop(strand, None)

    @property
    def free(self) -> bool:
        """Whether nobody has anything: a submitted call goes on where the wait for its answer was refused."""
        with self.lock:
            return not any(self.held.values())

    def refused(self, strand: int, error: BaseException) -> None:
        """A wait has ended with an error: that was right where the strand could never have got its place."""
        how = "refused" if isinstance(error, DeadlockDetected) else "cancelled"
        with self.lock:
            self.errors.append(f"strand {strand}: {error!r}")
            if not self.stuck(strand):
                errors = "\n  ".join(self.errors)
                wants = f"it wanted {self.wants}, held were {self.held}"
                self.wrong.append(f"strand {strand} was {how}: {wants}; errors were\n  {errors}")
            self.wants.pop(strand, None)
            self.ends[how] += 1

    def stuck(self, strand: int) -> bool:
        seen, ahead = {strand}, [strand]
        while ahead:
            place = self.wants.get(ahead.pop())
            if place is None or len(self.held.get(place, ())) < self.places.get(place, 1):
                return False
            for holder in self.held[place]:
                if holder not in seen:
                    seen.add(holder)
                    ahead.append(holder)
        return True


@cloister.synchronized
class Desk:
    """A synchronized object of the host."""

    def call(self, function: Callable[[], Any]) -> Any:
        return function()


class Threads:
    """The strands are threads."""

    def __init__(self) -> None:
        path = cloister.Setup(path=[MODULES])
        self.domains = [cloister.Domain(name, setup=path, max_concurrency=n) for name, n in DOMAINS.items()]
        self.executor = ThreadPoolExecutor(WORKERS)
        one, two, outer, narrow, pair = self.domains
        nested: list[str] = outer.call("nested_places:make")
        self.holds: dict[str, Hold] = {
            "host": Desk().call,
            "one": one.create("hotel:HotelBroker").call,
            "two": two.create("hotel:HotelBroker").call,
            "again": self._submitted(two.create("hotel:HotelBroker").call),
            "joined": self._joined(one.create("hotel:HotelBroker").call),
            "executor": self._executed(two.create("hotel:HotelBroker").call),
            "narrow": lambda function: narrow.call("troubles:call_back", function),
            "pair": lambda function: pair.call("troubles:call_back", function),
        }
        for name in nested:
            self.holds[f"nested {name}"] = partial(outer.call, "nested_places:hold", name)

    @staticmethod
    def _submitted(call: Any) -> Hold:
        return lambda function: cloister.submit(call, function).result()

    @staticmethod
    def _joined(call: Any) -> Hold:
        """A thread makes the call, and is joined."""

        def hold(function: Callable[[], Any]) -> Any:
            outcome: Future[Any] = Future()

            def work() -> None:
                try:
                    outcome.set_result(call(function))
                except BaseException as error:
                    outcome.set_exception(error)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join()
            return outcome.result()

        return hold

    def _executed(self, call: Any) -> Hold:
        """A thread of an executor makes the call."""
        return lambda function: self.executor.submit(call, function).result()

    def run(self, seed: int, strands: int = 4) -> Truth:
        """Run one schedule."""
        truth = Truth({name: 2 if name == "pair" else 1 for name in self.holds})
        plans = truth.plan(seed, strands)

        def work(strand: int) -> None:
            pauses = random.Random(seed * 1000 + strand)
            for plan in plans[strand]:
                try:
                    take(strand, plan, pauses)
                except BaseException as error:
                    with truth.lock:
                        truth.wrong.append(f"strand {strand}: {error!r}")

        def take(strand: int, plan: list[str], pauses: random.Random) -> None:
            if not plan:
                truth.ends["went through"] += 1
                return
            place = plan[0]

            def inside() -> None:
                within = truth.got(strand, place)
                try:
                    threading.Event().wait(pauses.random() * 0.02)
                    take(within, plan[1:], pauses)
                finally:
                    truth.give_back(within, place)

            truth.want(strand, place)
            try:
                self.holds[place](inside)
                truth.over(strand)
            except DeadlockDetected as error:
                truth.refused(strand, error)

        threads = [threading.Thread(target=work, args=(strand,), daemon=True) for strand in range(strands)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(FOUND_S)
        end = time.monotonic() + FOUND_S
        while not truth.free and time.monotonic() < end:
            time.sleep(0.01)
        if any(thread.is_alive() for thread in threads) or not truth.free:
            truth.wrong.append(f"a circle was not found: they want {truth.wants}, held are {truth.held}")
        return truth

    def close(self) -> None:
        """End the domains and the threads."""
        for domain in self.domains:
            domain.kill()
            domain.__exit__()
        self.executor.shutdown()


class Tasks:
    """The strands are tasks of one loop; `run` and `close` are awaited."""

    def __init__(self) -> None:
        self.domains: list[cloister.aio.Domain] = []
        self.holds: dict[str, Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]] = {}

    async def begin(self) -> None:
        """Make the domains."""
        path = cloister.Setup(path=[MODULES])
        self.domains = [cloister.aio.Domain(name, setup=path, max_concurrency=n) for name, n in DOMAINS.items()]
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKERS))
        one, two, outer, narrow, pair = self.domains
        brokers = [await domain.create("hotel:HotelBroker") for domain in (one, two, two, one, two, one, two)]
        nested: list[str] = await outer.call("nested_places:make")
        self.holds = {
            "one": brokers[0].call,
            "two": brokers[1].call,
            "gathered": self._gathered(brokers[2].call),
            "grouped": self._grouped(brokers[3].call),
            "shielded": self._shielded(brokers[4].call),
            "on a thread": self._on_a_thread(brokers[5].call),
            "narrow": lambda function: narrow.call("troubles:call_back", function),
            "pair": lambda function: pair.call("troubles:call_back", function),
        }
        if anyio is not None:
            self.holds["of anyio"] = self._of_anyio(brokers[6].call)
        for name in nested:
            self.holds[f"nested {name}"] = partial(outer.call, "nested_places:hold", name)

    @staticmethod
    def _gathered(call: Any) -> Any:
        async def hold(function: Any) -> Any:
            return (await asyncio.gather(asyncio.sleep(0.05), asyncio.create_task(call(function))))[1]

        return hold

    @staticmethod
    def _grouped(call: Any) -> Any:
        async def hold(function: Any) -> Any:
            try:
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(call(function))
            except* DeadlockDetected as errors:
                raise errors.exceptions[0] from None
            return task.result()

        return hold

    @staticmethod
    def _shielded(call: Any) -> Any:
        async def hold(function: Any) -> Any:
            task = asyncio.ensure_future(call(function))
            await asyncio.wait([asyncio.shield(task)])
            return task.result()

        return hold

    @staticmethod
    def _on_a_thread(call: Any) -> Any:
        async def made(function: Any) -> Any:
            return await call(function)

        async def hold(function: Any) -> Any:
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(made(function), loop).result())

        return hold

    @staticmethod
    def _of_anyio(call: Any) -> Any:
        async def made(function: Any, outcome: asyncio.Future[Any]) -> None:
            try:
                outcome.set_result(await call(function))
            except DeadlockDetected as error:
                outcome.set_exception(error)

        async def hold(function: Any) -> Any:
            outcome = asyncio.get_running_loop().create_future()
            async with anyio.CapacityLimiter(1), anyio.create_task_group() as group:
                group.start_soon(made, function, outcome)
            return outcome.result()

        return hold

    async def run(self, seed: int, strands: int = 4) -> Truth:
        """Run one schedule."""
        truth = Truth({name: 2 if name == "pair" else 1 for name in self.holds})
        plans = truth.plan(seed, strands)

        async def work(strand: int) -> None:
            pauses = random.Random(seed * 1000 + strand)
            for plan in plans[strand]:
                try:
                    await take(strand, plan, pauses)
                except Exception as error:
                    truth.wrong.append(f"strand {strand}: {error!r}")

        async def take(strand: int, plan: list[str], pauses: random.Random) -> None:
            if not plan:
                truth.ends["went through"] += 1
                return
            place = plan[0]
            inner: list[str] = []

            async def inside() -> None:
                within = truth.got(strand, place)
                try:
                    await asyncio.sleep(pauses.random() * 0.02)
                    await take(within, plan[1:], pauses)
                except asyncio.CancelledError:
                    inner.append("cancelled")
                    raise
                finally:
                    truth.give_back(within, place)

            truth.want(strand, place)
            try:
                await self.holds[place](inside)
                truth.over(strand)
            except DeadlockDetected as error:
                if not inner:  # else what it awaited was given up, and has been judged
                    truth.refused(strand, error)
            except asyncio.CancelledError as error:
                truth.refused(strand, error)
                raise

        works = [asyncio.create_task(work(strand)) for strand in range(strands)]
        _, late = await asyncio.wait(works, timeout=FOUND_S)
        end = time.monotonic() + FOUND_S
        while not late and not truth.free and time.monotonic() < end:
            await asyncio.sleep(0.01)
        if late or not truth.free:
            truth.wrong.append(f"a circle was not found: they want {truth.wants}, held are {truth.held}")
            for each in late:
                each.cancel()
            if late:
                await asyncio.wait(late)
        return truth

    async def close(self) -> None:
        """End the domains."""
        for domain in self.domains:
            await domain.kill()
            await domain.__aexit__()


def with_threads(count: int, first: int = 1) -> tuple[Counter[str], list[str]]:
    """Run so many schedules of threads; return how they ended, and what was wrong."""
    side, ends, wrong = Threads(), Counter[str](), []
    try:
        for seed in range(first, first + count):
            truth = side.run(seed)
            ends += truth.ends
            wrong += [f"seed {seed}: {each}" for each in truth.wrong]
            if wrong:
                break
    finally:
        side.close()
    return ends, wrong


async def with_tasks(count: int, first: int = 1) -> tuple[Counter[str], list[str]]:
    """Run so many schedules of tasks; return how they ended, and what was wrong."""
    side, ends, wrong = Tasks(), Counter[str](), []
    try:
        await side.begin()
        for seed in range(first, first + count):
            truth = await side.run(seed)
            ends += truth.ends
            wrong += [f"seed {seed}: {each}" for each in truth.wrong]
            if wrong:
                break
    finally:
        await side.close()
    return ends, wrong


def main(count: int, first: int = 1) -> int:
    """Run `count` schedules of each side; print what was seen; return 0 where all was right."""
    failed = 0
    for name, (ends, wrong) in {
        "threads": with_threads(count, first),
        "tasks": asyncio.run(with_tasks(count, first)),
    }.items():
        print(f"{count} schedules of {name} from {first}: {dict(ends)}")
        for line in wrong:
            print("WRONG:", line)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3] or ["200"])))
