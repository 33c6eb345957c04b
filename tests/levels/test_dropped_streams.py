"""Streams that are dropped before their end, on either side of a wall: what they hold is let go soon."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import cloister
from cloister import aio
from cloister.domain.domain import Domain
from tests.patience import wait_until

Make = Callable[..., Domain]

NEVER = cloister.Watchdog(beat=600)
"""So far apart are the beats that none comes in a test but the first one."""
SOURCE = """
ended = []

def counted(most):
    try:
        yield from range(most)
    finally:
        ended.append(most)

async def counted_async(most):
    try:
        for number in range(most):
            yield number
    finally:
        ended.append(most)

def take(numbers, most):
    for number, _ in zip(numbers, range(most)):
        pass

class Numbers:
    def __init__(self):
        self.left = iter(range(1000))
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.left)
    def __del__(self):
        ended.append("numbers")
"""


@pytest.fixture
def domain(make: Make) -> Domain:
    """A domain with streams, whose beats are too far apart to tell of anything."""
    domain = make(watchdog=NEVER)
    domain.exec(SOURCE)
    return domain


@pytest.mark.parametrize("expression", ["counted(1000)", "Numbers()"])
def test_stream_of_the_guest_that_is_left_ends_soon(domain: Domain, expression: str) -> None:
    """A loop that is left with `break` ends the generator over there, and lets the iterator go, without a beat."""
    for number in domain.eval(expression):
        if number == 20:
            break
    wait_until(lambda: domain.eval("ended") != [], 30)


def test_stream_of_the_host_that_is_left_ends_soon(domain: Domain) -> None:
    """The same for a generator of the host, of which code in the domain has read a part."""
    ended = threading.Event()

    def counted() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    domain.exec("def some(numbers): take(numbers, 5)")
    domain.eval("some")(counted())
    assert ended.wait(30)


def test_streams_that_are_left_by_many_threads_end_soon(domain: Domain) -> None:
    """Each of them, whoever is told of at the same moment."""

    def leave_some() -> None:
        for _ in range(20):
            for number in domain.eval("counted(1000)"):
                if number == 3:
                    break

    threads = [threading.Thread(target=leave_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: domain.eval("len(ended)") == 80, 30)


def test_stream_that_is_left_after_the_end_of_its_domain_is_no_error(make: Make) -> None:
    """What is dropped when there is nobody to hear of it is dropped, and wakes nobody."""
    domain = make(watchdog=NEVER)
    domain.exec(SOURCE)
    numbers = domain.eval("counted(1000)")
    assert next(numbers) == 0
    domain.unload()
    del numbers


def test_streams_on_a_loop_that_are_left_end_soon(level: str, modules: None) -> None:
    """The same where calls are awaited, in both directions."""

    async def run() -> tuple[bool, bool]:
        left = asyncio.Event()

        async def counted() -> AsyncIterator[int]:
            try:
                for number in range(1000):
                    yield number
            finally:
                left.set()

        async with aio.Domain("subject", level=level, watchdog=NEVER) as domain:
            await domain.exec(SOURCE)
            for expression in ("counted(1000)", "counted_async(1000)"):
                numbers: Any = await domain.eval(expression)
                async for number in numbers:
                    if number == 20:
                        break
                del numbers
            await domain.exec("async def some(numbers):\n    async for number in numbers:\n        return number\n")
            assert await (await domain.eval("some"))(counted()) == 0
            await asyncio.wait_for(left.wait(), 30)
            for _ in range(3000):
                if len(await domain.eval("ended")) == 2:
                    break
                await asyncio.sleep(0.01)
            return left.is_set(), len(await domain.eval("ended")) == 2

    assert asyncio.run(run()) == (True, True)
