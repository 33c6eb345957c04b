"""What tells the lanes of an event loop that the loop is about to be closed.

A loop finishes its asynchronous generators before it is closed: `asyncio.run` and `asyncio.Runner` have it do so. One
generator for each loop, begun with its first lane, hears of it in this way and tells them all at once. A lane that
comes after that finds that the loop closes, and is not told again.

All belongs to the thread of the loop, which is running.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

__all__ = ["LoopKeeper", "keeper_of"]


class Kept(Protocol):
    """What ends with its loop, or goes to another one."""

    def loop_closes(self) -> None:
        """The loop is about to be closed."""


class LoopKeeper:
    """Knows the lanes of one loop."""

    def __init__(self) -> None:
        self.closing = False
        """The loop is about to be closed: what is begun on it may never go on."""
        self._kept: WeakSet[Kept] = WeakSet()
        self._waits = self._wait()
        _step(self._waits.__anext__())  # registers it with the loop

    def add(self, lane: Kept) -> None:
        """Tell this lane."""
        self._kept.add(lane)

    def remove(self, lane: Kept) -> None:
        """Do not tell it. Idempotent."""
        self._kept.discard(lane)

    async def _wait(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.closing = True
            for lane in list(self._kept):
                lane.loop_closes()


_keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopKeeper] = WeakKeyDictionary()


def keeper_of(loop: asyncio.AbstractEventLoop) -> LoopKeeper:
    """The keeper of the loop that runs on this thread."""
    keeper = _keepers.get(loop)
    if keeper is None:
        keeper = _keepers[loop] = LoopKeeper()
    return keeper


def _step(awaitable: Awaitable[None]) -> None:
    """Take a step that waits for nothing."""
    with contextlib.suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().__next__()
