"""Random schedules of calls, call-backs, drops, time-outs, cancels and kills, from several threads on one domain.

``python -m tests.soak.schedules 500`` runs as a program of its own; the suite runs a few (tests/domain). Every call has
a value that only it can be answered with. It must end exactly once: with its own value, or with an error that fits what
was done to it or to its domain.

What schedules of every kind have in common is here too: `Course` and `main`. Those of an event loop are in
`loop_schedules`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cloister
from cloister.errors import CallCancelled, CallTimeout, DomainCrashed, DomainUnloaded, StartFailed
from tests.soak.kills import Usage

__all__ = ["JOIN_S", "MODULES", "OVER", "Course", "Schedule", "main"]

MODULES = str(Path(__file__).parent.parent / "modules")
JOIN_S = 30.0

OVER = (DomainCrashed, DomainUnloaded, StartFailed)
GIVEN_UP = (CallTimeout, CallCancelled, CancelledError, asyncio.CancelledError)


@dataclass
class Course:
    """One run on one domain, and what came of its calls."""

    seed: int
    kill: bool = False
    limit: int | None = None
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def answered(self, what: str, got: object, value: object) -> None:
        """A call has ended with a value."""
        if got != value:
            self.wrong.append(f"{what}: {got!r} instead of {value!r}")
        self.ends["answered"] += 1

    def failed(self, what: str, error: BaseException, given_up: bool) -> None:
        """A call has ended with an error; `given_up` where somebody has cancelled it, or it had a time-out."""
        if isinstance(error, OVER):
            right, end = self.kill, "over"
        elif isinstance(error, GIVEN_UP):
            right, end = given_up, "given up"
        else:
            right, end = False, "failed"
        if not right:
            self.wrong.append(f"{what}: {error!r}")
        self.ends[end] += 1


@dataclass
class Schedule(Course):
    """So many threads, each with so many steps."""

    threads: int = 4
    steps: int = 25

    def run(self) -> Schedule:
        """Run it; `wrong` is empty where everything was right."""
        chance = random.Random(self.seed)
        domain = cloister.Domain(
            "scheduled",
            setup=cloister.Setup(path=[MODULES]),
            echo=False,
            max_concurrency=self.limit,
            stop_timeout=20,
        )
        try:
            domain.wait_ready(JOIN_S)
            seeds = [chance.random() for _ in range(self.threads)]
            workers = [threading.Thread(target=self._work, args=(domain, seed), name="scheduled") for seed in seeds]
            for worker in workers:
                worker.start()
            if self.kill:
                time.sleep(chance.random() * 0.1)
                domain.kill()
            for worker in workers:
                worker.join(JOIN_S)
                if worker.is_alive():
                    self.wrong.append("a thread hangs")
                    domain.kill()
            if not self.kill and domain.with_options(timeout=JOIN_S).call("operator:add", 1, 1) != 2:
                self.wrong.append("the domain does not go on")
        finally:
            domain.kill()
        return self

    def _work(self, domain: cloister.Domain, seed: float) -> None:
        chance = random.Random(seed)
        proxy: Any = None
        futures: list[tuple[Future[Any], object, bool, list[int]]] = []
        for _ in range(self.steps):
            try:
                if proxy is None:
                    proxy = domain.create("errands:Touched")
                elif chance.random() < 0.2:
                    proxy = None  # dropped at any moment, also with one-way calls under way
                else:
                    cloister.one_way(proxy.touch)(chance.random())
            except OVER:
                proxy = None
            step = chance.choice([self._plain, self._nested, self._late, self._own_thread, self._submitted])
            step(domain, chance, futures)
        for future, value, given_up, calls in futures:
            self._judge("submitted", partial(future.result, JOIN_S), value, given_up)
            deadline = time.monotonic() + JOIN_S
            while not calls and time.monotonic() < deadline:
                time.sleep(0.001)  # its call-backs run a moment after those who wait
            if calls != [1]:
                self.wrong.append(f"a future was done {len(calls)} times")

    def _judge(self, what: str, call: Callable[[], Any], value: object, given_up: bool) -> None:
        """Make a call, and look how it ends."""
        try:
            got = call()
        except BaseException as error:
            self.failed(what, error, given_up)
        else:
            self.answered(what, got, value)

    def _plain(self, domain: cloister.Domain, chance: random.Random, _: object) -> None:
        value = chance.random()
        self._judge("call", lambda: domain.call("errands:echo", value), value, given_up=False)

    def _nested(self, domain: cloister.Domain, chance: random.Random, _: object) -> None:
        value = chance.random()

        def up(depth: int) -> Any:
            if depth:
                return domain.call("errands:call", up, depth - 1)
            if chance.random() < 0.3:  # an inner call is given up, the ones around it are not
                self._late(domain, chance, None)
            return domain.call("errands:echo", value)

        self._judge("nested", lambda: up(chance.randrange(4)), value, given_up=False)

    def _late(self, domain: cloister.Domain, chance: random.Random, _: object) -> None:
        value = chance.random()
        limit = chance.random() ** 2 * 0.004
        if chance.random() < 0.3:
            call = lambda: domain.with_options(timeout=limit).call("errands:python_loop")  # noqa: E731 - one of two
        else:
            call = lambda: domain.with_options(timeout=limit).call("errands:echo", value)  # noqa: E731 - one of two
        self._judge("late", call, value, given_up=True)

    def _own_thread(self, domain: cloister.Domain, chance: random.Random, _: object) -> None:
        if self.limit == 1:
            return  # the thread over there would wait for the place that its caller has
        value = chance.random()
        answer = lambda: domain.call("errands:echo", value)  # noqa: E731 - it needs the value of this call
        self._judge("own thread", lambda: domain.call("errands:call_from_thread", answer), [value], given_up=False)

    def _submitted(self, domain: cloister.Domain, chance: random.Random, futures: list[Any]) -> None:
        value, calls = chance.random(), []
        given_up = chance.random() < 0.5
        loop = given_up and chance.random() < 0.3
        try:
            future = domain.submit("errands:python_loop") if loop else domain.submit("errands:echo", value)
        except OVER:
            self.ends["over"] += 1
            return
        future.add_done_callback(lambda _: calls.append(1))
        if given_up:
            for _ in range(chance.randrange(20)):
                time.sleep(0)
            future.cancel()
        futures.append((future, value, given_up, calls))


Run = Callable[[int, bool, int | None], Course]
"""Runs a schedule with a seed, that kills its domain or not, whose domain has so many lanes."""


def run_many(run: Run, count: int, seed: int = 1) -> tuple[Counter[str], list[str]]:
    """Run so many schedules of all kinds; return how the calls ended, and what was wrong."""
    chance, ends, wrong = random.Random(seed), Counter[str](), []
    for number in range(count):
        course = run(chance.randrange(2**32), number % 3 == 2, (None, None, 1, 2)[number % 4])
        ends += course.ends
        wrong += [f"seed {course.seed}, kill {course.kill}, limit {course.limit}: {w}" for w in course.wrong]
    return ends, wrong


def main(run: Run, count: int) -> int:
    """Run `count` schedules; print what was seen; return 0 where all was right and nothing is left."""
    run_many(run, 6, 0)
    before = Usage.now()
    ends, wrong = run_many(run, count)
    after = Usage.now()
    print(f"{count} schedules: {dict(ends)}\nbefore: {before}\nafter:  {after}")
    for line in wrong:
        print("WRONG:", line)
    return 0 if after.is_flat_since(before) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main(lambda *kind: Schedule(*kind).run(), int(sys.argv[1]) if len(sys.argv) > 1 else 300))
