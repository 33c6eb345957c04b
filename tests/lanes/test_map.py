"""`Domain.map` on the shared lane: order, places, endless inputs, what is given up, and what is kept."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloister
from cloister.errors import DomainCrashed

Start = Callable[..., cloister.Domain]
JOIN_S = 20.0


def test_map_keeps_order_for_several_iterables(domain: cloister.Domain) -> None:
    """`map` gives the results in order, for several iterables side by side, up to the shortest one."""
    for chunksize, buffersize in itertools.product((1, 3, 100), (1, 4, 64)):
        results: Iterator[Any] = domain.map(
            "operator:add", range(25), itertools.count(100), chunksize=chunksize, buffersize=buffersize
        )
        assert list(results) == [100 + 2 * number for number in range(25)]


def test_map_of_nothing_gives_nothing(domain: cloister.Domain) -> None:
    """`map` over an empty iterable, or over none at all, gives no results."""
    assert list(domain.map("operator:neg", [])) == []
    assert list(domain.map("operator:neg")) == []


def test_map_over_a_list_that_changes_takes_what_its_iterator_would(domain: cloister.Domain) -> None:
    """What is added before the end is reached comes as well, what is added after that does not."""
    items = [1, 2, 3, 4]
    results: Iterator[Any] = domain.map("operator:neg", items, chunksize=2, buffersize=1)
    assert [next(results), next(results)] == [-1, -2]
    items.append(5)
    assert [next(results), next(results), next(results)] == [-3, -4, -5]
    items += [6, 7]
    assert list(results) == []


def test_map_raises_at_the_place_of_the_exception(start: Start) -> None:
    """`map` raises the exception of an item at its place; what was asked for as values comes as values."""
    domain = start()
    results: Iterator[Any] = domain.map("operator:truediv", [1, 2, 3], [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    results = domain.map("operator:truediv", [1, 2, 3], [1, 0, 1], chunksize=3, return_exceptions=True)
    assert [type(result) for result in results] == [float, ZeroDivisionError, float]


def test_map_takes_an_endless_input_as_it_goes(start: Start) -> None:
    """`map` takes no more from its input than the chunks that may be on their way, and stops when it is closed."""
    domain = start()
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    results: Iterator[Any] = domain.map("operator:neg", endless(), chunksize=2, buffersize=4)
    assert taken == 8
    assert list(itertools.islice(results, 10)) == [-number for number in range(10)]
    assert taken <= 10 + 8
    results.close()  # type: ignore[attr-defined]  # it is a generator
    before = taken
    assert list(results) == []
    assert taken == before


def test_closed_map_cancels_what_it_has_sent(start: Start) -> None:
    """A `map` that is closed early gives up its chunks: the guest does not work on them any more."""
    domain = start()
    results: Iterator[Any] = domain.map("errands:keep_late", range(64), itertools.repeat(0.05), buffersize=64)
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    domain.submit("operator:add", 1, 1).result(JOIN_S)
    assert len(domain.call("errands:kept")) < 40


def test_map_refuses_sizes_below_one(start: Start) -> None:
    """`chunksize` and `buffersize` from 1 up; what the input raises comes out, and nothing is left open."""
    domain = start()
    for chunksize, buffersize in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(ValueError, match="from 1 up"):
            domain.map("operator:neg", [1], chunksize=chunksize, buffersize=buffersize)
    sizes: Any
    for sizes in ({"chunksize": "8"}, {"chunksize": 1.5}, {"chunksize": None}, {"buffersize": 2.0}):
        with pytest.raises(TypeError, match=f"{next(iter(sizes))} is a whole number"):
            domain.map("operator:neg", [1], **sizes)

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        list(domain.map("operator:neg", broken()))
    assert domain.call("errands:add", 1, 1) == 2


@pytest.mark.parametrize("chunksize", [1, 4])
def test_map_keeps_no_result_that_it_has_given(start: Start, chunksize: int) -> None:
    """A result of a `map` belongs to who has got it: the iterator holds it no longer, for it may be large."""
    domain = start()
    given = 0
    for made in domain.map("collections:Counter", ["a"] * 6, chunksize=chunksize):
        seen = weakref.ref(made)
        del made
        assert seen() is None
        given += 1
    assert given == 6


def test_map_ends_with_the_domain(start: Start) -> None:
    """A domain that ends in the middle of a `map` ends it with its error."""
    domain = start()
    results: Iterator[Any] = domain.map("os:_exit", [3, 3])
    with pytest.raises(DomainCrashed):
        list(results)
