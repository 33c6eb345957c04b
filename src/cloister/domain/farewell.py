"""The last moments of a domain that is to be unloaded: those who want to know are told while all of it still works.

First the handlers of `Unloading` here, in their turn among the events; then those in the guest, on a thread of its own;
then the stop goes on. All together have `stop_timeout` seconds. Where nobody wants to know, the stop goes on at once.
A domain that was not ready, or ends in any other way, has no such moments.

Any thread may enter; nothing here waits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cloister.domain import events
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["Farewell"]


class Farewell:
    """The last moments of one domain."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._begun = False
        self._over = False
        self.guest_wants = False
        """The guest has handlers of its own."""

    @property
    def wanted(self) -> bool:
        """Whether anybody wants to be told."""
        return self.guest_wants or self._life.subscriptions.wants(events.Unloading)

    def begin(self) -> bool:
        """Let all who want to know be told, and `Life.stop` be called again after it; False where that is done, or
        nobody does. The lock of the life is held."""
        life = self._life
        if self._over or self._begun:
            return not self._over
        self._begun = True
        wanted = self.wanted
        life.tell(events.Unloading(life.name, life.process.pid))
        if not wanted:
            self._over = True
            return False
        life.at(time.monotonic() + life.options.stop_timeout, self.go_on)
        life.queue.put(self._told_here, always=True)
        return True

    def _told_here(self) -> None:
        """The handlers here have run."""
        with self._life.using() as there:
            if there and self.guest_wants and not self._over:
                self._life.speaker.send(Kind.FAREWELL)
            else:
                self.go_on()

    def heard(self, wants: bool) -> None:
        """The guest has said that it has handlers, or that they have run. The watcher's thread."""
        if wants:
            self.guest_wants = True
        elif self._begun:
            self.go_on()

    def go_on(self) -> None:
        """Let the stop go on; idempotent."""
        self._over = True
        self._life.stop()
