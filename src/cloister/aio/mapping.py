"""`cloister.aio.Domain.map`: a function over many items, in chunks, in order, with a bounded look ahead."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

from cloister.aio.moments import wait_ended
from cloister.domain.life import KILL_S, Life
from cloister.domain.mapping import Progress, check_sizes, known_length
from cloister.errors import ProtocolError
from cloister.report import Reason

__all__ = ["map_chunks"]

Send = Callable[[list[list[Any]]], asyncio.Future[Any]]
"""Sends the columns of a chunk."""


def map_chunks(
    life: Life,
    prepare: Callable[[Any], Awaitable[Send]],
    target: Any,
    iterables: tuple[Any, ...],
    size: int,
    ahead: int,
    *,
    return_exceptions: bool,
    progress: Progress | None,
) -> AsyncGenerator[Any, None]:
    """Give the results in order; see `Domain.map`.

    Raises as `check_sizes`, and TypeError for what can't be iterated.
    """
    check_sizes(size, ahead)
    rows = zip(*iterables, strict=False)
    total = known_length(iterables) if progress is not None else None
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        if progress is not None:
            done += count
            progress(done, total)

    return _results(life, prepare, target, rows, size, ahead, return_exceptions, tell)


async def _results(
    life: Life,
    prepare: Callable[[Any], Awaitable[Send]],
    target: Any,
    rows: Iterator[tuple[Any, ...]],
    size: int,
    ahead: int,
    return_exceptions: bool,
    tell: Callable[[int], object],
) -> AsyncGenerator[Any, None]:
    send = await prepare(target)
    sent: deque[tuple[asyncio.Future[Any], int]] = deque()

    def fill() -> None:
        while len(sent) < ahead and (chunk := list(itertools.islice(rows, size))):
            sent.append((send([list(column) for column in zip(*chunk, strict=True)]), len(chunk)))

    try:
        fill()
        while sent:
            future, count = sent[0]
            try:
                results, failures = _read(life, await future, count)
            except ProtocolError as error:
                life.end_for(Reason.BAD_MESSAGE, f"{error} (while map() was called)")
                await wait_ended(life, KILL_S)
                raise life.error() from None
            sent.popleft()
            fill()
            tell(count)
            for place in sorted(failures):
                results[place] = failures[place]
                if not return_exceptions:
                    for result in results[:place]:
                        yield result
                    raise failures[place]
            results.reverse()
            while results:  # each is let go of when it is given: it may be large
                yield results.pop()
    finally:
        while sent:
            sent.pop()[0].cancel()


def _read(life: Life, outcome: Any, count: int) -> tuple[list[Any], dict[int, BaseException]]:
    match outcome:
        case [list(results), dict(failures)] if len(results) == count and failures.keys() <= set(range(count)):
            return results, {place: life.peer.rebuild(described) for place, described in failures.items()}
    raise ProtocolError("a chunk did not come back with as many results")
