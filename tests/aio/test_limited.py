"""A domain for asyncio whose concurrency is limited: its main thread serves, call-backs run on the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cloister.errors import DomainUnloaded
from tests.aio.domains import new
from tests.loops import Run as Run
from tests.loops import run_asyncio as run_asyncio


def test_one_call_at_a_time_on_the_main_thread(run: Run) -> None:
    """`max_concurrency=1`: every call is on the domain's main thread, one after the other."""

    async def main() -> None:
        async with new(max_concurrency=1) as domain:
            where = "__import__('threading').current_thread() is __import__('threading').main_thread()"
            assert await asyncio.gather(*(domain.eval(where) for _ in range(5))) == [True] * 5
            with pytest.raises(ZeroDivisionError):
                await domain.call("operator:truediv", 1, 0)

    run(main())


def test_call_backs_nest_on_the_one_lane(run: Run) -> None:
    """A call-back runs on the loop, and its own calls are served by the thread that waits: no deadlock, 30 deep."""

    async def main() -> None:
        async with new(max_concurrency=1) as domain:
            ping = await domain.create("callers:Ping")
            idents = set()

            async def pong(depth: int) -> int:
                idents.add(threading.get_ident())
                await asyncio.sleep(0)
                return 0 if depth == 0 else 1 + await ping.play(pong, depth - 1)

            assert await ping.play(pong, 60) == 60
            assert idents == {threading.get_ident()}

            async def both() -> object:
                return await asyncio.gather(domain.call("operator:add", 1, 1), domain.call("operator:add", 2, 2))

            assert await domain.call("errands:call", both) == [2, 4]

    run(main())


def test_calls_are_cancelled_whether_they_wait_or_run(run: Run) -> None:
    """A call that waits for the lane never begins; one that runs is stopped; the next one is served."""

    async def main() -> None:
        async with new(max_concurrency=1) as domain:
            await domain.wait_ready()
            running = domain.submit("errands:python_loop")
            waiting = domain.submit("errands:python_loop")
            while domain.status().running != 1:
                await asyncio.sleep(0.01)
            waiting.cancel()
            running.cancel()
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


def test_calls_before_the_start_and_after_the_end(run: Run) -> None:
    """Calls made at once wait for the start without holding up the loop; after the end they fail."""

    async def main() -> None:
        domain = new(max_concurrency=2)
        assert await asyncio.gather(*(domain.submit("operator:add", n, n) for n in range(4))) == [0, 2, 4, 6]
        await domain.unload()
        with pytest.raises(DomainUnloaded):
            await domain.call("operator:add", 1, 1)

    run(main())
