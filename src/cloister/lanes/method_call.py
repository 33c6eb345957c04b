"""What a method gives where it is awaited: a future that is on its way, and that may be used as a coroutine too.

An ``async def`` method gives a coroutine, and code is written for those: `asyncio.create_task` and a `TaskGroup` take
nothing else. So the future has the methods of one. A task that is made of it waits for the call; cancelling the task,
or closing the coroutine before it has begun, stops the call. What takes futures takes it as it is, but for
`asyncio.wait`, which refuses everything that looks like a coroutine.

Belongs to the thread of its loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cloister.lanes.loop_shared import LoopCall

__all__ = ["MethodCall", "MethodFuture"]


class _Steps:
    """The methods of a coroutine that awaits the future and does nothing else."""

    _running: Any = None

    def send(self: Any, value: Any) -> Any:
        """Begin or go on to wait; raises StopIteration with the result."""
        if self._running is None:
            self._running = self.__await__()
        return self._running.send(value)

    def throw(self: Any, *error: Any) -> Any:
        """Raise an exception where it waits. A call that nobody has begun to wait for is stopped."""
        if self._running is None:
            self._running = self.__await__()
            self.cancel()
        return self._running.throw(*error)

    def close(self: Any) -> None:
        """Wait no more; the call is stopped where it is not over."""
        if not self.done():
            self.cancel()


class MethodCall(_Steps, LoopCall):
    """A call of a method, on a lane of a loop."""

    @property
    def __name__(self) -> str:
        """What a task shows of its coroutine."""
        return self.name


class MethodFuture(_Steps, asyncio.Future[Any]):
    """A call of a method that takes no lane of a loop, or could not begin."""
