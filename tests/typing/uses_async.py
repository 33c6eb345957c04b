"""What mypy and pyright say of proxies that are awaited; a line with an error on purpose ends with `expect-error`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any, assert_type

import shop
from made_async import AsyncCustomers

import cloister


def measure(text: str) -> int:
    """Run in a domain."""
    return len(text)


async def fetch(text: str) -> int:
    """Run in a domain, on its loop."""
    return len(text)


def letters(text: str) -> Iterator[str]:
    """Run in a domain."""
    yield from text


async def through_a_domain(domain: cloister.aio.Domain) -> None:
    """What the calls of a domain give; what `create` makes of a class is awaited, so it is typed by a Protocol."""
    assert_type(await domain.call(measure, "Ada"), int)
    assert_type(await domain.call("shop:measure", "Ada"), Any)
    assert_type(domain.submit(measure, "Ada"), asyncio.Future[int])
    assert_type(await domain.submit(measure, "Ada"), int)
    assert_type([size async for size in domain.map(measure, ["Ada"])], list[int])
    assert_type(await domain.call(fetch, "Ada"), int)
    assert_type(await domain.submit(fetch, "Ada"), int)
    assert_type([size async for size in domain.map(fetch, ["Ada"])], list[int])
    assert_type([letter async for letter in await domain.call(letters, "Ada")], list[str])
    assert_type(await domain.create("shop:Customers", "eu"), Any)
    assert_type(await domain.create(shop.Customers, "eu"), Any)
    assert_type(await domain.with_options(timeout=1).eval("1"), Any)
    customers: AsyncCustomers = await domain.create(shop.Customers, "eu")
    assert_type(await customers.add("Ada"), int)
    future: asyncio.Future[str] = domain.submit(measure, "Ada")  # expect-error
    length: int = domain.call(measure, "Ada")  # expect-error
    for size in domain.map(measure, ["Ada"]):  # expect-error
        print(size, future, length)


async def through_a_protocol(made: Any) -> None:
    """A Protocol that `cloister stubs --async` has made."""
    customers: AsyncCustomers = made
    assert_type(await customers.add("Ada", since=None), int)
    assert_type(await customers.each(2), AsyncIterator[shop.Order])
    assert_type([order.number async for order in await customers.each()], list[int])
    assert_type([pair async for pair in await customers.live()], list[tuple[int, str]])
    assert_type(await customers.fetch("a", str), Decimal | None)
    assert_type(await (await customers.me()).add("Ada"), int)
    assert_type(await customers.total, int)
    assert_type(await customers["Ada"], shop.Order)
    assert_type([name async for name in customers], list[str])
    assert_type(await asyncio.create_task(customers.add("Ada")), int)
    assert_type(cloister.aio.submit(customers.add, "Ada"), asyncio.Future[int])
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(customers.add("Ada")), asyncio.Task[int])
    assert_type(await asyncio.gather(customers.add("Ada"), customers.add("Bob")), tuple[int, int])
    length: int = customers.add("Ada")  # expect-error
    text: str = await customers.add("Ada")  # expect-error
    await customers.add(1)  # expect-error
    task = asyncio.create_task(customers.total)  # expect-error
    len(customers)  # expect-error
    for name in customers:  # expect-error
        print(name, length, text, task)
