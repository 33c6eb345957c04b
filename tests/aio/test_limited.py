"""A domain for asyncio whose concurrency is limited: its main thread serves, call-backs run on the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cloister
from cloister.errors import CallTimeout, DeadlockDetected, DomainCrashed, DomainUnloaded
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


@pytest.mark.parametrize("stubborn", [False, True], ids=["cancelled", "swallows"])
def test_call_back_is_given_up_with_its_call_and_holds_no_lane(run: Run, stubborn: bool) -> None:
    """At a time-out and a cancel the call ends at once, its call-back is cancelled, and the next call is served."""

    async def main() -> None:
        async with new(max_concurrency=1) as domain:
            begun, ended = asyncio.Event(), asyncio.Event()

            async def back() -> None:
                begun.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    ended.set()
                    if not stubborn:
                        raise
                    await asyncio.sleep(60)

            await domain.wait_ready()
            with pytest.raises(CallTimeout), cloister.timeout(0.2):
                await domain.call("errands:call", back)
            async with asyncio.timeout(30):
                await ended.wait()
                assert await domain.call("operator:add", 1, 1) == 2
                begun.clear()
                ended.clear()
                call = asyncio.create_task(domain.call("errands:call", back))
                await begun.wait()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await ended.wait()
                assert await domain.call("operator:add", 1, 1) == 2
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    run(main())


def test_call_back_of_a_call_that_was_given_up_does_not_begin(run: Run) -> None:
    """What a stopped call tells the host while it unwinds runs for nobody: the next call gets the lane."""

    async def main() -> None:
        async with new(max_concurrency=1) as domain, asyncio.timeout(30):
            begun: list[int] = []

            async def back() -> None:
                begun.append(1)
                await asyncio.sleep(60)

            call = asyncio.create_task(domain.call("errands:loop_until_stopped", back))
            while domain.status().running != 1:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await domain.call("operator:add", 1, 1) == 2
            assert begun == []

    run(main())


def test_call_back_is_cancelled_with_its_domain(run: Run) -> None:
    """A domain that ends in a call-back: the caller is told, and the call-back cancelled, without a look at a clock."""

    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def back() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        async with new(max_concurrency=1) as domain, asyncio.timeout(30):
            call = asyncio.create_task(domain.call("errands:call", back))
            await begun.wait()
            await domain.kill()
            with pytest.raises(DomainCrashed):
                await call
            await ended.wait()

    run(main())


def test_call_of_a_call_back_is_given_up_alone(run: Run) -> None:
    """A call-back whose own call takes too long, or is cancelled, goes on; both use the lane again."""

    async def main() -> None:
        async with new(max_concurrency=1) as domain:

            async def back() -> int:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(domain.call("errands:python_loop"), 0.2)
                with pytest.raises(CallTimeout), cloister.timeout(0.2):
                    await domain.call("errands:python_loop")
                return int(await domain.call("operator:add", 1, 1))

            async with asyncio.timeout(30):
                assert await domain.call("errands:call", back) == 2
                assert await domain.call("operator:add", 1, 2) == 3

    run(main())


def test_coroutine_of_the_domain_calls_back_where_one_call_runs_at_a_time(run: Run) -> None:
    """Its call-back runs on the caller's loop, with its context. A call of it, for which nobody could ever be free, is
    refused; a coroutine that swallows its cancel holds up the next call for a second at most."""

    async def main() -> None:
        async with new(max_concurrency=1) as domain:
            async with asyncio.timeout(30):
                loop = asyncio.get_running_loop()
                told: list[bool] = []

                async def back(number: int) -> int:
                    told.append(asyncio.get_running_loop() is loop)
                    return number + 1

                assert await domain.call("coroutines:progress", back, 2) == [1, 2]
                assert told == [True, True]

                async def nested(number: int) -> int:
                    return int(await domain.call("operator:add", number, 1))

                with pytest.raises(DeadlockDetected, match="1 call at a time"):
                    await domain.call("coroutines:progress", nested, 1)
                call = asyncio.create_task(domain.call("coroutines:stubborn", 60))
                while domain.status().running != 1:
                    await asyncio.sleep(0.01)
                call.cancel()
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
