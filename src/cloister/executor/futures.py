"""The future of a task of a pool: it can be cancelled while the task runs.

Any thread may enter. Who completes it is in `handing`.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures._base import CANCELLED
from typing import TYPE_CHECKING, Any, TypeVar

from cloister.conditions import Condition
from cloister.executor.seats import bringing, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.executor.work import Work

__all__ = ["PoolFuture"]

T = TypeVar("T")


class PoolFuture(Future[T]):
    """The future of a task of a pool."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._condition = Condition()  # the one that the base class has made may be left taken by Ctrl-C
        self.work = work
        self.has_callbacks = False
        self.hops = self.hopped = False
        """Its done-callbacks are to run on another thread than the one that completes it, and do so."""

    def cancel(self) -> bool:
        """Give the task up. One that waits never begins; one that runs is told to stop, and its worker is killed where
        it does not. The future is over at once. False where it was done before.
        """
        work = self.work
        try:
            if not work.owner.give_up(work):
                return self.cancelled()
            self._end()
        except BaseException:  # Ctrl-C, which comes once
            if work.given_up:
                work.owner.stop(work)
                self._end()
            raise
        return True

    def _end(self) -> None:
        """Be cancelled; what of it was done before is not done again."""
        super().cancel()
        if self._state == CANCELLED:
            self.set_running_or_notify_cancel()  # tells those who wait for several futures
        if not self.hopped:
            self.work.owner.settle(self.work)

    def result(self, timeout: float | None = None) -> T:
        """As that of any future. Raises DeadlockDetected where all workers would wait for the code that asks."""
        if self.done():
            return super().result(timeout)
        return wait_for(self.work, self.done, super().result, timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As that of any future. Raises DeadlockDetected where all workers would wait for the code that asks."""
        if self.done():
            return super().exception(timeout)
        return wait_for(self.work, self.done, super().exception, timeout)

    def strands(self) -> tuple[int, ...]:
        """The strands that may bring it: its own, or those that have the workers where it has none.

        Empty where one of them is about to move: a task with a time limit ends by itself.
        """
        return bringing(self.work)

    def running(self) -> bool:
        """Whether a worker does it, or has yet to begin with it and with nothing else before."""
        return self.work.first and not self.done()

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """As in the base class. Callbacks run on a thread of the pool; see `DomainPoolExecutor`."""
        self.has_callbacks = True
        super().add_done_callback(fn)

    def _invoke_callbacks(self) -> None:
        """What the base class does last when it is completed: nobody can add a callback to those that it runs."""
        run: Any = super()._invoke_callbacks  # type: ignore[misc]  # the base class has no public place for it
        if self.hops and self.has_callbacks:
            self.work.owner.run_callbacks(self.work, run)
        else:
            run()
