"""Events as something that an event loop iterates over: ``async for event in domain.events(Output, Exited)``.

What waits, and what is dropped, is in `cloister.domain.event_streams`; here is how a task waits for it. A stream
belongs to the loop that runs where it is made. Its methods are called on that loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from cloister.domain.event_streams import EventBuffer

if TYPE_CHECKING:
    from cloister.domain.events import Event

__all__ = ["LoopEventStream"]

E = TypeVar("E", bound="Event")


class LoopEventStream(Generic[E]):
    """The events of one domain, in their order; made by `cloister.aio.Domain.events`."""

    def __init__(self, kinds: tuple[type[Event], ...], max_waiting: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiters: set[asyncio.Future[None]] = set()
        self._called = False
        self.buffer: EventBuffer = EventBuffer(kinds, max_waiting, self._wake)

    @property
    def dropped(self) -> int:
        """How many events were lost because too many waited: the oldest ones."""
        return self.buffer.dropped

    def _wake(self) -> None:
        """On any thread, under the lock of the buffer."""
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
                self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._called = False  # before they look, so that what comes after is told again
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        buffer = self.buffer
        while True:
            with buffer.lock:
                event: E | None = buffer.take()
                if event is not None:
                    return event
                if buffer.finished:
                    raise StopAsyncIteration
                waiter = self._loop.create_future()
                self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def close(self) -> None:
        """Take no more events; whoever waits for one is told that there is none. Idempotent."""
        self.buffer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
