"""Random schedules on an event loop: calls, call-backs, streams, drops, time-outs, cancels and kills on one domain.

``python -m tests.soak.loop_schedules 300`` runs as a program of its own; the suite runs a few (tests/conformance). It
is what `schedules` is for threads: every call ends exactly once, with its own value or with an error that fits.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import cloister
from tests.soak.schedules import JOIN_S, MODULES, OVER, Course, main

__all__ = ["LoopSchedule", "run"]


@dataclass
class LoopSchedule(Course):
    """So many tasks, each with so many steps."""

    tasks: int = 8
    steps: int = 15

    async def run(self) -> LoopSchedule:
        """Run it; `wrong` is empty where everything was right."""
        chance = random.Random(self.seed)
        domain = cloister.aio.Domain(
            "scheduled",
            setup=cloister.Setup(path=[MODULES]),
            echo=False,
            max_concurrency=self.limit,
            stop_timeout=20,
        )
        try:
            seeds = [chance.random() for _ in range(self.tasks)]
            work = asyncio.gather(*(self._work(domain, seed) for seed in seeds))
            if self.kill:
                await asyncio.sleep(chance.random() * 0.3)
                await domain.kill()
            try:
                await asyncio.wait_for(work, JOIN_S)
            except TimeoutError:
                self.wrong.append("a task hangs")
                return self
            if not self.kill and await domain.with_options(timeout=JOIN_S).call("operator:add", 1, 1) != 2:
                self.wrong.append("the domain does not go on")
        finally:
            await domain.kill()
        return self

    async def _work(self, domain: cloister.aio.Domain, seed: float) -> None:
        chance = random.Random(seed)
        for _ in range(self.steps):
            step = chance.choice(
                [self._plain, self._nested, self._late, self._own_thread, self._cancelled, self._stream]
            )
            await step(domain, chance)

    async def _judge(self, what: str, call: Awaitable[Any], value: object, given_up: bool) -> None:
        """Await a call, and look how it ends."""
        try:
            got = await call
        except (Exception, asyncio.CancelledError) as error:
            self.failed(what, error, given_up)
        else:
            self.answered(what, got, value)

    async def _plain(self, domain: cloister.aio.Domain, chance: random.Random) -> None:
        values = [chance.random() for _ in range(chance.randrange(1, 5))]
        calls = [self._judge("call", domain.call("errands:echo", value), value, given_up=False) for value in values]
        await asyncio.gather(*calls)

    async def _nested(self, domain: cloister.aio.Domain, chance: random.Random) -> None:
        value = chance.random()

        async def up(depth: int) -> Any:
            if depth:
                return await domain.call("errands:call", up, depth - 1)
            if chance.random() < 0.3:  # an inner call is given up, the ones around it are not
                await self._late(domain, chance)
            return await domain.call("errands:echo", value)

        await self._judge("nested", up(chance.randrange(4)), value, given_up=False)

    async def _late(self, domain: cloister.aio.Domain, chance: random.Random) -> None:
        value, limited = chance.random(), domain.with_options(timeout=chance.random() ** 2 * 0.02)
        endless = chance.choice([None, None, "errands:python_loop", "coroutines:meet"])
        call = limited.call(endless, *(["never"] if "meet" in endless else [])) if endless else None
        await self._judge("late", call or limited.call("errands:echo", value), value, given_up=True)

    async def _own_thread(self, domain: cloister.aio.Domain, chance: random.Random) -> None:
        if self.limit is not None:
            return  # the thread over there would wait for the place that its caller has
        value = chance.random()

        async def answer() -> Any:
            return await domain.call("errands:echo", value)

        await self._judge("own thread", domain.call("errands:call_from_thread", answer), [value], given_up=False)

    async def _cancelled(self, domain: cloister.aio.Domain, chance: random.Random) -> None:
        value, calls = chance.random(), []

        async def answer() -> float:
            for _ in range(3):
                await asyncio.sleep(0)
            return value

        target, args = chance.choice(
            [("errands:echo", (value,)), ("errands:python_loop", ()), ("errands:call", (answer,))]
        )
        try:
            future = domain.submit(target, *args)
        except OVER:
            self.ends["over"] += 1
            return
        future.add_done_callback(lambda _: calls.append(1))
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        future.cancel()
        await self._judge("cancelled", future, value, given_up=True)
        await asyncio.sleep(0)
        if calls != [1]:
            self.wrong.append(f"a future was done {len(calls)} times")

    async def _stream(self, domain: cloister.aio.Domain, chance: random.Random) -> None:
        count, most = chance.randrange(200), chance.randrange(200)

        async def read() -> int:
            got = 0
            stream = await domain.call("flows:counted", count)
            async for number in stream:
                if number != got:
                    self.wrong.append(f"item {got} of a stream was {number}")
                got += 1
                if got == most:
                    break
            if chance.random() < 0.5:
                await stream.aclose()
            return got

        expected = min(count, most) if most else count
        await self._judge("stream", read(), expected, given_up=False)


def run(seed: int, kill: bool = False, limit: int | None = None) -> Course:
    """Run one on a loop of its own."""
    return asyncio.run(LoopSchedule(seed, kill, limit).run())


if __name__ == "__main__":
    sys.exit(main(run, int(sys.argv[1]) if len(sys.argv) > 1 else 200))
