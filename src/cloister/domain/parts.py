"""The parts of a life, and when they are given up: when nobody holds the domain, nothing is left of it, and nobody is
in the middle of something with them.

Each part knows the life, and together they would wait for the garbage collector, with all that they hold. So a life
gives them up by itself. Whoever needs one of them, and neither holds the domain nor is the watcher's thread, says so
for as long as that takes: a call-back that runs, a job that waits, the end of the interpreter. The last one lets go.

Any thread may enter, a finalizer too: nothing here takes a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloister.domain.guest_peer import GuestPeer

__all__ = ["Parts"]

_PARTS = (
    "watching",
    "resolving",
    "preparation",
    "speaker",
    "listener",
    "output",
    "guard",
    "guest_threads",
    "stops",
    "waits",
    "farewell",
    "suspension",
    "_end",
)
"""The attributes of a life that know it themselves, with `peer`."""


class Parts:
    """What a life has that knows the life itself."""

    foreign: bool
    """Whether this process is a fork of the one that the domain belongs to."""

    def __init__(self) -> None:
        self._dropped = self._finished = False
        """Nobody holds the domain any more; nothing of it is left here."""
        self._users: list[None] = []
        """One for each that is in the middle of something."""

    def let_go(self, over: bool = False) -> None:
        """Nobody holds the domain any more, or, where it is `over`, nothing of it is left here.

        After both, the parts are given up. Who has one of them for itself goes on to be told of the end.
        """
        if over:
            self._finished = True
        else:
            self._dropped = True
        self._give_up_unused()

    def begin_use(self) -> bool:
        """Keep the parts until `end_use`; False where they are given up, or about to be."""
        self._users.append(None)  # first: who gives them up looks for it last
        if not (self._finished and self._dropped):
            return True
        self.end_use()
        return False

    def end_use(self) -> None:
        """Need the parts no more."""
        self._users.pop()
        self._give_up_unused()

    @contextmanager
    def using(self) -> Iterator[bool]:
        """Keep the parts for a block; gives what `begin_use` says."""
        there = self.begin_use()
        try:
            yield there
        finally:
            if there:
                self.end_use()

    def _give_up_unused(self) -> None:
        if not (self._finished and self._dropped) or self._users or self.foreign:
            return
        peer: GuestPeer | None = vars(self).pop("peer", None)
        if peer is not None:  # else another thread has come first
            for part in _PARTS:
                vars(self).pop(part, None)
            peer.let_go()
