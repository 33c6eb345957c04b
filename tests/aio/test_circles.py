"""Circles of waits in which coroutines of the host are links: one call is told the chain, all others go on."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cloister import time_limits
from cloister.aio import asleep
from cloister.errors import DeadlockDetected
from tests.aio.domains import new

try:
    import anyio
    import anyio.to_thread
except ImportError:  # an extra, which is not there for every Python
    anyio = None  # type: ignore[assignment]  # it is asked for before use

WAIT_S = 30.0

Up = Callable[[], Awaitable[Any]]


async def outcomes(works: list[Awaitable[Any]]) -> list[Any]:
    """What each returns or raises. No time limit that a task waits with: it would end the circle."""
    tasks = [asyncio.ensure_future(work) for work in works]
    _, late = await asyncio.wait(tasks, timeout=WAIT_S)
    assert not late
    return await asyncio.gather(*tasks, return_exceptions=True)


def meeting(count: int) -> Up:
    """A barrier for so many coroutines."""
    barrier = asyncio.Barrier(count)
    return barrier.wait


def told(error: BaseException, *words: str) -> None:
    """It is a DeadlockDetected with these words."""
    assert isinstance(error, DeadlockDetected), repr(error)
    for word in words:
        assert word in str(error)


async def directly(call: Awaitable[Any]) -> Any:
    """Await a call."""
    return await call


async def in_a_task(call: Awaitable[Any]) -> Any:
    """Await a task that awaits a call."""
    return await asyncio.create_task(directly(call))


async def gathered(call: Awaitable[Any]) -> Any:
    """Await a call beside something that is over sooner."""
    return (await asyncio.gather(asyncio.sleep(0.3), call))[1]


async def later(call: Awaitable[Any]) -> Any:
    """Await a call that was made a while ago."""
    await asyncio.sleep(0.4)
    return await call


async def in_a_group(call: Awaitable[Any]) -> Any:
    """Await a call in a group of tasks."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(directly(call))
        group.create_task(asyncio.sleep(0.2))
    return task.result()


async def shielded(call: Awaitable[Any]) -> Any:
    """Await a call that is shielded from a cancel."""
    return await asyncio.shield(asyncio.ensure_future(call))


async def waited_for(call: Awaitable[Any]) -> Any:
    """Await the first of some tasks."""
    task = asyncio.create_task(directly(call))
    await asyncio.wait({task}, return_when="FIRST_COMPLETED")
    return await task


async def by_a_thread(call: Awaitable[Any]) -> Any:
    """Await a thread that waits for a coroutine of the loop."""
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(directly(call), loop).result())


async def by_an_executor(call: Awaitable[Any]) -> Any:
    """The same where the thread knows nothing of the context."""
    loop = asyncio.get_running_loop()

    def wait() -> Any:
        return asyncio.run_coroutine_threadsafe(directly(call), loop).result()

    return await loop.run_in_executor(None, wait)


async def by_a_thread_that_joins(call: Awaitable[Any]) -> Any:
    """Await a thread that waits for another one, which waits for a coroutine of the loop."""
    loop, found = asyncio.get_running_loop(), []

    def wait() -> None:
        found.append(asyncio.run_coroutine_threadsafe(directly(call), loop).exception())

    def join() -> None:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()

    await asyncio.to_thread(join)
    if found[0] is not None:
        raise found[0]
    return await call


async def in_a_group_of_anyio(call: Awaitable[Any]) -> Any:
    """Await a call in a group of tasks of anyio."""
    found: list[Any] = []

    async def note() -> None:
        try:
            found.append(await call)
        except Exception as error:
            found.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(note)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


async def by_a_thread_of_anyio(call: Awaitable[Any]) -> Any:
    """Await a thread of anyio that waits for a coroutine of the loop."""
    loop = asyncio.get_running_loop()
    return await anyio.to_thread.run_sync(lambda: asyncio.run_coroutine_threadsafe(directly(call), loop).result())


async def behind_a_lock_of_anyio(call: Awaitable[Any]) -> Any:
    """Await a lock that a task has which awaits the call."""
    lock, has = anyio.Lock(), asyncio.Event()

    async def hold() -> Any:
        async with lock:
            has.set()
            return await call

    task = asyncio.create_task(hold())
    await has.wait()
    async with lock:
        return await task


async def behind_a_limit_of_anyio(call: Awaitable[Any]) -> Any:
    """The same with one place of a limiter."""
    limiter, has = anyio.CapacityLimiter(1), asyncio.Event()

    async def hold() -> Any:
        async with limiter:
            has.set()
            return await call

    task = asyncio.create_task(hold())
    await has.wait()
    async with limiter:
        return await task


WAYS = [
    directly,
    in_a_task,
    gathered,
    later,
    in_a_group,
    shielded,
    waited_for,
    by_a_thread,
    by_an_executor,
    by_a_thread_that_joins,
]
if anyio is not None:
    WAYS += [in_a_group_of_anyio, by_a_thread_of_anyio, behind_a_lock_of_anyio, behind_a_limit_of_anyio]


@pytest.mark.parametrize("way", WAYS)
def test_coroutines_that_want_each_others_objects(way: Callable[[Awaitable[Any]], Awaitable[Any]]) -> None:
    """A circle through two domains and two call-backs that are coroutines, however they await: one is told."""

    async def work() -> None:
        async with new("one") as one, new("two") as two:
            brokers = [await domain.create("hotel:HotelBroker") for domain in (one, two)]
            meet = meeting(2)

            async def hold(own: Any, other: Any) -> Any:
                async def up() -> int:
                    await meet()
                    return int((await way(other.where()))[3])

                return await own.call(up)

            found = await outcomes([hold(*brokers), hold(*reversed(brokers))])
            (error,) = [each for each in found if not isinstance(each, int)]
            while isinstance(error, BaseExceptionGroup):
                (error,) = error.exceptions
            told(error, "of domain 'one', held by thread", "of domain 'two', held by thread")
            for broker in brokers:
                assert await broker.call(lambda: 1) == 1

    asyncio.run(work())


def test_coroutines_that_want_each_others_limited_domain() -> None:
    """The same through domains with one place each: where the last one awaits at once, and where it does so later."""

    async def work(wait: bool) -> None:
        async with new("one", max_concurrency=1) as one, new("two", max_concurrency=1) as two:
            meet = meeting(2)

            async def hold(own: Any, other: Any) -> Any:
                async def up() -> int:
                    await meet()
                    call = other.submit("errands:add", 1, 1)
                    if wait:
                        await asyncio.sleep(0.2)
                    return int(await call)

                return await own.call("errands:call", up)

            found = await outcomes([hold(one, two), hold(two, one)])
            errors = [each for each in found if not isinstance(each, int)]
            assert errors
            told(errors[0], "domain 'one' (1 call at a time)", "domain 'two' (1 call at a time)")
            for domain in (one, two):
                assert await domain.call("errands:add", 1, 1) == 2

    asyncio.run(work(False))
    asyncio.run(work(True))


async def by_timeout(call: Awaitable[Any]) -> Any:
    """With a time limit of asyncio."""
    async with asyncio.timeout(0.6):
        return await call


async def by_wait_for(call: Awaitable[Any]) -> Any:
    """With another one of asyncio."""
    return await asyncio.wait_for(call, 0.6)


async def by_wait(call: Awaitable[Any]) -> Any:
    """With a third one of asyncio."""
    task = asyncio.create_task(directly(call))
    if not (await asyncio.wait([task], timeout=0.6))[0]:
        task.cancel()
        raise TimeoutError
    return await task


async def by_a_limit_around_a_group(call: Awaitable[Any]) -> Any:
    """The group is made under a time limit, and its maker does something else."""
    async with asyncio.timeout(0.6), asyncio.TaskGroup() as group:
        task = group.create_task(directly(call))
        await asyncio.Event().wait()
    return await task


async def by_a_scope_of_anyio(call: Awaitable[Any]) -> Any:
    """With a time limit of anyio."""
    with anyio.fail_after(0.6):
        return await call


async def by_a_timer(call: Awaitable[Any]) -> Any:
    """With a cancel that comes later."""
    task = asyncio.create_task(directly(call))
    asyncio.get_running_loop().call_later(0.6, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise TimeoutError from None


LIMITS = [by_timeout, by_wait_for, by_a_limit_around_a_group, by_a_timer]
if anyio is not None:
    LIMITS.append(by_a_scope_of_anyio)
BOTH = [(limited, where) for limited in LIMITS for where in ("the call-back", "the caller")]


@pytest.mark.parametrize(("limited", "where"), [*BOTH, (by_wait, "the call-back")])
def test_time_limit_ends_a_wait(limited: Callable[[Awaitable[Any]], Awaitable[Any]], where: str) -> None:
    """Where a time limit of a loop ends a wait of the circle, it is none: no call is refused."""

    async def work() -> None:
        async with new("one") as one, new("two") as two:
            one_broker, two_broker = [await domain.create("hotel:HotelBroker") for domain in (one, two)]
            meet = meeting(2)
            inner, outer = (limited, directly) if where == "the call-back" else (directly, limited)

            async def hold(own: Any, other: Any, inner: Any, outer: Any) -> Any:
                async def up() -> int:
                    await meet()
                    return int((await inner(other.where()))[3])

                return await outer(own.call(up))

            first = hold(one_broker, two_broker, inner, outer)
            second = hold(two_broker, one_broker, directly, directly)
            found = await outcomes([first, second])
            assert isinstance(found[0], TimeoutError), found
            assert isinstance(found[1], int), found

    asyncio.run(work())


def test_coroutines_that_may_go_on_are_no_circle() -> None:
    """A call-back that awaits a call or something else, and takes what comes first, is in no circle."""

    async def work() -> None:
        async with new("one") as one, new("two") as two:
            one_broker, two_broker = [await domain.create("hotel:HotelBroker") for domain in (one, two)]
            meet, enough = meeting(2), asyncio.Event()

            async def hold(own: Any, other: Any, patient: bool) -> Any:
                async def up() -> int:
                    await meet()
                    call = asyncio.ensure_future(directly(other.where()))
                    if patient:
                        return int((await call)[3])
                    await asyncio.wait({call, asyncio.ensure_future(enough.wait())}, return_when="FIRST_COMPLETED")
                    call.cancel()
                    return 0

                return await own.call(up)

            asyncio.get_running_loop().call_later(1.5, enough.set)  # waits are told, and told again
            found = await outcomes([hold(one_broker, two_broker, False), hold(two_broker, one_broker, True)])
            assert all(isinstance(each, int) for each in found), found

    asyncio.run(work())


def test_loop_whose_tasks_cannot_be_listed_may_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all tasks are seen, nothing is refused for now: there might be a time limit among them."""

    def too_fast(_: Any) -> Any:
        raise RuntimeError

    async def work() -> None:
        async with new("one") as one:
            await one.call("operator:neg", 1)
            monkeypatch.setattr(asyncio, "all_tasks", too_fast)
            assert time_limits.may_end(lambda: asleep.callers([]))[0]
            monkeypatch.undo()

    asyncio.run(work())


@pytest.mark.parametrize("limit", [None, 1])
def test_domain_that_has_gone_is_in_nobodys_way(limit: int | None) -> None:
    """What is left of a domain that ended and was dropped, while something still holds it, is asked for nothing: the
    calls of others wait for a place as before, and a circle of theirs is found."""

    async def gone() -> Any:
        domain = new("gone", max_concurrency=limit)
        peer = domain._life.peer
        assert await domain.call("errands:add", 1, 1) == 2
        await domain.kill()
        return peer

    async def work() -> None:
        peer = await gone()
        gc.collect()
        assert not hasattr(peer, "lanes")  # it has let go of what it had
        assert asleep.asleep(12345) is None
        assert asleep.callers([12345]) == []
        async with new("alive", max_concurrency=1) as alive:
            calls = [alive.call("errands:sleep", 0.02) for _ in range(5)]
            assert await asyncio.gather(*calls) == [0.02] * 5

    asyncio.run(work())


def test_circle_is_found_where_a_domain_has_gone_before() -> None:
    """The same: a circle of others ends."""
    peers: list[Any] = []

    async def gone() -> None:
        domain = new("gone")
        peers.append(domain._life.peer)
        await domain.call("errands:add", 1, 1)
        await domain.kill()

    asyncio.run(gone())
    gc.collect()
    assert not hasattr(peers[0], "lanes")
    test_coroutines_that_want_each_others_objects(directly)
