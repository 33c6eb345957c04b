"""`aio.Domain.reload`: as `cloister.domain.reloading` tells, with everything awaited.

Two reloads of one domain, on any loops, come one after the other. Belongs to the thread of its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from cloister import calling
from cloister.aio.moments import end_of, wait_ended, wait_ready
from cloister.aio.peer import FUTURES, LoopPeer
from cloister.domain.life import KILL_S
from cloister.domain.reloading import Exchange
from cloister.errors import DomainUnloaded
from cloister.report import Reason
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from cloister.aio.domain import Domain

__all__ = ["reload"]


async def reload(domain: Domain) -> None:
    """Put a fresh domain in the place of this one. Raises what the start and the makers raise.

    Where the task is cancelled, the old domain goes on, unless calls go to the new one already.
    """
    async with _in_order(domain) as goes_on:
        exchange = Exchange(domain)
        new = exchange.new
        try:
            exchange.take_over()
            await wait_ready(new, calling.deadline.get())
            orders = exchange.remake()
            made: Any = None
            with contextlib.suppress(StopIteration):
                while True:
                    assert isinstance(new.peer, LoopPeer)
                    made = await new.peer.start(FUTURES, SERVICE, "create", orders.send(made))
        except BaseException:
            new.end_for(Reason.KILLED, "")
            await wait_ended(new, KILL_S)
            raise
        unloaded = exchange.move()  # from here on there is no way back, so no cancel reaches the rest
        rest = asyncio.create_task(_exchange(exchange, unloaded))
        goes_on(rest)
        await asyncio.shield(rest)


async def _exchange(exchange: Exchange, unloaded: DomainUnloaded | None) -> None:
    if unloaded is not None:
        await end_of(exchange.new)
        raise unloaded
    await end_of(exchange.old)
    exchange.adopt()


_lock = threading.Lock()


@contextlib.asynccontextmanager
async def _in_order(domain: Domain) -> AsyncIterator[Callable[[asyncio.Task[None]], None]]:
    """Wait for the reloads of this domain that were begun before, on whatever loop.

    The next one waits for the task too that is given to the function inside.
    """
    rest: list[asyncio.Task[None]] = []
    mine: Future[None] = Future()
    with _lock:
        queue: deque[Future[None]] = (domain._view_of or domain).__dict__.setdefault("_reloads", deque())
        before = list(queue)
        queue.append(mine)

    def over() -> None:
        queue.remove(mine)
        mine.set_result(None)

    try:
        for each in before:
            await asyncio.shield(asyncio.wrap_future(each))
        yield rest.append
    finally:
        if rest:
            rest[0].add_done_callback(lambda _: over())
        else:
            over()
