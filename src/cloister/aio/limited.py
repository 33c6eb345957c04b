"""Calls of an event loop where the lanes of a domain are limited: a thread of a crew for each lane, none for a call.

A limited domain promises which of its threads serves what: with one lane, always the main thread. So a call takes a
call lane, and a thread of this program's waits on it; there are as many as lanes, however many calls wait. A call-back
runs on the loop all the same: the lane's thread hands it over and waits at a *desk*, where the call-back's own calls to
the domain are brought, one after the other, and made on the lane. So they nest without another lane.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import CallCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cloister.domain.life import Life

__all__ = ["Desk", "as_coroutine", "desk", "home"]

LOOK_S: Final = 1.0
"""How often the waiting thread looks whether the loop was closed, which tells nobody."""

home: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("cloister.aio.home", default=None)
"""The loop whose call this context makes on a thread of the crew."""
desk: ContextVar[Desk | None] = ContextVar("cloister.aio.desk", default=None)
"""Where a call-back that runs in this context brings its calls."""


class Desk:
    """Where the thread of a lane waits for a call-back that runs on a loop."""

    def __init__(self, peer: object, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.open = True
        self._jobs: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self._task: asyncio.Task[Any] | None = None

    # -- the lane's thread -------------------------------------------------------------------------------------------

    def run(self, life: Life, name: str, begin: Callable[[], Any]) -> Any:
        """Let the loop run a call-back in a copy of this context, and serve its calls until it is over."""
        context = contextvars.copy_context()
        context.run(desk.set, self)
        try:
            self.loop.call_soon_threadsafe(self._begin, context, name, begin)
            while True:
                try:
                    job = self._jobs.get(timeout=LOOK_S)
                except queue.Empty:
                    if self.loop.is_closed() or life.over:
                        raise CallCancelled(f"{name}() was not answered: its event loop was closed") from None
                    continue
                if not job():
                    break
        except RuntimeError as error:
            raise CallCancelled(f"{name}() was not begun: {error}") from None
        value, failure = self._outcome
        if failure is not None:
            raise failure
        return value

    # -- the loop's thread -------------------------------------------------------------------------------------------

    def ask(self, call: Callable[[], Any]) -> Future[Any]:
        """Make a call on the lane; its result is the future's."""
        answer: Future[Any] = Future()
        context = contextvars.copy_context()
        context.run(desk.set, None)

        def job() -> bool:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(context.run(call))
                except BaseException as error:
                    answer.set_exception(error)
            return True

        self._jobs.put(job)
        return answer

    def _begin(self, context: contextvars.Context, name: str, begin: Callable[[], Any]) -> None:
        try:
            value = context.run(begin)
        except BaseException as error:
            self._end(None, error)
            if not isinstance(error, Exception):
                raise
            return
        if not inspect.isawaitable(value):
            self._end(value, None)
            return
        self._task = self.loop.create_task(as_coroutine(value), name=f"call-back {name}()", context=context)
        self._task.add_done_callback(lambda task: self._done(name, task))

    def _done(self, name: str, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._end(None, CallCancelled(f"{name}() was cancelled in the host"))
        elif (error := task.exception()) is not None:
            self._end(None, error)
        else:
            self._end(task.result(), None)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.open = False
        self._outcome = (value, error)
        self._jobs.put(lambda: False)


def as_coroutine(value: Any) -> Coroutine[Any, Any, Any]:
    """What a task can be made of. A coroutine is not wrapped, so that a task that never begins closes it."""
    return value if inspect.iscoroutine(value) else _awaited(value)


async def _awaited(value: Any) -> Any:
    return await value
