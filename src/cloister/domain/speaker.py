"""What the guest is told: on its control channel, by signals, and through the page that is shared with it.

The counterpart of `listener`. Which messages there are is in `cloister.wire.messages`; how bytes and descriptors are
moved without waiting, in `channel`. Any thread may enter; nothing here waits. What is told to a guest that has ended is
told to nobody, without an error.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.domain.channel import Channel
from cloister.errors import ProtocolError
from cloister.guest import interrupts
from cloister.levels.watcher import watcher
from cloister.report import Reason
from cloister.wire.messages import Kind, Role

if TYPE_CHECKING:
    from cloister.domain.life import Life
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page

__all__ = ["Speaker"]

AGAIN_S: Final = 0.05
"""How soon a signal is repeated, at first; each time after twice as long."""
LAST_S: Final = 1.0
"""With a pause as long as this it is repeated no more."""


class Speaker:
    """Speaks to one guest."""

    def __init__(self, life: Life, page: Page | None) -> None:
        """`page` is shared with the guest; None where it is a thread of this interpreter."""
        self._life = life
        self.page = page
        self.channel = Channel(life.process.control)
        self._asked: set[tuple[int, int]] = set()
        """Calls of the main thread that were told to stop and, for all that is known, still run."""

    def send(self, kind: Kind, *body: Any) -> None:
        """Send a message on the control channel. A guest that reads none ends for it."""
        self._send(kind, body)

    def hand_over(self, number: int, role: Role, ticket: int, end: LaneEnd) -> None:
        """Give the guest its end of a lane. The descriptors are the channel's from here on."""
        self._send(Kind.LANE, (number, int(role), ticket), end)

    def send_descriptor(self, token: int, fd: int) -> None:
        """Give the guest a descriptor. It is the channel's from here on."""
        self._send(Kind.DESCRIPTOR, (token,), (fd,))

    def hand_segment(self, number: int, size: int, upwards: bool, ticket: int, fd: int) -> None:
        """Give the guest a segment of shared memory. The descriptor is the channel's from here on."""
        self._send(Kind.SEGMENT, (number, size, upwards, ticket), (fd,))

    def _send(self, kind: Kind, body: tuple[Any, ...], descriptors: tuple[int, ...] = ()) -> None:
        life = self._life
        try:
            if self.channel.send(kind, body, descriptors, watcher.here):
                watcher.soon(life.listener.watch)
        except ProtocolError as error:
            life.end_for(Reason.BAD_MESSAGE, str(error))

    def send_waiting(self) -> None:
        """Tell what could wait for a sign of life: what was dropped here, descriptors and segments that nobody uses."""
        peer = self._life.peer
        unsent = peer.unsent
        if unsent:
            self.send(Kind.NO_DESCRIPTOR, [unsent.popleft() for _ in range(len(unsent))])
        dropped = peer.imports.take_dropped()
        if dropped:
            self.send(Kind.RELEASE, dropped)
        peer.segments.tidy()

    def interrupt(self, lane: int, number: int, main: bool) -> None:
        """Stop the code that serves a call; ignored where the call is over. `main`: its main thread serves it."""
        page = self.page
        if main and page is not None and lane < page.slots:
            page.cancels[2 * lane + 1] = number
            self._asked.add((lane, number))
            self._signal(lane, number, AGAIN_S)
        # Also after a signal: where the main thread was held up, another one serves its lane.
        self.send(Kind.CANCEL, lane, number)

    def _signal(self, lane: int, number: int, pause: float) -> None:
        """Interrupt a call of the main thread, and again after a pause.

        The signal may come where something would be torn. The guest repeats it then, unless what comes next holds the
        interpreter lock.
        """
        if (lane, number) not in self._asked:
            return
        self._life.process.signal(interrupts.INTERRUPT)
        if pause < LAST_S:
            self._life.at(time.monotonic() + pause, partial(self._signal, lane, number, 2 * pause))
        else:
            self._asked.discard((lane, number))

    def over(self, lane: int, number: int) -> None:
        """A call that was told to stop is over."""
        self._asked.discard((lane, number))

    def recall(self, lane: int, numbers: list[int]) -> None:
        """Ask for work back that has not begun, on the lane of a pool."""
        self.send(Kind.RECALL, lane, numbers)

    def dump(self) -> None:
        """Let the guest write the stacks of all its threads into the page, where it has come far enough for that."""
        if self._life.python:  # before its greeting the signal would end it
            self._life.process.signal(interrupts.DUMP)

    def take_stacks(self) -> str:
        """What the guest has written since the last time; empty where it has not."""
        page = self.page
        stacks = "" if page is None else page.take_stacks()
        if stacks:
            self.send(Kind.REWIND)
        return stacks

    def close(self) -> None:
        """Say nothing any more: the guest has ended."""
        self.page = None  # its last users are views of a lane that a thread is about to leave
        self.channel.close()
