"""Call-backs of a guest into an event loop: coroutines and plain functions, nesting, contexts, what ends them."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DomainCrashed
from tests.aio.domains import new
from tests.loops import Run as Run
from tests.loops import run as run

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class Ledger:
    """An object of the host whose methods are coroutines."""

    def __init__(self) -> None:
        self.entries: list[int] = []

    async def add(self, number: int) -> int:
        """Add a number, after a turn of the loop."""
        await asyncio.sleep(0)
        self.entries.append(number)
        return sum(self.entries)


def test_coroutines_and_plain_functions_are_called_back_on_the_loop(run: Run) -> None:
    """A coroutine is awaited, a plain function is called on the loop: both on its thread, in the caller's context."""

    async def main() -> None:
        seen: list[tuple[int, str]] = []

        async def coroutine(number: int) -> int:
            await asyncio.sleep(0)
            seen.append((threading.get_ident(), colour.get()))
            return number + 1

        def plain(number: int) -> int:
            seen.append((threading.get_ident(), colour.get()))
            colour.set("changed in a copy")
            return number + 2

        ledger = Ledger()
        async with new() as domain:
            colour.set("red")
            assert await domain.call("errands:call", coroutine, 1) == 2
            colour.set("blue")
            assert await domain.call("errands:call", plain, 1) == 3
            assert await domain.call("errands:call", functools.partial(coroutine, 5)) == 6
            assert await domain.call("errands:call", ledger.add, 4) == 4
            shared = await domain.create("callers:Keeper", cloister.share(ledger))
            assert await shared.use("add", 6) == 10
            here = threading.get_ident()
            assert seen == [(here, "red"), (here, "blue"), (here, "blue")]
            assert colour.get() == "blue"

    run(main())


def test_exceptions_of_call_backs_travel_and_come_back(run: Run) -> None:
    """What a call-back raises is raised in the guest, and from there in the caller."""

    async def main() -> None:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise KeyError("no such thing")

        def refuse() -> object:
            return object()  # what a host returns must be copied

        async with new() as domain:
            with pytest.raises(KeyError, match="no such thing"):
                await domain.call("errands:call", fail)
            with pytest.raises(cloister.MarshalError):
                await domain.call("errands:call", refuse)
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


@pytest.mark.parametrize("how", ["coroutine", "future"])
def test_calls_nest_fifty_deep_in_both_directions(run: Run, how: str) -> None:
    """Host and guest call each other 50 times deep, on one lane: two threads do all of it."""

    async def main() -> None:
        async with new() as domain:
            ping = await domain.create("callers:Ping")

            async def pong(depth: int) -> int:
                return 0 if depth == 0 else 1 + await ping.play(pong, depth - 1)

            def straight(depth: int) -> object:
                return 0 if depth == 0 else ping.play(straight, depth - 1)

            function = pong if how == "coroutine" else straight
            assert await ping.play(function, 100) == (100 if how == "coroutine" else 50)
            threads = await domain.eval("__import__('threading').active_count()")
            assert threads < 12

    run(main())


def test_many_call_backs_run_at_the_same_time(run: Run) -> None:
    """Coroutines of many calls wait for each other on the loop, without deadlock."""

    async def main() -> None:
        async with new() as domain:
            met = asyncio.Event()
            waiting = 0

            async def meet() -> str:
                nonlocal waiting
                waiting += 1
                if waiting == 20:
                    met.set()
                await met.wait()
                return "met"

            calls = [domain.submit("errands:call", meet) for _ in range(20)]
            assert await asyncio.gather(*calls) == ["met"] * 20

    run(main())


def test_gathered_nested_calls_take_other_lanes(run: Run) -> None:
    """Several calls of one call-back at once: one takes its lane, the others the shared one; all are answered."""

    async def main() -> None:
        async with new() as domain:

            async def fan_out() -> object:
                return await asyncio.gather(*(domain.submit("operator:add", number, 1) for number in range(10)))

            assert await domain.call("errands:call", fan_out) == list(range(1, 11))

    run(main())


def test_cancelled_call_cancels_its_call_back(run: Run) -> None:
    """Whoever gives up a call also gives up what runs for it in the host; the domain serves the next call."""

    async def main() -> None:
        async with new() as domain:
            begun, over = asyncio.Event(), asyncio.Event()

            async def wait_for_ever() -> None:
                begun.set()
                try:
                    await asyncio.sleep(3600)
                finally:
                    over.set()

            task = asyncio.ensure_future(domain.call("errands:call", wait_for_ever))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await over.wait()
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


def test_time_out_holds_in_call_backs_and_in_what_they_call(run: Run) -> None:
    """The time left travels: a nested call of a call-back fails when the whole time is up."""

    async def main() -> None:
        async with new() as domain:
            outcomes: list[BaseException] = []
            done = asyncio.Event()

            async def nest() -> None:
                try:
                    await domain.call("time:sleep", 60)
                except BaseException as error:
                    outcomes.append(error)
                    raise
                finally:
                    done.set()

            await domain.wait_ready()
            with pytest.raises(CallTimeout), cloister.timeout(0.3):
                await domain.call("errands:call", nest)
            await done.wait()
            assert isinstance(outcomes[0], CallTimeout | asyncio.CancelledError)
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


def test_nested_call_is_cancelled_alone(run: Run) -> None:
    """A call-back gives up a nested call: the guest stops it, and both the call-back and its caller go on."""

    async def main() -> None:
        async with new() as domain:

            async def impatient() -> str:
                nested = domain.submit("errands:python_loop")
                await asyncio.sleep(0.05)
                nested.cancel()
                return "went on"

            with cloister.timeout(20):
                assert await domain.call("errands:call", impatient) == "went on"
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


def test_crash_cancels_what_runs_for_the_guest(run: Run) -> None:
    """The guest dies while a call-back of it waits: the caller gets the report, the call-back is cancelled."""

    async def main() -> None:
        async with new() as domain:
            over = asyncio.Event()

            async def kill() -> None:
                try:
                    await domain.call("os:_exit", 5)
                finally:
                    over.set()

            with pytest.raises(DomainCrashed) as caught:
                await domain.call("errands:call", kill)
            assert caught.value.report.exit_code == 5
            await over.wait()

    run(main())


def test_thread_of_the_guest_calls_back_on_the_loop(run: Run) -> None:
    """A thread that belongs to no open call is served on the loop that uses the domain; so is a one-way call."""

    async def main() -> None:
        arrived: asyncio.Queue[int] = asyncio.Queue()

        async def arrive(number: int) -> None:
            await arrived.put(number)

        async with new() as domain:
            await domain.call("callers:call_later", arrive, 3)
            assert [await arrived.get() for _ in range(3)] == [0, 1, 2]

    run(main())


def test_two_loops_use_one_domain_and_get_their_own_call_backs() -> None:
    """Each loop has its lane, and serves the call-backs of its own calls on its own thread."""
    domain = new()
    seen: dict[str, set[int]] = {"a": set(), "b": set()}

    async def use(name: str) -> None:
        async def note(number: int) -> int:
            await asyncio.sleep(0)
            seen[name].add(threading.get_ident())
            return number

        for number in range(20):
            assert await domain.call("errands:call", note, number) == number

    threads = [threading.Thread(target=lambda name=name: asyncio.run(use(name))) for name in seen]
    for thread in threads:
        thread.start()
    idents = {thread.ident for thread in threads}
    for thread in threads:
        thread.join()
    assert len(seen["a"]) == len(seen["b"]) == 1
    assert seen["a"] | seen["b"] == idents
    asyncio.run(domain.unload())


def test_proxy_of_another_loop_and_of_a_dead_domain(run: Run) -> None:
    """A proxy works on any loop; after the end of its domain each use raises what the domain says."""
    domain = new()
    proxies: list[Any] = []

    async def make() -> None:
        proxies.append(await domain.create("customers:Customers", "eu"))

    async def use() -> None:
        (proxy,) = proxies
        assert await proxy.region == "eu"
        await domain.unload()
        with pytest.raises(cloister.DomainUnloaded):
            await proxy.region

    run(make())
    run(use())
