"""Calls of an event loop where the lanes of a domain are limited: a thread of a crew for each lane, none for a call.

A limited domain promises which of its threads serves what: with one lane, always the main thread. So a call takes a
call lane, and a thread of this program's waits on it; there are as many as lanes, however many calls wait. A call-back
runs on the loop all the same: the lane's thread hands it over and waits at a *desk*, where the call-back's own calls to
the domain are brought, one after the other, and made on the lane. So they nest without another lane.

What belongs to a call is its *errand*. When it is given up, by a cancel or its time-out, its call-backs are cancelled,
their calls are stopped, and the thread waits for none of them any more: others need its lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import queue
import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from cloister import calling, waits
from cloister.errors import CallCancelled, CallTimeout, DeadlockDetected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cloister.aio.peer import LoopPeer
    from cloister.lanes.call_lane import CallLane

__all__ = ["Desk", "Errand", "as_coroutine", "desk", "home"]

LOOK_S: Final = 1.0
"""How often the waiting thread looks whether the loop was closed, which tells nobody, or the call-back can't end."""

home: ContextVar[Errand | None] = ContextVar("cloister.aio.home", default=None)
"""The call of a loop that this context makes on a thread of the crew."""
desk: ContextVar[Desk | None] = ContextVar("cloister.aio.desk", default=None)
"""Where a call-back that runs in this context brings its calls."""


class Errand:
    """A call of a loop, and what runs there because of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """The caller's context is the running one."""
        self._loop = loop
        self.context = contextvars.copy_context()
        self.context.run(home.set, self)
        self.context.run(desk.set, None)
        self.served: set[asyncio.Task[Any]] | None = None
        """What runs for the domain because of the call, and holds up no lane."""
        self.desks: list[Desk] = []
        self.given_up = False
        """Nobody waits for the call any more. First it is said, then the desks are told; who opens one does it the
        other way round: one sees the other."""
        self.call: asyncio.Future[Any] | None = None
        """What its caller awaits."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The caller's loop."""
        return self._loop

    def waits_for(self) -> list[Any]:
        """The call-back that the lane of the call waits for, as a task; empty where it waits for none. Any thread."""
        for last in list(self.desks)[-1:]:
            return last.waits_for()
        return []

    def give_up(self) -> None:
        """Nobody waits for the call any more: end what runs for it. Any thread."""
        self.given_up = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            for task in list(self.served or ()):
                self._loop.call_soon_threadsafe(task.cancel)
        for each in list(self.desks):
            each.give_up()


class Nested(Future[Any]):
    """A call that a call-back makes; cancelling it stops it over there."""

    def __init__(self, name: str, peer: LoopPeer) -> None:
        super().__init__()
        self._name, self._peer = name, peer
        self._gate = threading.RLock()
        self._at: tuple[CallLane, int] | None = None

    def begin(self, lane: CallLane | None) -> None:
        """The call is sent next, on the lane that waits for the call-back."""
        with self._gate:
            self._at = None if lane is None else (lane, lane.conversation.next_number)

    def end(self) -> None:
        """The call is over."""
        with self._gate:
            self._at = None

    def cancel(self) -> bool:
        """Give the call up. False where it has begun, and is only told to stop."""
        if super().cancel():
            return True
        with self._gate:
            at, self._at = self._at, None
            if at is not None:
                self._peer.interrupt(*at, self._name)
        return False


class Desk:
    """Where the thread of a lane waits for a call-back that runs on a loop."""

    def __init__(self, peer: LoopPeer, errand: Errand) -> None:
        self.peer, self.errand, self.loop = peer, errand, errand.get_loop()
        self.open = True
        self._asked: Nested | None = None
        self._jobs: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self._task: asyncio.Task[Any] | None = None

    # -- the lane's thread -------------------------------------------------------------------------------------------

    def run(self, name: str, begin: Callable[[], Any]) -> Any:
        """Let the loop run a call-back in a copy of this context, and serve its calls until it is over."""
        context = contextvars.copy_context()
        context.run(desk.set, self)
        limit = calling.deadline.get()
        self.errand.desks.append(self)
        try:
            if self.errand.given_up:
                raise CallCancelled(f"{name}() was not begun: the call that it belongs to was given up")
            self.loop.call_soon_threadsafe(self._begin, context, name, begin)
            while True:
                left = LOOK_S if limit is None else min(LOOK_S, max(0.0, limit - time.monotonic()))
                try:
                    job = self._jobs.get(timeout=left)
                except queue.Empty:
                    words = waits.look(calling.strand()) if limit is None else ""
                    if words:
                        self.give_up()
                        raise DeadlockDetected(words) from None
                    if self.loop.is_closed() or self.peer.life.over:
                        raise CallCancelled(f"{name}() was not answered: its event loop was closed") from None
                    if limit is not None and time.monotonic() >= limit:
                        self.give_up()
                        raise CallTimeout(f"the time was up while {name}() ran; it was cancelled") from None
                    continue
                if not job():
                    break
        except RuntimeError as error:
            raise CallCancelled(f"{name}() was not begun: {error}") from None
        finally:
            self.open = False
            self.errand.desks.remove(self)
        value, failure = self._outcome
        if failure is not None:
            raise failure
        return value

    # -- the loop's thread -------------------------------------------------------------------------------------------

    def ask(self, name: str, call: Callable[[], Any]) -> Future[Any]:
        """Make a call on the lane; its result is the future's."""
        answer = Nested(name, self.peer)
        context = contextvars.copy_context()
        context.run(desk.set, None)

        def job() -> bool:
            if not self.open:
                answer.cancel()
            if answer.set_running_or_notify_cancel():
                self._asked = answer
                answer.begin(self.peer.lane_here())
                try:
                    value = context.run(call)
                except BaseException as error:
                    answer.end()
                    answer.set_exception(error)
                else:
                    answer.end()
                    answer.set_result(value)
                self._asked = None
            return True

        self._jobs.put(job)
        return answer

    def give_up(self) -> None:
        """Nobody waits for the call-back any more: cancel it, and let the lane's thread go on. Any thread."""
        self.open = False
        asked = self._asked
        if asked is not None:
            asked.cancel()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._cancel)
        self._jobs.put(self._left)

    def waits_for(self) -> list[Any]:
        """The call-back, as a task; empty where it has not begun, or makes a call on the lane. Any thread."""
        task = self._task
        return [] if task is None or self._asked is not None else [task]

    def _left(self) -> bool:
        raise CallCancelled("the call-back was given up with the call that it belongs to")

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _begin(self, context: contextvars.Context, name: str, begin: Callable[[], Any]) -> None:
        if not self.open:
            return  # it was given up before it began
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
