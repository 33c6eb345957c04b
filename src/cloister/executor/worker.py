"""One worker of a pool: a domain that does one piece of work after the other, and what it has been given of it.

Here is the way to it and what is known about it; who gets which work is in `handing`. `queue`, `unsent`, `sending`,
`doomed`, `dead`, `idle_since` and the clocks are guarded by the lock of the workforce. The worker's lane is read by a
thread of its domain, on which its work is taken in.

A worker whose work is short is given some ahead: as much as it does in `AHEAD_S`. What waits behind a piece of work
that takes long is taken back (`recall`), so that another worker may do it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import CallTimeout, DomainCrashed, DomainError
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from cloister.domain.life import Life
    from cloister.executor.work import Work
    from cloister.lanes.numbered import Numbered

__all__ = ["Worker"]

AHEAD_S: Final = 0.002
"""So much work a worker may have before it, as long as its pieces have taken lately."""
MOST_AHEAD: Final = 16
"""Pieces of work that wait with one worker at most."""
SLOW_S: Final = 4 * AHEAD_S
"""A piece of work that takes longer counts as if it took so long: after a few short ones it is forgotten."""


class Worker:
    """A domain of a pool."""

    def __init__(self, life: Life) -> None:
        """Take a domain that is ready. Raises the errors of the domain, or LaneClosed, where it has ended."""
        self.life = life
        self._lane = life.peer.shared.work()
        page, number = life.speaker.page, self._lane.number
        self._begun: Any = page.begun if page is not None and 0 < number < page.slots else None
        self._index = 2 * number + 1
        if self._begun is not None:
            self._begun[self._index] = 0
        self.queue: deque[Work] = deque()
        """What it has, in the order in which it does it. The first is what it does, or is about to begin."""
        self.unsent: deque[Work] = deque()
        """The last of those, which were not sent yet."""
        self.sending = False
        """A thread sends what is not sent yet."""
        self.doomed = False
        """It is being killed or asked to end, and gets no more work."""
        self.dead = False
        """It has ended, and what it had was given to others."""
        self.late: Work | None = None
        """The work because of which it is being killed: its time was up."""
        self.served = 0
        """How many items it has done."""
        self.since = 0.0
        """When the first of its work has begun, as far as is known, or has told of an item the last time."""
        self.first_since = 0.0
        """When the first of its work has begun, as far as is known."""
        self.pace = math.inf
        """How many seconds a piece of work has taken lately."""
        self.delivering = False
        """Its reading thread runs done-callbacks, so what it says is not heard now."""
        self.idle_since = 0.0
        self.look_at = math.inf
        """When a timer looks whether it is late."""
        self.idle_watched = False
        """A timer is set that looks whether it is idle for long."""

    # -- with the lock of the workforce --------------------------------------------------------------------------------

    @property
    def first(self) -> Work | None:
        """What it does, or is about to begin; None where it is idle."""
        return self.queue[0] if self.queue else None

    def take_first(self, pending: deque[Work], now: float) -> Work:
        """It gets the first of what waits, after what it has. Returns the work.

        No call is in here: a KeyboardInterrupt comes before all of it, or after all of it.
        """
        work = pending[0]
        work.worker, work.numbered = self, None
        work.called_back = work.given_back = False
        if not self.queue:
            self.since = self.first_since = now
            work.first = True
            work.sendings += 1
        self.queue += (work,)
        self.unsent += (work,)
        del pending[0]
        return work

    def left(self) -> list[Work]:
        """What it has that was neither sent nor is to be sent: it is over, and nobody has seen to that."""
        return [work for work in self.queue if not work.number and work not in self.unsent]

    def room(self) -> int:
        """How much more it may be given ahead."""
        if self.pace > AHEAD_S or self.doomed or self.delivering:
            return 0
        return min(MOST_AHEAD, int(AHEAD_S / self.pace)) + 1 - len(self.queue)

    def over(self, work: Work, done: bool) -> None:
        """This work is over here. `done`: it was, and not given back."""
        was_first = self.queue[0] is work
        self.queue.remove(work)
        if done:
            took = min(time.monotonic() - self.first_since, SLOW_S)
            self.pace = took if self.pace is math.inf or took >= SLOW_S else self.pace + (took - self.pace) / 4
        if was_first and self.queue:
            self._go_on()

    def _go_on(self) -> None:
        self.since = self.first_since = time.monotonic()
        self.queue[0].begins_next()

    def recall(self) -> bool:
        """Ask for what waits behind the first piece of work; what has not begun comes back to the reading thread.

        False where nothing does that was not asked for.
        """
        waiting = [work for work in list(self.queue)[1:] if work.number and not work.called_back]
        if not waiting:
            return False
        self.pace = SLOW_S
        for work in waiting:
            work.called_back = True
        self.life.speaker.recall(self._lane.number, [work.number for work in reversed(waiting)])
        return True

    # -- whoever sends -------------------------------------------------------------------------------------------------

    def send(self, work: Work, answered: Callable[[Future[Any]], object]) -> None:
        """Send it a piece of work; `answered` is called on its reading thread.

        Raises LaneClosed where the domain has ended, and what encoding the arguments raises; it has not got it then.
        """
        options = work.options
        if work.limit is not None:
            left = work.limit - time.monotonic()
            if left <= 0:
                raise CallTimeout("the time for the task was up before it began")
            options = options | {"left": int(left * 1e9)}
        arguments = work.arguments(self.life.peer.version)

        def prepare(numbered: Numbered) -> None:
            work.numbered = numbered
            numbered.on_part = part
            numbered.when_done(answered)

        def part(value: Any) -> None:
            if value is None:
                work.back()
                return
            self.since = time.monotonic()
            work.part(self.life.peer, value)

        self._lane.submit(SERVICE, work.service, arguments, None, options, None, work.flags, prepare)

    # -- any thread ----------------------------------------------------------------------------------------------------

    def interrupt(self, number: int) -> None:
        """Ask it to stop the work that it got under this number; ignored where that is over."""
        self.life.speaker.interrupt(self._lane.number, number, main=False)

    def noted(self) -> tuple[int, int] | None:
        """What it has begun last: the number of the work, and of the item in it; None where that is not known."""
        if self._begun is None:
            return None
        number, item = divmod(int(self._begun[self._index]), 1 << 32)
        return number, item

    def is_past(self, work: Work) -> bool:
        """Whether it has begun something after this work, so that the answer is on its way."""
        noted = self.noted()
        return noted is not None and work.number != 0 and noted[0] > work.number

    def let_go(self) -> None:
        """It has ended, or is to: what it notes is not read any more."""
        self._begun = None

    def lost(self, error: BaseException) -> bool:
        """Whether an answer means that the worker is gone; the task may have raised the same type of error itself."""
        if isinstance(error, DomainCrashed):
            return error.report is self.life.report
        return isinstance(error, DomainError) and (self.life.over or self.life.unloaded or self.life.foreign)
