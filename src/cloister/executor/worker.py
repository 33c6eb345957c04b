"""One worker of a pool: a domain that does one piece of work at a time, on its shared lane.

Here is the way to it and what is known about it; who gets which work is in `workforce`, whose lock guards `work`,
`doomed` and `idle_since`. The worker's lane is read by a thread of its domain, on which its work is taken in.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from cloister.errors import CallTimeout, DomainCrashed, DomainError
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from cloister.domain.life import Life
    from cloister.executor.work import Work
    from cloister.lanes.numbered import Numbered

__all__ = ["Worker"]


class Worker:
    """A domain of a pool."""

    def __init__(self, life: Life) -> None:
        """Take a domain that is ready. Raises the errors of the domain, or LaneClosed, where it has ended."""
        self.life = life
        self._lane = life.peer._shared_lane()
        page, number = life.speaker.page, self._lane.number
        self._items: Any = page.items if page is not None and 0 < number < page.slots else None
        self._index = 4 * number + 1
        self.work: Work | None = None
        """What it does; None between two pieces of work."""
        self.doomed = False
        """It is being killed or asked to end, and gets no more work."""
        self.late = False
        """It is being killed because the time for its work was up."""
        self.served = 0
        """How many items it has done."""
        self.since = 0.0
        """When it was sent its work, or has told of it the last time."""
        self.delivering = False
        """Its reading thread runs done-callbacks, so what it says is not heard now."""
        self.idle_since = 0.0
        self.look_at = math.inf
        """When a timer looks whether it is late."""
        self.idle_watched = False
        """A timer is set that looks whether it is idle for long."""

    def send(self, work: Work, answered: Callable[[Future[Any]], object]) -> None:
        """Send it a piece of work; `answered` is called on its reading thread.

        Raises LaneClosed where the domain has ended, and what encoding the arguments raises; it has not got it then.
        """
        options = work.options
        self.since = now = time.monotonic()
        if work.limit is not None:
            if work.limit <= now:
                raise CallTimeout("the time for the task was up before it began")
            options = options | {"left": int((work.limit - now) * 1e9)}
        arguments = work.arguments(self.life.peer.version)
        items = self._items
        if items is not None:
            items[self._index] = 0

        def prepare(numbered: Numbered) -> None:
            numbered.on_part = part
            numbered.when_done(answered)

        def part(value: Any) -> None:
            self.since = time.monotonic()
            work.part(self.life.peer, value)

        numbered = self._lane.submit(SERVICE, work.service, arguments, None, options, None, work.flags, prepare)
        work.number = numbered.number

    def interrupt(self, number: int) -> None:
        """Ask it to stop the work that it got under this number; ignored where that is over."""
        self.life.speaker.interrupt(self._lane.number, number, main=False)

    def noted(self) -> int | None:
        """The item that it began last of what it was sent last, 0 for none; None where that is not known."""
        return None if self._items is None else int(self._items[self._index])

    def let_go(self) -> None:
        """It has ended, or is to: what it notes is not read any more."""
        self._items = None

    def lost(self, error: BaseException) -> bool:
        """Whether an answer means that the worker is gone; the task may have raised the same type of error itself."""
        if isinstance(error, DomainCrashed):
            return error.report is self.life.report
        return isinstance(error, DomainError) and (self.life.over or self.life.unloaded or self.life.foreign)
