"""What mypy and pyright say of proxies that are called; a line with an error on purpose ends with `expect-error`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from decimal import Decimal
from typing import Any, assert_type

import shop
from made_sync import Customers

import cloister


def measure(text: str) -> int:
    """Run in a domain."""
    return len(text)


async def fetch(text: str) -> int:
    """Run in a domain, on its loop."""
    return len(text)


async def letters(text: str) -> AsyncIterator[str]:
    """Run in a domain, on its loop."""
    for letter in text:
        yield letter


def through_a_protocol(domain: cloister.Domain) -> None:
    """A Protocol that `cloister stubs` has made."""
    customers: Customers = domain.create("shop:Customers", "eu")
    assert_type(customers.add("Ada", since=None), int)
    assert_type(customers.each(2), Iterator[shop.Order])
    assert_type(customers.live(), Iterator[tuple[int, str]])
    assert_type(customers.fetch("a", str), Decimal | None)
    assert_type(customers.me(), Customers)
    assert_type(customers.share().numerator, int)
    assert_type(customers.rows(), list[tuple[str, int]])
    assert_type(customers.total, int)
    assert_type(customers.limit, int)
    assert_type(customers.of(1), Customers)
    assert_type(customers.parse("x"), list[shop.Order])
    assert_type(customers["Ada"].number, int)
    assert_type(list(customers), list[str])
    assert_type(len(customers), int)
    customers.untyped(1, 2, 3, other=4)
    customers.add(1)  # expect-error
    customers.ad("Ada")  # expect-error
    customers.add("Ada", None)  # expect-error
    customers.fetch("c", str)  # expect-error
    customers.each(size=2)  # expect-error
    customers.total = 3  # expect-error
    print(customers.region)  # expect-error


def through_the_class(domain: cloister.Domain) -> None:
    """A class that the host has imported, and what is typed by what it wraps."""
    customers = domain.create(shop.Customers, "eu")
    assert_type(customers, shop.Customers)
    assert_type(customers.add("Ada"), int)
    assert_type(domain.call(measure, "Ada"), int)
    assert_type(domain.call("shop:measure", "Ada"), Any)
    assert_type(domain.submit(measure, "Ada"), Future[int])
    assert_type(domain.submit(measure, "Ada").result(), int)
    assert_type(list(domain.map(measure, ["Ada"])), list[int])
    assert_type(cloister.submit(customers.add, "Ada"), Future[int])
    customers.add(1)  # expect-error
    length: str = domain.call(measure, "Ada")  # expect-error
    future: Future[str] = domain.submit(measure, "Ada")  # expect-error
    texts: Iterator[str] = domain.map(measure, ["Ada"])  # expect-error
    print(length, future, texts)


def through_coroutines(domain: cloister.Domain, pool: cloister.DomainPoolExecutor) -> None:
    """What an `async def` gives that runs over there: its result, for nobody awaits it here."""
    assert_type(domain.call(fetch, "Ada"), int)
    assert_type(domain.call(letters, "Ada"), Iterator[str])
    assert_type(domain.submit(fetch, "Ada"), Future[int])
    assert_type(list(domain.map(fetch, ["Ada"])), list[int])
    assert_type(pool.submit(fetch, "Ada"), Future[int])
    assert_type(pool.submit(measure, "Ada"), Future[int])
    assert_type(list(pool.map(fetch, ["Ada"])), list[int])
    assert_type(list(pool.map(measure, ["Ada"])), list[int])
    text: str = domain.call(fetch, "Ada")  # expect-error
    print(text)
