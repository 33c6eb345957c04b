"""The host's calls that run in this guest, by lane and number: which do, and how one is stopped or given back.

Here is what the control thread needs to obey the host and to tell it of its calls. Who runs a call is in `host` for a
call lane, in `shared` and `work_lane` for a lane with many calls; how its thread is interrupted, in `interrupts`.

The threads that serve enter what they begin; the control thread looks and stops. A look and a change may cross.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cloister.guest.interrupts import Running

__all__ = ["OpenCalls", "Serving"]


class Serving(Protocol):
    """What serves a lane with many calls, and is asked for by number."""

    @property
    def running(self) -> list[int]:
        """The numbers of the calls that run."""

    def runs(self, number: int) -> bool:
        """Whether a call has begun, and is not over."""

    def interrupt(self, number: int, patient: bool = False) -> bool:
        """Stop a call, or see to it that it does not begin; see `Running.interrupt`."""

    def recall(self, numbers: Iterable[int]) -> None:
        """Give back those of these calls that have not begun, where it can."""

    def tell_part(self, number: int, value: Any, last: bool = False) -> None:
        """Tell something of a call that runs, before its answer."""


class OpenCalls:
    """The calls of one guest that run for its host."""

    def __init__(self) -> None:
        self.shared: dict[int, Serving] = {}
        """What serves each shared lane, by the lane's number."""
        self._serving: dict[int, Running] = {}
        """What runs on each call lane, by the lane's number."""
        self._coming: dict[int, int] = {}
        """The call lanes that wait for a thread, by number; with the call that was given up meanwhile, or 0."""
        self._arriving = threading.Lock()

    # -- the threads that serve --------------------------------------------------------------------------------------

    def expect(self, lane: int) -> None:
        """A call lane waits for the thread that is to serve it."""
        with self._arriving:
            self._coming[lane] = 0

    def expect_no_more(self, lane: int) -> None:
        """Nobody has this lane any more. Called by a finalizer: takes no lock."""
        self._coming.pop(lane, None)

    def begin(self, running: Running) -> None:
        """A call lane has its thread; the call on it that was given up before is `running.unwanted`."""
        with self._arriving:
            self._serving[running.lane] = running
            running.unwanted = self._coming.pop(running.lane, 0)

    def begin_nested(self, running: Running) -> tuple[Running | None, bool]:
        """A call begins on the lane of a thread of our own.

        Return what runs around it, for `end_nested`, and whether it was given up before.
        """
        with self._arriving:
            around = self._serving.get(running.lane)
            self._serving[running.lane] = running
            return around, self._coming.get(running.lane) == running.number

    def end_nested(self, running: Running, around: Running | None) -> None:
        """It is over."""
        if around is None:
            self.end(running)
        else:
            self._serving[running.lane] = around

    def end(self, running: Running) -> None:
        """This runs nothing on its lane any more. Idempotent."""
        if self._serving.get(running.lane) is running:
            del self._serving[running.lane]

    # -- the control thread ------------------------------------------------------------------------------------------

    def stop(self, lane: int, number: int, patient: bool = False) -> bool:
        """Stop a call that the host does not want any more; ignored where it is over.

        `patient`: not while it imports; returns True then, and is to be called again.
        """
        with self._arriving:
            running, shared = self._serving.get(lane), self.shared.get(lane)
            if lane in self._coming:
                self._coming[lane] = number
        if shared is not None:
            return shared.interrupt(number, patient)
        return running is not None and running.interrupt(number, patient)

    @property
    def rest(self) -> bool:
        """Whether none runs, not even one that nobody waits for."""
        return not self.running() and not any(running.one_way for running in list(self._serving.values()))

    def stop_one_way(self) -> None:
        """Stop the calls that nobody waits for: the domain ends."""
        for running in list(self._serving.values()):
            if running.one_way:
                running.interrupt_one_way()

    def recall(self, lane: int, numbers: list[int]) -> None:
        """Give work back that has not begun."""
        shared = self.shared.get(lane)
        if shared is not None:
            shared.recall(numbers)

    def watch(self, lane: int, number: int) -> Callable[[], bool] | None:
        """A function that says whether a call still runs; None where it is over, or will never begin.

        Called after `stop`. It stays right where the number of the lane is used again.
        """
        running, shared = self._serving.get(lane), self.shared.get(lane)
        if shared is not None:
            runs = partial(shared.runs, number)
        elif running is not None:
            runs = partial(running.runs, number)
        else:
            return None
        return runs if runs() else None

    def running(self) -> list[tuple[int, int]]:
        """(lane, number) of each call that runs for the host."""
        calls = [(lane, state.number) for lane, state in list(self._serving.items()) if state.number]
        for lane, shared in list(self.shared.items()):
            calls += [(lane, number) for number in shared.running]
        return calls
