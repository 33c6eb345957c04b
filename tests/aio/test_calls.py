"""A domain called from an event loop: calls, attributes, exceptions, life. `cloister.aio.Domain`."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import warnings
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

import cloister
from cloister import aio
from cloister.errors import CallTimeout, DomainCrashed, DomainUnloaded, MarshalError, StartFailed
from tests.aio.domains import new
from tests.loops import Run as Run
from tests.loops import run as run


def test_calls_objects_and_values_are_awaited(run: Run) -> None:
    """Functions, objects, attributes, items, statements and programs: the same names as for threads, awaited."""

    async def main() -> None:
        async with new() as domain:
            assert await domain.call("operator:add", 1, 2) == 3
            customers = await domain.create("customers:Customers", "eu")
            await customers.add("Ada")
            assert await customers.list() == ["Ada"]
            assert await customers.region == "eu"
            items = await domain.create("builtins:list", [1, 2, 3])
            assert await items[1] == 2
            assert [item async for item in items] == [1, 2, 3]
            await domain.exec("total = sum(range(10))")
            assert await domain.eval("total") == 45
            handle = await domain.create_handle("fractions:Fraction", 1, 3)
            assert str(await handle.unwrap()) == "1/3"
            assert domain.state.value == "ready"
            assert domain.status().pid == domain.pid
            await domain.wait_ready()

    run(main())


def test_the_names_are_those_of_the_domain_for_threads() -> None:
    """Whatever a domain for threads can do, a domain for asyncio can, under the same name."""
    threads = {name for name in dir(cloister.Domain) if not name.startswith("_")}
    loops = {name for name in dir(aio.Domain) if not name.startswith("_")}
    assert threads == loops


@pytest.mark.parametrize("limit", [None, 1])
def test_call_of_a_method_is_taken_as_a_coroutine_and_as_a_future(run: Run, limit: int | None) -> None:
    """`create_task` and `TaskGroup` take it, with its result, its exception and its cancel; so does what takes futures.

    It is on its way at once. A task that is cancelled before it has begun, and a coroutine that is closed, stop it.
    """

    async def main() -> None:
        async with new(max_concurrency=limit) as domain:
            letters = await domain.create("collections:Counter", "banana")
            told = await domain.create("threading:Event")
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(letters.most_common(1)), group.create_task(letters["n"])]
            assert [task.result() for task in tasks] == [[("a", 3)], 2]
            with pytest.raises(AttributeError):
                await asyncio.create_task(letters.nowhere())
            with pytest.raises(KeyError):
                await asyncio.create_task(letters.pop("z"))
            known = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
            assert known(told.wait)
            begun = told.set()
            assert asyncio.isfuture(begun)
            async with asyncio.timeout(30):
                while not await told.is_set():
                    pass
            await begun
            assert list(await asyncio.gather(letters["a"], asyncio.shield(letters["b"]))) == [3, 1]
            await told.clear()
            waiting = asyncio.create_task(told.wait())
            await asyncio.sleep(0)
            unbegun = asyncio.create_task(told.wait())
            for task in (waiting, unbegun):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            closed = told.wait()
            closed.close()
            assert closed.cancelled()
            assert await letters["n"] == 2
            done, _ = await asyncio.wait({domain.submit(pow, 2, 3), aio.submit(letters.total)})
            assert sorted(future.result() for future in done) == [6, 8]

    run(main())


def test_exceptions_and_values_that_cannot_travel_fail_their_calls_alone(run: Run) -> None:
    """What the code over there raises is raised by its own await; an argument that can't travel as well."""

    async def main() -> None:
        async with new() as domain:
            with pytest.raises(ZeroDivisionError):
                await domain.call("operator:truediv", 1, 0)
            with pytest.raises(MarshalError):
                await domain.call("operator:add", object(), 0)
            results = await asyncio.gather(
                domain.submit("operator:truediv", 1, 0),
                domain.submit("operator:add", object(), 0),
                domain.submit("operator:add", 1, 1),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [ZeroDivisionError, MarshalError, int]

    run(main())


def test_syntax_that_cannot_wait_is_a_type_error_that_names_the_awaited_way(run: Run) -> None:
    """`len`, `in`, `int`, `for`, `with` and setting an attribute send nothing; `ask` does them. Identity is local."""

    async def main() -> None:
        async with new() as domain:
            items = await domain.create("builtins:list", [1, 2, 3])
            for use in (lambda: len(items), lambda: 2 in items, lambda: items < items, lambda: 2 in items):
                with pytest.raises(TypeError, match=r"awaited"):
                    use()
            with pytest.raises(TypeError, match=r"ask\(proxy, '__setitem__', 0, 9\)"):
                items[0] = 9
            with pytest.raises(TypeError, match="async for"):
                list(items)
            customers = await domain.create("customers:Customers", "eu")
            with pytest.raises(TypeError, match=r"ask\(proxy, '__setattr__', 'region', 'us'\)"):
                customers.region = "us"
            with pytest.raises(TypeError, match="await it"):
                bool(customers.region)
            await aio.ask(customers, "__setattr__", "region", "us")
            assert await customers.region == "us"
            await aio.ask(items, "__setitem__", 0, 9)
            assert await aio.ask(items, "__len__") == 3
            assert await aio.ask(items, "__contains__", 9)
            assert items
            assert items == items
            assert len({items, customers}) == 2
            with pytest.raises(ValueError, match="special methods"):
                await aio.ask(items, "append", 1)
            with pytest.raises(TypeError, match="proxy of a cloister"):
                await aio.ask([], "__len__")

    run(main())


def test_call_without_a_loop_says_so() -> None:
    """A call from code that no loop runs is refused, in words that name the other kind of domain."""

    domain = new()

    async def make() -> object:
        return await domain.create("builtins:list", [])

    proxy: Any = asyncio.run(make())
    with pytest.raises(RuntimeError, match=r"running asyncio loop.*cloister\.Domain"):
        proxy.append(1)
    asyncio.run(domain.unload())


def test_time_outs_of_a_context_and_of_a_view(run: Run) -> None:
    """`cloister.timeout` around awaits and `with_options` end the call over there; the domain goes on."""

    async def main() -> None:
        # One that is not ready before it is killed, however quick the machine is.
        starting = aio.Domain("starting", setup=cloister.Setup(initializer="time:sleep", initargs=(60,)))
        with pytest.raises(CallTimeout, match="before"), cloister.timeout(0):
            await starting.wait_ready()
        await starting.kill()
        async with new() as domain:
            await domain.wait_ready()
            with pytest.raises(CallTimeout, match="told to stop"), cloister.timeout(0.05):
                await domain.call("time:sleep", 30)
            with pytest.raises(CallTimeout):
                await domain.with_options(timeout=0.05).call("errands:python_loop")
            for _ in range(200):  # no answer is quicker
                with pytest.raises(CallTimeout, match="before it was sent"), cloister.timeout(0):
                    await domain.call("operator:add", 1, 1)
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


def test_task_that_is_cancelled_stops_its_call(run: Run) -> None:
    """Cancelling a task stops what runs over there; the next call is served."""

    async def main() -> None:
        async with new() as domain:
            await domain.wait_ready()
            running = asyncio.ensure_future(domain.call("errands:python_loop"))
            while not domain.status().calls:
                await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            while await domain.eval("len(__import__('threading').enumerate())") > 20:
                await asyncio.sleep(0.01)
            assert domain.status().calls == ()

    run(main())


def test_crash_fails_every_open_call_with_its_report(run: Run) -> None:
    """A domain that dies: each open call gets DomainCrashed with the report, and so does every later one."""

    async def main() -> None:
        async with new() as domain:
            await domain.wait_ready()
            sleeping = [domain.submit("time:sleep", 60) for _ in range(3)]
            with pytest.raises(DomainCrashed) as caught:
                await domain.call("os:_exit", 7)
            assert caught.value.report.exit_code == 7
            for outcome in await asyncio.gather(*sleeping, return_exceptions=True):
                assert isinstance(outcome, DomainCrashed)
                assert outcome.report.exit_code == 7
            with pytest.raises(DomainCrashed):
                await domain.call("operator:add", 1, 1)
            assert domain.report is not None

    run(main())


def test_unload_and_kill_are_awaited(run: Run) -> None:
    """Open calls end with DomainUnloaded or DomainCrashed; unloading twice is told, killing twice is not."""

    async def main() -> None:
        domain = new()
        await domain.wait_ready()
        sleeping = domain.submit("time:sleep", 60)
        await asyncio.sleep(0)
        await domain.unload()
        with pytest.raises(DomainUnloaded):
            await sleeping
        with pytest.raises(DomainUnloaded):
            await domain.unload()
        with pytest.raises(DomainUnloaded):
            await domain.call("operator:add", 1, 1)
        domain = new()
        await domain.wait_ready()
        sleeping = domain.submit("time:sleep", 60)
        await domain.kill()
        with pytest.raises(DomainCrashed):
            await sleeping
        await domain.kill()

    run(main())


def test_start_that_fails_fails_the_calls_that_wait_for_it(run: Run) -> None:
    """Calls made before the domain is ready wait for it, and fail with StartFailed where it never will be."""

    async def main() -> None:
        domain = aio.Domain("bad", setup=cloister.Setup(preload=["no_such_module_at_all"]))
        calls = [domain.submit("operator:add", 1, 1) for _ in range(3)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, StartFailed)
        with pytest.raises(StartFailed):
            await domain.wait_ready()
        with pytest.raises(StartFailed):
            await domain.call("operator:add", 1, 1)
        assert domain.report is not None
        await domain.unload()

    run(main())


def test_map_gives_results_in_order_and_stops_early(run: Run) -> None:
    """`map` is an async iterator: in order, chunked, bounded, exceptions in their places, cancelled when closed."""

    async def main() -> None:
        taken: list[int] = []

        def numbers() -> object:
            for number in range(1000):
                taken.append(number)
                yield number

        async with new() as domain:
            assert [x async for x in domain.map(pow, range(5), [2] * 5, chunksize=2)] == [0, 1, 4, 9, 16]
            results = domain.map("operator:neg", numbers(), chunksize=2, buffersize=3)
            async for result in results:
                if result == -3:
                    break
            await results.aclose()
            assert len(taken) < 20
            with pytest.raises(ZeroDivisionError):
                async for _ in domain.map("operator:truediv", [1, 1], [1, 0]):
                    pass
            mixed = domain.map("operator:truediv", [1, 1, 4], [1, 0, 2], chunksize=3, return_exceptions=True)
            assert [type(x) async for x in mixed] == [float, ZeroDivisionError, float]
            with pytest.raises(ValueError, match="chunksize"):
                domain.map(pow, [1], chunksize=0)
            async for made in domain.map("collections:Counter", ["a"] * 5, chunksize=2):
                seen = weakref.ref(made)
                del made
                assert seen() is None  # the iterator does not hold what it has given

    run(main())


def test_map_takes_asynchronous_iterables(run: Run) -> None:
    """`map` reads async generators and streams of other domains, next to plain iterables, in order and bounded."""

    async def main() -> None:
        async def numbers(count: int) -> AsyncIterator[int]:
            for number in range(count):
                yield number

        async with new() as domain, new("other") as other:
            assert [x async for x in domain.map(pow, numbers(5), [2] * 9, chunksize=2)] == [0, 1, 4, 9, 16]
            assert [x async for x in domain.map(pow, [2, 3], numbers(9))] == [1, 3]
            assert [x async for x in domain.map("operator:neg", numbers(0))] == []
            stream = await other.call("flows:counted", 100)
            assert sum([x async for x in domain.map("operator:neg", stream, chunksize=8)]) == -4950
            mixed = domain.map("operator:truediv", numbers(3), [1, 0, 2], chunksize=3, return_exceptions=True)
            assert [type(x) async for x in mixed] == [float, ZeroDivisionError, float]

    run(main())


def test_map_gives_results_while_its_input_is_awaited(run: Run) -> None:
    """Results of an input that goes on for ever come as they are there; closing the map ends the wait for the input."""

    async def main() -> None:
        taken, over = 0, asyncio.Event()

        async def feed() -> AsyncIterator[int]:
            nonlocal taken
            try:
                for number in range(3):
                    taken += 1
                    yield number
                await asyncio.Event().wait()  # for ever
            finally:
                over.set()

        async def broken() -> AsyncIterator[int]:
            yield 1
            raise KeyError("input")

        async with new() as domain:
            results = domain.map("operator:neg", feed(), buffersize=2)
            assert [await anext(results) for _ in range(3)] == [0, -1, -2]
            await results.aclose()
            async with asyncio.timeout(20):
                await over.wait()
            with pytest.raises(KeyError, match="input"):
                async for _ in domain.map("operator:neg", broken()):
                    pass
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


def test_ten_thousand_calls_are_open_at_once(run: Run) -> None:
    """10,000 calls made at once on one domain all get their own results."""

    async def main() -> None:
        async with new() as domain:
            calls = [domain.submit("operator:add", number, 1) for number in range(10_000)]
            assert await asyncio.gather(*calls) == list(range(1, 10_001))

    run(main())


def test_forgotten_domain_warns_and_is_unloaded(run: Run) -> None:
    """A domain that nobody holds any more gives a ResourceWarning and is unloaded, as for threads."""

    async def main() -> None:
        domain = new()
        await domain.wait_ready()
        life = domain._life
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del domain
            gc.collect()
        assert [warning.category for warning in caught] == [ResourceWarning]
        while not life.over:
            await asyncio.sleep(0.01)

    run(main())


def test_loop_that_ends_with_open_calls_leaves_the_domain_to_the_next_one(run: Run) -> None:
    """Calls open at the end of a loop are stopped; the domain serves the next loop, on a lane of its own."""
    domain = new()

    async def first() -> None:
        await domain.wait_ready()
        domain.submit("time:sleep", 60)

    async def second() -> None:
        assert await domain.call("operator:add", 1, 1) == 2
        await domain.unload()

    run(first())
    run(second())


def test_one_way_calls_tell_their_errors_as_events(run: Run) -> None:
    """`aio.one_way` waits for nothing; what it raises becomes an UnhandledException event."""

    async def main() -> None:
        told: list[cloister.events.UnhandledException] = []
        async with new() as domain:
            domain.on(cloister.events.UnhandledException, told.append)
            items = await domain.create("builtins:list", [])
            aio.one_way(items.append)(1)
            aio.one_way(items.remove)(2)
            while not told or not await aio.ask(items, "__len__"):
                await asyncio.sleep(0.01)
            assert isinstance(told[0].error, ValueError)
            assert await aio.submit(items.count, 1) == 1

    run(main())


def test_streams_are_async_iterators(run: Run) -> None:
    """A generator of the guest is read with `async for`, in batches; its exception comes at its place; it is closed."""

    async def main() -> None:
        async with new() as domain:
            await domain.exec("def count(n):\n    for i in range(n):\n        yield i\n    1 / 0")
            count = await domain.eval("count")
            seen: list[int] = []
            try:
                async for number in await count(3000):
                    seen.append(number)
            except ZeroDivisionError:
                seen.append(-1)
            assert seen.pop() == -1
            assert seen == list(range(3000))
            numbers = await count(5)
            with pytest.raises(TypeError, match="async for"):
                list(numbers)
            assert await anext(numbers) == 0
            await numbers.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(numbers)

    run(main())


def test_contexts_are_entered_with_async_with(run: Run) -> None:
    """A context of the guest is entered with `async with`, whichever kind it is; `with` says so."""

    async def main() -> None:
        async with new() as domain:
            lock = await domain.create("threading:Semaphore", 1)
            async with lock:
                assert not await lock.acquire(False)
            assert await lock.acquire(False)
            with pytest.raises(TypeError, match="async with"), lock:
                pass

    run(main())
