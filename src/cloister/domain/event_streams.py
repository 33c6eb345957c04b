"""Events as something to iterate over: `for event in domain.events(Output, Exited)`.

A stream takes the events of its types from the moment it is made, and ends after `Exited`, or when it is closed. What
waits in it is bounded; where nobody takes, the oldest events go, and are counted. How an event loop iterates over the
same buffer is in `cloister.aio.event_streams`. Any thread may enter.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from cloister import calling
from cloister.errors import CallTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.domain.events import Event

__all__ = ["MOST_WAITING", "EventBuffer", "EventStream"]

E = TypeVar("E", bound="Event")

MOST_WAITING: Final = 1000
"""Events that wait in a stream, unless another number is asked for."""


class EventBuffer:
    """Events that wait for whoever iterates over them."""

    def __init__(self, kinds: tuple[type[Event], ...], most: int, woken: Callable[[], object]) -> None:
        """`kinds`: the types that are wanted. `woken` is called, under the lock, when there is something to take.

        Raises ValueError where `most`, the number of events that may wait, is below 1.
        """
        if type(most) is not int or most < 1:
            raise ValueError(f"max_waiting is how many events may wait in the stream, 1 or more, not {most!r}")
        self._kinds, self._most, self._woken = kinds, most, woken
        self._begin_lock()
        self._events: deque[Any] = deque()
        self.finished: bool = False
        """No event will come any more."""
        self.dropped: int = 0

    def _begin_lock(self) -> None:
        self.lock: threading.RLock = threading.RLock()

    def offer(self, event: Event) -> None:
        """Take an event in, where it is of a type that is wanted."""
        if not isinstance(event, self._kinds):
            return
        with self.lock:
            if self.finished:
                return
            if len(self._events) >= self._most:
                self._events.popleft()
                self.dropped += 1
            self._events.append(event)
            self._woken()

    def finish(self) -> None:
        """Let no more come; what waits can still be taken."""
        with self.lock:
            self.finished = True
            self._woken()

    def close(self) -> None:
        """Let no more come, and forget what waits."""
        with self.lock:
            self._events.clear()
            self.finish()

    def disown(self) -> None:
        """This is a forked child: the lock may be held by a thread that is not here."""
        self._begin_lock()
        self._woken = _nobody
        self.finished = True
        self._events.clear()

    def take(self) -> Any:
        """The next event, or None where none waits. The lock is held."""
        return self._events.popleft() if self._events else None


def _nobody() -> None:
    pass


class EventStream(Generic[E]):
    """The events of one domain, in their order; made by `Domain.events`."""

    def __init__(self, kinds: tuple[type[Event], ...], max_waiting: int) -> None:
        self.buffer: EventBuffer = EventBuffer(kinds, max_waiting, self._wake)
        self._condition = threading.Condition(self.buffer.lock)

    @property
    def dropped(self) -> int:
        """How many events were lost because too many waited: the oldest ones."""
        return self.buffer.dropped

    def _wake(self) -> None:
        self._condition.notify_all()

    def next(self, timeout: float | None = None) -> E | None:
        """Wait for the next event; None where no more will come.

        Raises CallTimeout where none has come within `timeout` seconds, TypeError and ValueError for what is no number
        of seconds from 0 up.
        """
        if timeout is not None:
            calling.seconds_from_0("the time for an event", timeout)
        end = None if timeout is None else time.monotonic() + timeout
        buffer = self.buffer
        with buffer.lock:
            while True:
                event: E | None = buffer.take()
                if event is not None or buffer.finished:
                    return event
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise CallTimeout(f"no event came within {timeout:g} s; the domain goes on")
                self._condition.wait(left)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Take no more events; whoever waits for one is told that there is none. Idempotent."""
        self.buffer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
