"""Submitted calls where the lanes of a domain are limited: each takes a call lane too, on a thread of a crew.

The futures differ from those of a shared lane in nothing that a user sees: one counts as pending until its answer is
there, `cancel` stops its call also while that runs, and is over at once. A call that does not stop then loses its lane,
so that it holds up no other one. Waiting for a call that can never get a lane,
because the waiting thread has it, is DeadlockDetected. Any thread may enter.
"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Any

from cloister import calling, waits
from cloister.conditions import Condition
from cloister.errors import CallCancelled
from cloister.lanes.answers import wait_for_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.lanes.call_lane import CallLane

__all__ = ["Submitted"]


class Submitted(Future[Any]):
    """The future of one call."""

    def __init__(
        self,
        name: str,
        call: Callable[[Submitted], Any],
        lanes: waits.Resource,
        interrupt: Callable[[CallLane, int, Callable[[], None]], None],
    ) -> None:
        """`call` makes the call and says `begin` when it has a lane; `interrupt` tells the guest to stop one, and calls
        what it is given where that should have happened by then."""
        super().__init__()
        self._condition = Condition()  # the one that the base class has made may be left taken by Ctrl-C
        self.name = name
        self._call, self._interrupt = call, interrupt
        self._context = contextvars.copy_context()
        self._strand = self._context.run(calling.begin_strand)
        self._gate = threading.RLock()  # a finalizer may cancel while it is held
        self._at: tuple[CallLane, int] | None = None
        self._left: CallLane | None = None
        """The lane on which a call is to stop."""
        self._abandoned = self._given_up = self._over = False
        self._answer = waits.Resource(f"the answer of the submitted call {name}()", 1)
        waits.hold(self._answer, self._strand)
        waits.expect(lanes, self._strand, calling.deadline.get() is not None)

    @property
    def strand(self) -> int:
        """Which strand the call is; see `calling`."""
        return self._strand

    def run(self) -> None:
        """Make the call; on a thread of the crew."""
        waits.leave(self._strand)
        value: Any = None
        failure: BaseException | None = None
        try:
            if not self._given_up:
                value = calling.lend(self._strand, partial(self._context.run, self._call, self))
        except BaseException as error:
            failure = error
        with self._gate:
            self._at = None
            self._over = not self._given_up
        self._settle()
        if self._over:  # else who has given it up completes it
            try:
                if failure is None:
                    self.set_result(value)
                else:
                    self.set_exception(failure)
            except InvalidStateError:
                pass  # nothing here depends on it
        del self._call, self._interrupt  # with what they hold

    def begin(self, lane: CallLane) -> None:
        """The call has its lane, and is sent next. Raises CallCancelled where it was cancelled before."""
        with self._gate:
            if self._given_up:
                raise CallCancelled(f"{self.name}() was cancelled before it was sent")
            self._at = lane, lane.conversation.next_number

    def end(self) -> None:
        """The call is over, and its lane is about to be another one's. On the thread that uses it."""
        with self._gate:
            lane, self._left, self._at = self._left, None, None
        if lane is not None and self._abandoned:
            lane.give_up("it was abandoned with a call that did not stop")

    def abandon(self) -> None:
        """Wait no longer for a call that was cancelled: its lane is closed. Any thread."""
        with self._gate:  # so that it is still the lane of this call
            if self._left is not None:
                self._abandoned = True
                self._left.break_with(lambda: CallCancelled(f"{self.name}() was cancelled, and did not stop"))

    def cancel(self) -> bool:
        """Give the call up, whether it has begun or not: the domain is told to stop it. False where it is done."""
        with self._gate:
            if self._over or self._given_up:
                return self._given_up
            self._given_up = True
            interrupt: Callable[[], object] | None = None
            at, self._at = self._at, None
            if at is not None:
                self._left = at[0]
                # Bound here, where the call is not over; and in a copy, as the call has entered the context.
                interrupt = partial(self._context.copy().run, self._interrupt, *at, self.abandon)
        try:
            if interrupt is not None:
                interrupt()
        finally:
            # Last, and without the gate: a done-callback may wait for the lane that the call is to leave.
            super().cancel()
            self.set_running_or_notify_cancel()  # tells those who wait for several futures
            self._settle()
        return True

    def result(self, timeout: float | None = None) -> Any:
        """As that of any future. Raises DeadlockDetected where the answer would wait for the thread that asks."""
        if self.done():
            return super().result(timeout)
        return self._wait(super().result, timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As that of any future. Raises DeadlockDetected where the answer would wait for the thread that asks."""
        if self.done():
            return super().exception(timeout)
        failure: BaseException | None = self._wait(super().exception, timeout)
        return failure

    def _wait(self, wait: Callable[[float | None], Any], timeout: float | None) -> Any:
        if timeout is None:
            return wait_for_answer(self._answer, self._strand, self.done, wait)
        with waits.waiting(self._answer, ends=True):
            return wait(timeout)

    def _settle(self) -> None:
        """Nobody waits for the answer any more, whatever becomes of the call."""
        waits.settle(self._answer)
