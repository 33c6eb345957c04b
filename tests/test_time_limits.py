"""Time limits of tasks, as the timers of their loops show them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from cloister import time_limits

try:
    import uvloop
except ImportError:  # it is not there for every Python
    uvloop = None  # type: ignore[assignment]  # it is asked for before use
else:
    uvloop.new_event_loop().close()  # the first one makes a pipe for signals, which the process keeps

LOOPS = [
    asyncio.new_event_loop,
    pytest.param(
        lambda: uvloop.new_event_loop(), id="uvloop", marks=pytest.mark.skipif(uvloop is None, reason="no uvloop here")
    ),
]
NewLoop = Callable[[], asyncio.AbstractEventLoop]
LONG_S = 1000.0


def ends(*tasks: Any) -> bool:
    """Whether one of them may end by a time limit."""
    return time_limits.may_end(lambda: tasks)[0]


async def without(event: asyncio.Event) -> None:
    """Wait."""
    await event.wait()


async def by_timeout(event: asyncio.Event) -> None:
    """Wait, with a limit around it."""
    async with asyncio.timeout(LONG_S):
        await event.wait()


async def by_timer(event: asyncio.Event) -> None:
    """Wait, with a timer that ends the task."""
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(LONG_S, task.cancel)
    await event.wait()
    timer.cancel()


async def by_argument(event: asyncio.Event) -> None:
    """Wait, with a timer that knows the task."""
    timer = asyncio.get_running_loop().call_later(LONG_S, partial(print, asyncio.current_task()), 1)
    await event.wait()
    timer.cancel()


async def after_one(event: asyncio.Event) -> None:
    """Wait, after a limit that is over."""
    async with asyncio.timeout(LONG_S):
        await asyncio.sleep(0)
    await event.wait()


async def look(work: Callable[[asyncio.Event], Awaitable[None]]) -> list[bool]:
    """Look twice at a task that does this."""
    event = asyncio.Event()
    task = asyncio.ensure_future(work(event))
    for _ in range(3):
        await asyncio.sleep(0)
    found = [ends(task), ends(task)]
    event.set()
    await task
    return found


@pytest.mark.parametrize("new_loop", LOOPS)
def test_limit_is_seen_and_nothing_else(new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look has its answer, also one that comes soon; and none goes through all objects of the program."""

    def refuse(*_: object) -> None:
        raise AssertionError("it takes longer the more there is")

    monkeypatch.setattr(gc, "get_referrers", refuse)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.get_loop().call_later(LONG_S, print)
        for work in (by_timeout, by_timer, by_argument):
            assert runner.run(look(work)) == [True, True], work
        for work in (without, after_one):
            assert runner.run(look(work)) == [False, False], work


@pytest.mark.parametrize("new_loop", LOOPS)
def test_only_so_many_timers_are_looked_at(new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a loop has more there may be a limit; the looks say what they have cost."""
    monkeypatch.setattr(time_limits, "MOST", 100)

    async def work() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(asyncio.Event().wait())
        timers = [loop.call_later(LONG_S, print, task.get_name()) for _ in range(99)]
        assert time_limits.may_end(lambda: [task]) == (False, 100)
        timers.append(loop.call_later(LONG_S, print))
        assert ends(task)
        for timer in timers:
            timer.cancel()
        task.cancel()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work())


def test_unknown_loop_may_have_limits() -> None:
    """Of a loop that shows its timers to nobody."""

    class Task:
        def get_loop(self) -> object:
            return object()

    assert ends(Task())
