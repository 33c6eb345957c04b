"""Items of a stream: a generator over there that is read here, one here that is read there, and what others have.

The floor sends each item by itself through a pipe of multiprocessing, as its queue does with a thread more. A stream
of ours travels in batches that grow with what the reader takes; it has back-pressure, errors in their place, an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import cloister
import cloister.aio
from benchmarks import harness, peers
from benchmarks.harness import Entered, Table

ITEMS = 20_000
ROUNDS = 10


def run() -> Iterator[Table]:
    """One table for a stream to the host, one for a stream to the domain."""
    yield harness.contest(
        "Streams: one item, from a domain to its host",
        {
            "multiprocessing Pipe": partial(_sent, "pipe"),
            "multiprocessing Queue": partial(_sent, "queue"),
            "cloister, for": _read,
            "cloister.aio, async for": _awaited,
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        extra=lambda _, seconds: {"items/s": 1 / seconds},
    )
    yield harness.contest(
        "Streams: one item, from a host to its domain",
        {"multiprocessing Pipe": _received, "cloister, for": _given},
        rounds=harness.rounds(ROUNDS),
        placement="free",
        extra=lambda _, seconds: {"items/s": 1 / seconds},
    )


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def total(items: Iterable[int]) -> int:
    return sum(items)


def _measuring(read: Callable[[], int]) -> Callable[[], list[float]]:
    def measure() -> list[float]:
        begun = time.perf_counter()
        summed = read()
        took = time.perf_counter() - begun
        assert summed == ITEMS * (ITEMS - 1) // 2
        return [took / ITEMS]

    return measure


@contextlib.contextmanager
def _read() -> Iterator[Entered]:
    with cloister.Domain("bench") as domain:
        yield _measuring(lambda: sum(domain.call(f"{__name__}:numbers", ITEMS))), []


@contextlib.contextmanager
def _given() -> Iterator[Entered]:
    with cloister.Domain("bench") as domain:
        yield _measuring(lambda: int(domain.call(f"{__name__}:total", numbers(ITEMS)))), []


@contextlib.contextmanager
def _awaited() -> Iterator[Entered]:
    async def read() -> int:
        summed = 0
        async for item in await domain.call(f"{__name__}:numbers", ITEMS):
            summed += item
        return summed

    with asyncio.Runner() as runner:
        domain: Any = cloister.aio.Domain("bench")
        runner.run(domain.__aenter__())
        try:
            yield _measuring(lambda: runner.run(read())), []
        finally:
            runner.run(domain.__aexit__(None, None, None))


# -- the peers ---------------------------------------------------------------------------------------------------------


def send(asked: Any, put: Any) -> None:
    """Send all numbers, each by itself, whenever asked."""
    while asked.recv():
        for number in range(ITEMS):
            put(number)


def send_through(asked: Any, way: Any) -> None:
    """Send through a pipe or a queue."""
    send(asked, way.put if hasattr(way, "put") else way.send)


def answer_sums(link: Any) -> None:
    """Receive all numbers and send their sum, until the end."""
    with contextlib.suppress(EOFError):
        while True:
            link.send(sum(link.recv() for _ in range(ITEMS)))


@contextlib.contextmanager
def _sent(kind: str) -> Iterator[Entered]:
    asked, ask = peers.spawned.Pipe(duplex=False)
    if kind == "queue":
        queue = peers.spawned.Queue()
        take: Callable[[], Any] = queue.get
        way: Any = queue
    else:
        reader, way = peers.spawned.Pipe(duplex=False)
        take = reader.recv
    process = peers.spawned.Process(target=send_through, args=(asked, way))
    process.start()

    def read() -> int:
        ask.send(True)
        return sum(take() for _ in range(ITEMS))

    try:
        yield _measuring(read), []
    finally:
        ask.send(False)
        process.join()


@contextlib.contextmanager
def _received() -> Iterator[Entered]:
    ours, theirs = peers.spawned.Pipe()
    process = peers.spawned.Process(target=answer_sums, args=(theirs,))
    process.start()
    theirs.close()

    def read() -> int:
        for number in range(ITEMS):
            ours.send(number)
        return int(ours.recv())

    try:
        yield _measuring(read), []
    finally:
        ours.close()
        process.join()
