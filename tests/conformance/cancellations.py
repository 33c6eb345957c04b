"""The table goes on: what comes of a call that is given up, in each of its states, and of one whose domain ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cloister
from cloister.errors import CallTimeout, DomainCrashed, DomainUnloaded
from tests.conformance.cases import CANCELLED, CASES, cancel, case, goes_on
from tests.conformance.sides import Side, got

__all__ = ["CASES"]

# -- cancellation at each state of a call ------------------------------------------------------------------------------
# A call waits for its domain to be ready, then for a place; it imports what it needs; it runs, in Python, in a system
# call, as a coroutine; it waits for the host; it serves what its own call-back asks; it is an item of a map or of a
# stream; it is over, or refuses to be. Each has a case, and so has each with a time-out.


RUNNING = ["conforming:loop", "conforming:sleep", "conforming:forever"]


@case
async def cancelled_while_its_domain_starts(side: Side) -> None:
    """Cancellation: of a call that waits for its domain to be ready. (A thread that submits waits itself, but for a
    place.)"""
    domain = side.new(max_concurrency=1 if side.name == "threads" else None)
    futures = [domain.submit("errands:echo", number) for number in range(5)]
    for future in futures[::2]:
        assert future.cancel() or await side.result(future) in range(5)
    assert [await side.result(future) for future in futures[1::2]] == [1, 3]
    await goes_on(side, domain)


@case
async def cancelled_while_it_imports(side: Side) -> None:
    """Cancellation: of a call that imports: its caller is told at once, and no module is left half made."""
    domain = side.new()
    mark = side.mark()
    future = domain.submit("conforming:load_slowly", str(mark))
    await side.until(mark.exists, "the import began")
    await cancel(side, domain, future)
    assert await got(domain.call("conforming:load_slowly", str(mark))) == "whole"


@case
async def cancelled_in_the_middle_of_a_map(side: Side) -> None:
    """Cancellation: of a map that is left: what runs of it is stopped, what has not begun never begins."""
    domain = side.new(max_concurrency=1)
    marks = [side.mark() for _ in range(20)]
    mapped = domain.map("conforming:loop_or_pass", list(map(str, marks)), [False, *[True] * 19], buffersize=2)
    assert await side.next(mapped) is None
    await side.until(marks[1].exists, "the second item began")
    await side.close(mapped)
    await goes_on(side, domain)
    assert not marks[-1].exists()


@case
async def cancelled_while_an_item_is_awaited(side: Side) -> None:
    """Cancellation: of the wait for an item of a stream. (With threads only its time-out ends it: see above.)"""
    if side.name == "threads":
        return
    domain = side.new()
    mark = side.mark()
    stream = await got(domain.call("conforming:items", str(mark)))
    assert await side.next(stream) == 1
    waiting = asyncio.ensure_future(side.next(stream))
    await side.until(mark.exists, "the next item is made")
    waiting.cancel()
    with pytest.raises(CANCELLED):
        await waiting
    await goes_on(side, domain)


@case
async def cancelled_before_it_begins(side: Side) -> None:
    """Cancellation: a call that waits for its place is never begun."""
    domain = side.new(max_concurrency=1)
    mark = side.mark()
    first = domain.submit("conforming:loop", str(mark))
    await side.until(mark.exists, "the first call began")
    waiting = [domain.submit("conforming:note", number) for number in range(5)]
    for future in waiting:
        assert future.cancel()
        assert future.cancelled()
    assert first.cancel()
    await goes_on(side, domain)
    assert await got(domain.call("conforming:noted")) == []


@case
async def cancelled_while_it_runs(side: Side) -> None:
    """Cancellation: of a call in Python code, in a system call, of a coroutine."""
    domain = side.new()
    for target in RUNNING:
        mark = side.mark()
        future = domain.submit(target, str(mark))
        await side.until(mark.exists, f"{target} began")
        await cancel(side, domain, future)


@case
async def cancelled_while_it_waits_for_the_host(side: Side) -> None:
    """Cancellation: of a call that waits for a call-back, as a function and as a coroutine."""
    domain = side.new()
    release = threading.Event()
    begun: list[int] = []
    ended: list[str] = []

    async def hold() -> str:
        begun.append(1)
        try:
            while not release.is_set():
                await side.pause()
        finally:
            ended.append("late" if release.is_set() else "cancelled")
        return "late"

    for target in ("conforming:ask", "conforming:await_host"):
        mark = side.mark()
        future = domain.submit(target, str(mark), side.back(hold))
        await side.until(lambda: bool(begun), "the call-back began")
        begun.clear()
        await cancel(side, domain, future)
        if side.name != "threads":  # on a loop it is cancelled, a thread is never interrupted here
            await side.until(lambda: bool(ended), "the call-back of a call that was given up has ended")
            assert ended.pop() == "cancelled"
    release.set()


@case
async def cancelled_while_it_serves_its_own_call_back(side: Side) -> None:
    """Cancellation: of a call whose call-back has called the domain again and waits there."""
    domain = side.new()
    inner = side.mark()
    unwound: list[str] = []

    async def again() -> None:
        try:
            await got(domain.with_options(timeout=2).call("conforming:loop", str(inner)))
        except BaseException as error:
            unwound.append(type(error).__name__)
            raise

    future = domain.submit("conforming:ask", str(side.mark()), side.back(again))
    await side.until(inner.exists, "the nested call began")
    await cancel(side, domain, future)
    await side.until(lambda: bool(unwound), "the call-back was unwound")


@case
async def cancelled_when_it_is_over(side: Side) -> None:
    """Cancellation: of a call that has its answer, or its exception: too late, and said so."""
    domain = side.new()
    done, failed = domain.submit("errands:echo", 5), domain.submit("operator:truediv", 1, 0)
    assert await side.result(done) == 5
    with pytest.raises(ZeroDivisionError):
        await side.result(failed)
    assert not done.cancel()
    assert not failed.cancel()
    assert await side.result(done) == 5
    await goes_on(side, domain)


@case
async def time_is_up_at_each_state(side: Side) -> None:
    """Cancellation: by a time-out, while it runs in every way and while it waits for the host."""
    domain = side.new()
    await got(domain.wait_ready(30))
    hurried = domain.with_options(timeout=0.1)
    for target in RUNNING:
        with pytest.raises(CallTimeout, match="told to stop"):
            await got(hurried.call(target, str(side.mark())))
        with pytest.raises(CallTimeout):
            await side.result(hurried.submit(target, str(side.mark())))
    with pytest.raises(CallTimeout), cloister.timeout(0):
        await got(domain.call("errands:echo", 1))
    await goes_on(side, domain)


@case
async def time_of_a_nested_call_is_up(side: Side) -> None:
    """Cancellation: a nested call alone; the calls around it go on and end with their own results."""
    domain = side.new()
    await got(domain.load("conforming"))

    async def up() -> str:
        try:
            await got(domain.with_options(timeout=0.1).call("conforming:loop", str(side.mark())))
        except CallTimeout:
            return "its time was up"
        return "it ended"

    assert await got(domain.call("errands:call", side.back(up))) == "its time was up"
    assert await side.result(domain.submit("errands:call", side.back(up))) == "its time was up"
    await goes_on(side, domain)


@case
async def call_that_can_not_be_stopped_is_killed_where_that_was_asked_for(side: Side) -> None:
    """Cancellation: of a call that does not stop: after the grace the domain is killed, and its report says why."""
    domain = side.new()
    mark = side.mark()
    future = domain.with_options(kill_after=0.1).submit("conforming:stubborn", str(mark))
    await side.until(mark.exists, "the call began")
    assert future.cancel()
    with pytest.raises(CANCELLED):
        await side.result(future)
    await side.until(lambda: domain.report is not None, "the domain was killed")
    assert domain.report.reason is cloister.Reason.CANCELLED
    with pytest.raises(DomainCrashed):
        await got(domain.call("errands:add", 1, 1))


@case
async def coroutine_that_swallows_its_cancellation(side: Side) -> None:
    """Cancellation: of a coroutine that goes on nevertheless: its caller does not wait, and others are served."""
    domain = side.new()
    mark = side.mark()
    future = domain.submit("conforming:swallow", str(mark))
    await side.until(mark.exists, "the call began")
    await cancel(side, domain, future)
    await side.until(lambda: mark.with_suffix(".swallowed").exists(), "it was told")


# -- ends --------------------------------------------------------------------------------------------------------------


@case
async def crash_fails_every_open_call(side: Side) -> None:
    """Ends: each open call gets the report of a crash, and so does each later one."""
    domain = side.new()
    mark = side.mark()
    sleeping = [domain.submit("conforming:sleep", str(mark)), domain.submit("conforming:forever", str(side.mark()))]
    await side.until(mark.exists, "a call began")
    with pytest.raises(DomainCrashed) as caught:
        await got(domain.call("os:_exit", 7))
    assert caught.value.report.exit_code == 7
    assert caught.value.report.calls
    for future in sleeping:
        with pytest.raises(DomainCrashed) as also:
            await side.result(future)
        assert also.value.report is caught.value.report
        assert not future.cancel()
    with pytest.raises(DomainCrashed):
        await got(domain.call("errands:add", 1, 1))


@case
async def unload_ends_open_calls(side: Side) -> None:
    """Ends: an unload ends open calls, streams and proxies with DomainUnloaded, at once and each time."""
    domain = side.new()
    box = await got(domain.create("conforming:Box", 1))
    stream = await got(domain.call("conforming:count", 10**9))
    mark = side.mark()
    future = domain.submit("conforming:forever", str(mark))
    await side.until(mark.exists, "a call began")
    await got(domain.unload())
    with pytest.raises(DomainUnloaded):
        await side.result(future)
    for _ in range(2):
        with pytest.raises(DomainUnloaded):
            await got(box.add(1))
    with pytest.raises(DomainUnloaded):
        await side.next(stream)
    with pytest.raises(DomainUnloaded):
        await got(domain.unload())
