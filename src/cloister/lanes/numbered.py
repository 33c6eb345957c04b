"""The future of a call on a shared lane, as threads wait for it.

It is a `concurrent.futures.Future` in everything that a user sees. The lock and condition that such a future begins
with cost as much as half a call, so here they are made when somebody first waits, or asks to be told; most futures of
a row are done before that. Any thread may enter.

`settle` completes the calls of a whole row of answers at once.

Invariant: whoever has taken the call out of the lane's ledger, and nobody else, completes the future.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import FINISHED, PENDING
from typing import Any, Protocol

from cloister import calling, waits
from cloister.lanes.answers import wait_for_answer
from cloister.long_waits import SLICE_S

__all__ = ["Numbered", "NumberingLane", "settle"]

_making = threading.RLock()
"""Held where a condition is made, and where futures are completed that have none. Nothing else happens under it."""

_log = logging.getLogger("concurrent.futures")
"""Where a future tells what its done-callbacks raise, also the base class."""


def _begin_anew() -> None:
    """Make the lock anew in a forked child, where the thread that held it is not there."""
    global _making
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class NumberingLane(Protocol):
    """What a future needs from its lane."""

    number: int

    def give_up(self, future: Numbered) -> bool:
        """Wait for a call no more, and tell the guest; False where it has its answer already."""

    def check_wait(self, name: str) -> None:
        """Somebody is about to wait for an answer. Raises DeadlockDetected on the thread that reads the answers."""


class Numbered(Future[Any]):
    """The future of a call on a shared lane. It counts as pending until its answer is there."""

    # All that the initializer of `Future` sets, but for the condition. Most futures need no more than these.
    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _waiters: Any = ()
    _done_callbacks: Any = ()
    """Lists where there is a condition, without which nobody adds anything, but for `when_done`."""
    _made: threading.Condition | None = None

    strand = 0
    """Which strand it is; see `calling`. 0 where that was not said."""
    kill_after: float | None = None
    """Seconds after which the domain is ended where the call was given up and has not stopped; None for never."""
    on_part: Callable[[Any], object] | None = None
    """Takes what the call tells before its answer, on the reading thread. A ProtocolError ends the lane."""

    def __init__(self, lane: NumberingLane, number: int, name: str) -> None:
        self._lane = lane
        self.number = number
        self.name = name
        kill_after = calling.kill_after.get()
        if kill_after is not None:
            self.kill_after = kill_after

    @property
    def lane(self) -> int:
        """The number of its lane."""
        return self._lane.number

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]  # it is made late
        made = self._made
        if made is None:
            fresh = threading.Condition()
            with _making:
                made = self._made
                if made is None:
                    self._waiters, self._done_callbacks = [], [*self._done_callbacks]
                    made = self._made = fresh
        return made

    def complete(self, value: Any, error: BaseException | None) -> None:
        """Set the result or the exception; does nothing where somebody else has done so.

        Raises nothing: a done-callback that ends with SystemExit is reported as one that raises any other exception.
        """
        try:
            self._complete(value, error)
        except BaseException:
            _log.critical("a done-callback of %s() has raised what would end the thread", self.name, exc_info=True)

    def _complete(self, value: Any, error: BaseException | None) -> None:
        with _making:
            unseen = self._made is None and self._state == PENDING
            if unseen:
                self._result, self._exception, self._state = value, error, FINISHED
        if unseen:
            if self._done_callbacks:
                self._invoke_callbacks()  # type: ignore[attr-defined]  # as `set_result` does it
            return
        try:
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)
        except InvalidStateError:
            pass  # nothing here depends on it

    def when_done(self, fn: Callable[[Future[Any]], object]) -> None:
        """As `add_done_callback`, for whoever prepares the call: nothing of it was sent yet."""
        self._done_callbacks = [*self._done_callbacks, fn]

    def cancel(self) -> bool:
        """Give the call up, whether it has begun or not: the domain is told to stop it. False where it is done."""
        if not self._lane.give_up(self):
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()  # tells those who wait for several futures
        return True

    def done(self) -> bool:
        """As of every future."""
        return self._state == FINISHED or super().done()

    def result(self, timeout: float | None = None) -> Any:
        """As of every future. Raises DeadlockDetected on the thread that would have to read the answer, and where the
        answer would wait for this thread."""
        if self._state == FINISHED:
            if self._exception is None:
                return self._result
        elif not super().done():
            self._lane.check_wait(self.name)
            if timeout is None and self.strand:
                return self._wait(super().result)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of every future. Raises DeadlockDetected as `result`."""
        if self._state == FINISHED:
            return self._exception
        if not super().done():
            self._lane.check_wait(self.name)
            if timeout is None and self.strand:
                failure: BaseException | None = self._wait(super().exception)
                return failure
        return super().exception(timeout)

    def _wait(self, wait: Callable[[float | None], Any]) -> Any:
        """Wait without an end. Most answers come soon; where one does not, the graph of waits is told."""
        try:
            return wait(SLICE_S)
        except TimeoutError:
            if self.done():
                return wait(None)  # the call itself has ended so
        answer = waits.Resource(f"the answer of the submitted call {self.name}()", 1)
        answer.holders[self.strand] = 1
        return wait_for_answer(answer, self.strand, self.done, wait)


def settle(waiting: dict[int, Numbered], replies: Iterable[Sequence[Any]]) -> list[tuple[Numbered, Any]]:
    """Take the calls of these answers, [number, result] each, out of `waiting`, and complete those that nobody watches.

    Returns the others with their results: `complete` tells who watches them.
    """
    settled: list[Numbered] = []  # the last references to some of them are dropped without the lock
    watched: list[tuple[Numbered, Any]] = []
    with _making:
        for number, value in replies:
            future = waiting.pop(number, None)
            if future is not None:  # else its caller has given it up
                settled.append(future)
                if future._made is None and not future._done_callbacks and future._state == PENDING:
                    future._result, future._state = value, FINISHED
                else:
                    watched.append((future, value))
    return watched
