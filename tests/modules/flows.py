"""Iterators and generators, and what reads those of others. Only guests import this."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any

import cloister

made: list[int] = []
"""The items that the last `counted` has made."""
ends: list[str] = []
"""The threads on which a generator was ended."""


def counted(count: int, error: BaseException | None = None, value: object = None) -> Generator[int, None, object]:
    """Numbers, then perhaps an error, else a value; `made` and `ends` tell what happened here."""
    made.clear()
    ends.clear()
    try:
        for number in range(count):
            made.append(number)
            yield number
        if error is not None:
            raise error
        return value
    finally:
        ends.append(threading.current_thread().name)


def failing(count: int) -> Iterator[int]:
    """Numbers, then a ValueError."""
    return counted(count, ValueError(f"after {count}"))


def careful(count: int, ahead: int) -> Iterator[int]:
    """The same, with a bound on what may be read ahead."""
    return cloister.stream(counted(count), ahead=ahead)


def how_many_made() -> int:
    """How far the last `counted` has got."""
    return len(made)


def how_ended() -> list[str]:
    """The threads on which it was ended."""
    return ends


def echo() -> Generator[object, object, str]:
    """Yield what is sent; `ValueError` is yielded as its text."""
    said: object = "ready"
    while said != "stop":
        try:
            said = yield said
        except ValueError as error:
            said = f"caught {error}"
    return "stopped"


def slow(items: int, pause: float) -> Iterator[int]:
    """Numbers with pauses."""
    for number in range(items):
        yield number
        time.sleep(pause)


def never() -> Iterator[int]:
    """One item, and then nothing for a very long time."""
    yield 1
    time.sleep(600)


class Patient:
    """An iterator that goes on after it was interrupted."""

    def __init__(self) -> None:
        self.number = 0

    def __iter__(self) -> Patient:
        return self

    def __next__(self) -> int:
        if self.number == 3:
            self.number += 1
            time.sleep(600)
        self.number += 1
        return self.number


def blobs(count: int, size: int) -> Iterator[bytes]:
    """Large pieces."""
    piece = bytes(size)
    for _ in range(count):
        yield piece


def dying(count: int) -> Iterator[int]:
    """Numbers, and then the process is gone."""
    import os

    yield from range(count)
    os.abort()


def total(pieces: Iterable[bytes]) -> int:
    """How many bytes come."""
    return sum(map(len, pieces))


def first(numbers: Iterable[int], count: int) -> list[int]:
    """The first items, and no more of them."""
    found = []
    for number in numbers:
        found.append(number)
        if len(found) == count:
            break
    return found


def outcome(numbers: Iterable[Any]) -> list[object]:
    """All items, and the name of the exception that ended them."""
    found: list[object] = []
    try:
        found += numbers
        found.extend([])
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


def outcome_of_each(numbers: Iterator[Any]) -> list[object]:
    """All items one after the other; an exception is one more item, and the next is asked for."""
    found: list[object] = []
    while True:
        try:
            found.append(next(numbers))
        except StopIteration:
            return found
        except Exception as error:
            found.append(type(error).__name__)


def talk(generator: Generator[Any, Any, Any]) -> list[object]:
    """Use a generator's own methods."""
    said: list[object] = [next(generator), generator.send("a"), generator.throw(ValueError("b"))]
    try:
        generator.send("stop")
    except StopIteration as stop:
        said.append(stop.value)
    generator.close()
    return said


def forget_peak() -> None:
    """Measure the peak of this process's memory from now on."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")


def peak_kib() -> int:
    """The most memory that this process has had since then, in KiB."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


@functools.cache
def shared_numbers() -> Iterator[int]:
    """One iterator, the same at each call."""
    return iter(range(10_000))


def busy(entered: Callable[[], None], leave: Callable[[], None]) -> Iterator[int]:
    """A generator that can be caught in the middle."""
    entered()
    leave()
    yield 1
    yield 2


async def ticks(count: int) -> AsyncIterator[int]:
    """Numbers, from a coroutine."""
    import asyncio

    ends.clear()
    try:
        for number in range(count):
            if number % 3 == 0:
                await asyncio.sleep(0)
            yield number
    finally:
        ends.append(threading.current_thread().name)


class AsyncIterable:
    """Something that is iterated over with `async for`."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __aiter__(self) -> AsyncIterator[int]:
        return ticks(self.count)
