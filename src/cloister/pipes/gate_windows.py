"""Who is using a handle, how they are woken, and when it may be closed: `gate_posix` in terms of Windows.

Every operation enters the gate, and gets an event of its own to wait on beside what it waits for; it leaves with that
event. `cancel` and `close` set the events of all who are inside. Handles are closed when the last one has left.

Invariants, all under the gate's lock:

1. An event is either in `_owned`, by one operation that is inside, or in `_spare`, and nobody waits for it.
2. An event that is set tells its owner to look at the generation. It may be set for nothing.
3. What `on_release` was given is called once, when the gate is closed and nobody is inside.

Any thread may call everything, and so may a signal handler: the lock is re-entrant. There is no fork here.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # before the imports: a type checker for another platform leaves the rest out

import _winapi
import threading
from collections.abc import Callable

from cloister.errors import NotConnected, PipeCancelled, PipeError
from cloister.pipes.kernel_windows import create_event, reset_event, set_event

__all__ = ["Gate", "system_error"]


class Gate:
    """Lets operations in and out, wakes them, and has the handles closed after the last one.

    `what` names the thing for messages ("the pipe").
    """

    def __init__(self, what: str) -> None:
        self.generation = 0
        self.closed = False
        self._what = what
        self._release: Callable[[], None] | None = None
        self._owned: set[int] = set()
        self._spare: list[int] = []
        self._lock = threading.RLock()

    def on_release(self, release: Callable[[], None]) -> None:
        """Have `release` close the handles: called once, from any thread; it must neither block nor raise."""
        self._release = release

    def enter(self, since: int) -> int:
        """Begin an operation that noted generation `since`, and return the event that wakes it; `leave` must follow.

        Raises `NotConnected`, `PipeCancelled`, and `PipeError` when the system has no event left; then the operation
        has not begun.
        """
        with self._lock:
            self.check(since)  # first: who began before the close was cancelled by it
            self.require_open()
            try:
                event = self._spare.pop() if self._spare else create_event()
                reset_event(event)
            except OSError as error:
                raise system_error(error, f"{self._what} can't be waited for") from None
            self._owned.add(event)
            return event

    def leave(self, event: int) -> None:
        """End the operation that owns `event`; never raises."""
        with self._lock:
            self._owned.remove(event)
            self._spare.append(event)
            self._finish()

    def check(self, since: int) -> None:
        """Raises `PipeCancelled` when the operation has been cancelled or its gate closed since it began."""
        if since != self.generation:
            how = "closed on this side" if self.closed else "cancelled"
            raise PipeCancelled(f"the operation on {self._what} was {how} while it waited")

    def nudge(self) -> None:
        """Make the operations that wait look again, without cancelling them."""
        with self._lock:
            for event in self._owned:
                set_event(event)

    def cancel(self) -> None:
        """End the operations inside with `PipeCancelled`; those that begin later are not touched."""
        with self._lock:
            self.generation += 1
            self.nudge()

    def close(self) -> bool:
        """Let nobody in any more, end those inside, have the handles released after the last. True the first time."""
        with self._lock:
            if self.closed:
                return False
            self.closed = True
            self.cancel()
            self._finish()
            return True

    def require_open(self) -> None:
        """Raises `NotConnected` when closed."""
        if self.closed:
            raise NotConnected(f"{self._what} is closed on this side")

    @property
    def _inside(self) -> int:
        """How many operations are between `enter` and `leave`."""
        return len(self._owned)

    def _finish(self) -> None:
        if not self.closed or self._inside:
            return
        while self._spare:
            _winapi.CloseHandle(self._spare.pop())
        release, self._release = self._release, None
        if release is not None:
            release()


def system_error(error: OSError, what: str) -> PipeError:
    """The system's error as ours, with its number."""
    return PipeError(error.errno, f"{what}: {error.strerror or error}")
