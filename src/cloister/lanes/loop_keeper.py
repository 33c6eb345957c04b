"""What tells the lanes of an event loop that the loop is about to be closed.

A loop finishes its asynchronous generators before it is closed: `asyncio.run` and `asyncio.Runner` have it do so. One
generator for each loop, begun with its first lane, hears of it in this way and tells them all at once. A lane that
comes after that finds that the loop closes, and is not told again.

All belongs to the thread of the loop, which is running. A keeper does not hold its loop: one that is thrown away goes
with all that belongs to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
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
        _begin(self._waits)

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


def _begin(waits: AsyncGenerator[None, None]) -> None:
    """Begin a generator, which registers it with the loop.

    The loop's hook for generators that are dropped is a method of the loop. A generator that had it would hold the loop
    for ever, as what is noted for a loop is held for as long as the loop lives.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=None)
    try:
        with contextlib.suppress(StopIteration):
            waits.__anext__().__await__().__next__()  # it waits for nothing
    finally:
        sys.set_asyncgen_hooks(finalizer=hooks.finalizer)
