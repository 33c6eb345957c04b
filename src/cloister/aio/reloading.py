"""`aio.Domain.reload`: as `cloister.domain.reloading` tells, with everything awaited.

Two reloads of one domain, on any loops, come one after the other. Belongs to the thread of its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from cloister import calling
from cloister.aio.moments import end_of, wait_ended, wait_ready
from cloister.aio.peer import FUTURES, LoopPeer
from cloister.domain.life import KILL_S
from cloister.domain.reloading import Exchange
from cloister.report import Reason
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from cloister.aio.domain import Domain

__all__ = ["reload"]


async def reload(domain: Domain) -> None:
    """Put a fresh domain in the place of this one. Raises what the start and the makers raise.

    Where the task is cancelled, the old domain goes on, unless calls go to the new one already.
    """
    async with _in_order(domain):
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
        await asyncio.shield(asyncio.create_task(_exchange(exchange)))


async def _exchange(exchange: Exchange) -> None:
    """From here on there is no way back, so no cancel reaches it."""
    unloaded = exchange.move()
    if unloaded is not None:
        await end_of(exchange.new)
        raise unloaded
    await end_of(exchange.old)
    exchange.adopt()


_lock = threading.Lock()


@contextlib.asynccontextmanager
async def _in_order(domain: Domain) -> AsyncIterator[None]:
    """Wait for the reloads of this domain that were begun before, on whatever loop."""
    mine: Future[None] = Future()
    with _lock:
        queue: deque[Future[None]] = (domain._view_of or domain).__dict__.setdefault("_reloads", deque())
        before = list(queue)
        queue.append(mine)
    try:
        for each in before:
            await asyncio.shield(asyncio.wrap_future(each))
        yield
    finally:
        queue.remove(mine)
        mine.set_result(None)
