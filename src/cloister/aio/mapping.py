"""`cloister.aio.Domain.map`: a function over many items, in chunks, in order, with a bounded look ahead."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Final

from cloister.aio.moments import wait_ended
from cloister.domain.life import KILL_S, Life
from cloister.domain.mapping import Outcome, Progress, check_sizes, known_length
from cloister.errors import ProtocolError
from cloister.objects.proxies import is_proxy
from cloister.report import Reason

__all__ = ["map_chunks"]

Send = Callable[[list[list[Any]]], asyncio.Future[Any]]
"""Sends the columns of a chunk."""
Sent = deque[tuple[asyncio.Future[Any], int]]
"""The chunks on their way, with how many items each has."""
_END: Final = object()


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
    columns = [iter(each) if _at_once(each) else aiter(each) for each in iterables]
    total = known_length(iterables) if progress is not None else None
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        if progress is not None:
            done += count
            progress(done, total)

    if all(map(_at_once, iterables)):
        rows = zip(*columns, strict=False)
        return _results(life, prepare, target, rows, size, ahead, return_exceptions, tell)
    return _awaited_results(life, prepare, target, columns, size, ahead, return_exceptions, tell)


def _at_once(iterable: Any) -> bool:
    """Whether its items are there when they are asked for; else they are awaited, as those of a proxy are."""
    return not hasattr(iterable, "__aiter__") or (hasattr(iterable, "__iter__") and not is_proxy(iterable))


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
    sent: Sent = deque()

    def fill() -> None:
        while len(sent) < ahead and (chunk := list(itertools.islice(rows, size))):
            sent.append((send([list(column) for column in zip(*chunk, strict=True)]), len(chunk)))

    try:
        fill()
        while sent:
            future, count = sent[0]
            results, failures = await _outcome(life, future, count)
            sent.popleft()
            fill()
            tell(count)
            error = _arrange(results, failures, return_exceptions)
            while results:  # each is let go of when it is given, for it may be large
                yield results.pop()
            if error is not None:
                raise error
    finally:
        while sent:
            sent.pop()[0].cancel()


async def _awaited_results(
    life: Life,
    prepare: Callable[[Any], Awaitable[Send]],
    target: Any,
    columns: list[Any],
    size: int,
    ahead: int,
    return_exceptions: bool,
    tell: Callable[[int], object],
) -> AsyncGenerator[Any, None]:
    """As `_results`, where the next items may be long in coming: results are given meanwhile."""
    send = await prepare(target)
    sent: Sent = deque()
    taking: asyncio.Task[list[list[Any]]] | None = None
    more = True
    try:
        while True:
            if taking is None and more and len(sent) < ahead:
                taking = asyncio.create_task(_take(columns, size))
            awaited: list[asyncio.Future[Any]] = [sent[0][0]] if sent else []
            if taking is not None:
                awaited.append(taking)
            if not awaited:
                return
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if taking is not None and taking.done():
                chunk, taking = taking.result(), None
                count = len(chunk[0]) if chunk else 0
                more = count == size
                if count:
                    sent.append((send(chunk), count))
                continue
            future, count = sent[0]
            results, failures = await _outcome(life, future, count)
            sent.popleft()
            tell(count)
            error = _arrange(results, failures, return_exceptions)
            while results:  # each is let go of when it is given, for it may be large
                yield results.pop()
            if error is not None:
                raise error
    finally:
        while sent:
            sent.pop()[0].cancel()
        if taking is not None:
            taking.cancel()
            await asyncio.wait([taking])
            if not taking.cancelled():
                taking.exception()  # else the loop would report it: the map has ended for another reason


async def _take(columns: list[Any], size: int) -> list[list[Any]]:
    """The items of the next chunk, a list for each iterable; fewer of them, or nothing, where one has ended."""
    rows: list[list[Any]] = []
    ended = False
    while len(rows) < size and not ended:
        row = []
        for column in columns:
            item = await anext(column, _END) if hasattr(column, "__anext__") else next(column, _END)
            ended = item is _END
            if ended:
                break
            row.append(item)
        else:
            rows.append(row)
    return [list(each) for each in zip(*rows, strict=True)]


async def _outcome(life: Life, future: asyncio.Future[Any], count: int) -> Outcome:
    """What has come of a chunk. Raises what the call raises; where the answer is malformed, the domain's end."""
    try:
        return _read(life, await future, count)
    except ProtocolError as error:
        life.end_for(Reason.BAD_MESSAGE, f"{error} (while map() was called)")
        await wait_ended(life, KILL_S)
        ended = life.error()
        raise ended from ended.__cause__


def _arrange(results: list[Any], failures: dict[int, BaseException], return_exceptions: bool) -> BaseException | None:
    """Let the results of a chunk be taken from the end of the list, and say what is to be raised after them."""
    error = None
    for place in sorted(failures):
        if not return_exceptions:
            error = failures[place]
            del results[place:]
            break
        results[place] = failures[place]
    results.reverse()
    return error


def _read(life: Life, outcome: Any, count: int) -> Outcome:
    match outcome:
        case [list(results), dict(failures)] if len(results) == count and failures.keys() <= set(range(count)):
            return results, {place: life.peer.rebuild(described) for place, described in failures.items()}
    raise ProtocolError("a chunk did not come back with as many results")
