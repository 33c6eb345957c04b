"""The moments of a domain's life, awaited: ready, ended, all events handled. No thread waits for any of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloister.domain.life import FLUSH_S
from cloister.domain.state import State
from cloister.errors import CallTimeout

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["end_of", "events_handled", "wait_ended", "wait_ready"]


async def wait_ready(life: Life, limit: float | None) -> None:
    """Wait until calls are served. `limit` is a time of `time.monotonic`.

    Raises CallTimeout at the limit, StartFailed, DomainCrashed or DomainUnloaded where it never will be.
    """
    if life.state is State.READY:
        return
    if not life.foreign:
        left = None if limit is None else max(0.0, limit - time.monotonic())
        if not await _told(life.name, life.moments.when_moved, left):
            raise CallTimeout(f"the time for the call was up before domain {life.name!r} was ready")
        state: State = life.state
        if state is State.READY:
            return
    raise life.error()


async def wait_ended(life: Life, timeout: float | None) -> bool:
    """Wait for the end; False where it has not come in time."""
    return life.foreign or await _told(life.name, life.moments.when_ended, timeout)


async def end_of(life: Life) -> None:
    """Ask a domain to end, and wait until it has ended and its events were handled, the latter for at most `FLUSH_S`.

    Raises CannotUnload where it does not end.
    """
    life.stop()
    if not await wait_ended(life, life.unload_s):
        raise life.not_gone()
    await events_handled(life, FLUSH_S)


async def events_handled(life: Life, timeout: float) -> bool:
    """Wait until the events that have happened were handled; False where they were not in time."""
    return await _told(life.name, lambda tell: life.queue.put(tell, always=True), timeout)


def running_loop(domain: str, what: str) -> asyncio.AbstractEventLoop:
    """The loop that runs on this thread. Raises RuntimeError where there is none, as in a program of trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            f"{what} of domain {domain!r} needs a running asyncio loop, because it is awaited; cloister.Domain is the"
            " one for threads, and for trio"
        ) from None


async def _told(domain: str, ask: Callable[[Callable[[], None]], object], timeout: float | None) -> bool:
    loop = running_loop(domain, "the use")
    moment = loop.create_future()

    def happened() -> None:
        if not moment.done():
            moment.set_result(None)

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
            loop.call_soon_threadsafe(happened)

    ask(tell)
    await asyncio.wait([moment], timeout=timeout)
    return moment.done()
