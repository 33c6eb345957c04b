"""The future of a call on a shared lane, as threads wait for it.

It is a `concurrent.futures.Future` in everything that a user sees. The lock and condition that such a future begins
with cost as much as half a call, so here they are made when somebody first waits, or asks to be told; most futures of
a row are done before that. Any thread may enter.

`settle` completes the calls of a whole row of answers at once.

Invariants: whoever has taken the call out of the lane's ledger, and nobody else, completes the future. It notes the
outcome and `_ready` without a lock, and looks for a condition after that; who makes a condition publishes it, and
looks for `_ready` after that. So at least one of them sees both, and `_tell` moves the state, under the condition as
the base class expects. There is no lock that two futures share: a finalizer may wait for an answer at any point here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from typing import Any, Final, Protocol

from cloister import calling, waits
from cloister.conditions import Condition
from cloister.lanes.answers import wait_for_answer
from cloister.long_waits import SLICE_S

__all__ = ["Numbered", "NumberingLane", "settle"]

_OVER: Final = frozenset((CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED))

_log = logging.getLogger("concurrent.futures")
"""Where a future tells what its done-callbacks raise, also the base class."""


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
    """Lists where there is a condition, without which nobody adds anything."""
    _made: threading.Condition | None = None
    _ready = False
    """The outcome is there; the state says so too where there is a condition."""
    _prepared: Sequence[Callable[[Future[Any]], object]] = ()
    """What was to be told by `when_done`."""

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
        made: Any = self._made
        if made is None:
            mine = self.__dict__
            mine.setdefault("_waiters", [])
            mine.setdefault("_done_callbacks", [])
            made = mine.setdefault("_made", Condition())
        # Whoever has the lock is about to wait: it has looked before, and is told of what comes now.
        if self._ready and self._state not in _OVER and not made._is_owned():
            self._tell(made)
        condition: threading.Condition = made
        return condition

    def complete(self, value: Any, error: BaseException | None) -> None:
        """Set the result or the exception; does nothing where somebody else has done so.

        Raises nothing: a done-callback that ends with SystemExit is reported as one that raises any other exception.
        """
        try:
            self._complete(value, error)
        except BaseException:
            _log.critical("a done-callback of %s() has raised what would end the thread", self.name, exc_info=True)

    def _complete(self, value: Any, error: BaseException | None) -> None:
        if not self._ready and self._state not in _OVER:
            self._result, self._exception, self._ready = value, error, True
        made = self._made
        try:
            if made is not None:
                self._tell(made)
        finally:
            if self._prepared:
                self._run_prepared()

    def _tell(self, made: threading.Condition) -> None:
        """Let the state say that the outcome is there, and tell who watches; does nothing where that was done."""
        with made:
            if self._state in _OVER:
                return
            self._state = FINISHED
            for waiter in self._waiters:
                if self._exception is None:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            made.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]  # as `set_result` does it

    def _run_prepared(self) -> None:
        prepared, self._prepared = self._prepared, ()
        for fn in prepared:
            try:
                fn(self)
            except Exception:
                _log.exception("exception calling callback for %r", self)

    def when_done(self, fn: Callable[[Future[Any]], object]) -> None:
        """As `add_done_callback`, for whoever prepares the call: nothing of it was sent yet."""
        self._prepared = [*self._prepared, fn]

    def cancel(self) -> bool:
        """Give the call up, whether it has begun or not: the domain is told to stop it. False where it is done."""
        if not self._lane.give_up(self):
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()  # tells those who wait for several futures
        self._run_prepared()
        return True

    def done(self) -> bool:
        """As of every future."""
        return self._ready or self._state in _OVER

    def result(self, timeout: float | None = None) -> Any:
        """As of every future. Raises DeadlockDetected on the thread that would have to read the answer, and where the
        answer would wait for this thread."""
        if self._ready:
            if self._exception is None:
                return self._result
        elif not self.done():
            self._lane.check_wait(self.name)
            if timeout is None and self.strand:
                return self._wait(super().result)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of every future. Raises DeadlockDetected as `result`."""
        if self._ready:
            return self._exception
        if not self.done():
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
    settled: list[Numbered] = []  # what drops the last reference to one may run a finalizer: after all of them
    watched: list[tuple[Numbered, Any]] = []
    for number, value in replies:
        future = waiting.pop(number, None)
        if future is not None:  # else its caller has given it up
            settled.append(future)
            future._result = value
            future._ready = True
            if future._made is not None or future._prepared:  # looked at after that, see above
                watched.append((future, value))
    return watched
