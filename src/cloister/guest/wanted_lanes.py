"""The lanes that threads and loops of this guest want for calls of their own: asked for, and given or refused.

The host opens every lane; a ticket tells which answer is for whom. Any thread, or loop, may want one; `deliver` and
`refuse` belong to the control thread, `end` to whoever ends the domain.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

from cloister.wire.messages import Kind, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.pipes.duplex import LaneEnd

__all__ = ["WantedLanes"]

LANE_TIMEOUT_S = 30.0
"""How long a thread of the guest's own waits for a lane. The host opens one in well under a millisecond."""


class WantedLanes:
    """What was asked for and not given yet."""

    def __init__(self, send: Callable[..., None]) -> None:
        """`send` sends a message of the control channel."""
        self._send = send
        self._tickets = itertools.count(1)
        self._waiting: dict[int, _Thread | _Loop] = {}
        self._over = ""
        """Why nobody gets one any more."""

    def open_lane(self) -> tuple[int, LaneEnd]:
        """Ask the host for a lane of the calling thread's own.

        Raises TimeoutError where it does not answer, and OSError where it has none to give.
        """
        ticket, wanted = next(self._tickets), _Thread()
        self._waiting[ticket] = wanted
        try:
            if self._over:  # looked at after that: who ends this looks at it the other way round
                self.refuse(ticket, self._over)
            else:
                self._send(Kind.WANT_LANE, ticket)
            answered = wanted.answered.wait(LANE_TIMEOUT_S)
            self._waiting.pop(ticket, None)
        except BaseException:
            self._waiting.pop(ticket, None)
            wanted.give_up()
            raise
        lane = wanted.take()
        if lane is not None:  # it may have come this moment
            return lane
        if answered:
            raise OSError(wanted.refusal)
        wanted.give_up()
        raise TimeoutError("the host opened no lane for this thread")

    def open_shared(self, opened: Callable[[int, LaneEnd], None], refused: Callable[[str], None]) -> None:
        """Ask the host for a shared lane. `opened` gets it, or `refused` why there is none; on the control thread."""
        ticket = next(self._tickets)
        self._waiting[ticket] = _Loop(opened, refused)
        if self._over:
            self.refuse(ticket, self._over)
        else:
            self._send(Kind.WANT_LANE, ticket, int(Role.GUEST_SHARED))

    def deliver(self, ticket: int, number: int, end: LaneEnd) -> None:
        """The host has opened a lane."""
        wanted = self._waiting.pop(ticket, None)
        if wanted is None:  # the thread has given up
            end.close()
        else:
            wanted.opened(number, end)

    def refuse(self, ticket: int, text: str) -> None:
        """The host has none, or it did not arrive; `text` says why."""
        wanted = self._waiting.pop(ticket, None)
        if wanted is not None:
            wanted.refused(text)

    def end(self) -> None:
        """The domain ends, and its host opens no lane any more: who waits for one, or wants one later, is told so."""
        self._over = "the domain ends: its host takes no calls of other threads any more"
        for ticket in list(self._waiting):
            self.refuse(ticket, self._over)


class _Thread:
    """A thread that waits.

    Its lane may come while it gives up: whoever takes it out of here has it, and nobody else.
    """

    __slots__ = ("_given_up", "_lanes", "answered", "refusal")

    def __init__(self) -> None:
        self.answered = threading.Event()
        self._lanes: list[tuple[int, LaneEnd]] = []
        self._given_up = False
        self.refusal = ""

    def opened(self, number: int, end: LaneEnd) -> None:
        self._lanes.append((number, end))
        self.answered.set()
        if self._given_up:  # looked at after that, as above
            self.give_up()

    def take(self) -> tuple[int, LaneEnd] | None:
        """Its lane, for the one who asks first; None where none has come."""
        try:
            return self._lanes.pop()
        except IndexError:
            return None

    def give_up(self) -> None:
        """Nobody waits any more: close what has come, or comes now."""
        self._given_up = True
        lane = self.take()
        if lane is not None:
            lane[1].close()

    def refused(self, text: str) -> None:
        self.refusal = text
        self.answered.set()


class _Loop:
    """A loop, which goes on meanwhile."""

    __slots__ = ("opened", "refused")

    def __init__(self, opened: Callable[[int, LaneEnd], Any], refused: Callable[[str], Any]) -> None:
        self.opened, self.refused = opened, refused
