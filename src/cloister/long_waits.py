"""The waits of this process that have become long: its host is told of them, asks for them, and may refuse one.

A host knows the waits of all its guests, and so the circles through several of them (`cloister.waits`). A guest tells
of a wait only when it has lasted for a while, so a call that does not wait pays nothing. Waits with an end by
themselves are not told. At most `MAX_TOLD` are told at once; more than that are not known to the host.

What is told has a number that is used once: a wait whose holders are others than before is told anew, with the next
one. So a host that hears that a number stands knows that nothing has changed since it was told.

Where this process is no guest nobody is told. The thread that waits owns its `LongWait`; `stands` and `refuse` are for
the control thread. Nothing here waits, but for the host to take a message.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Final

from cloister.errors import DeadlockDetected

__all__ = ["LongWait", "connect", "refuse", "stands"]

MAX_TOLD: Final = 1000
AGAIN_S: Final = 0.1
MOST_S: Final = 1.0
"""How soon a wait whose holders have changed is told again: at first, and at last; twice as late each time."""

_tell: Callable[..., None] | None = None
_numbers = itertools.count(1)
_told: dict[int, LongWait] = {}


def connect(tell: Callable[..., None] | None) -> None:
    """Begin: `tell` tells the host of a wait, with number, strand, holders and which turn, or that one is over.

    None: nobody is told.
    """
    global _tell
    _tell = tell


def stands(number: int) -> bool:
    """Whether the wait that was told with this number is there, and has been all the time."""
    wait = _told.get(number)
    return wait is not None and wait.stands()


def refuse(number: int, words: str) -> None:
    """Let the wait that was told with this number end, with a DeadlockDetected; ignored where it is over."""
    wait = _told.get(number)
    if wait is not None:
        wait.refused = words


class LongWait:
    """One wait for a turn. Made when it begins, and told of when it is looked at."""

    __slots__ = ("_again", "_holders", "_number", "_pause", "_shown", "_strand", "_turn", "refused")

    def __init__(self, turn: int, strand: int, holders: Callable[[], tuple[int, ...]]) -> None:
        """`holders` gives the strands that have what this one waits for; none where it does not wait any more."""
        self._turn, self._strand, self._holders = turn, strand, holders
        self._number = 0
        self._shown: tuple[int, ...] = ()
        self._again, self._pause = 0.0, AGAIN_S
        self.refused = ""
        """Why it can never end; empty while that is not known."""

    def look(self) -> None:
        """It still lasts: tell the host what has changed. Raises DeadlockDetected where the host has refused it."""
        if self.refused:
            raise DeadlockDetected(self.refused)
        if _tell is None:
            return
        holders = self._holders()
        now = time.monotonic()
        if holders == self._shown or now < self._again:
            return
        self.over()
        if holders and len(_told) < MAX_TOLD:
            self._again, self._pause = now + self._pause, min(2 * self._pause, MOST_S)
            self._shown, self._number = holders, next(_numbers)
            _told[self._number] = self
            _tell(self._number, self._strand, list(holders), self._turn)

    def stands(self) -> bool:
        """Whether it is as it was told. Where it is not, it is told anew if it lasts."""
        same = bool(self._shown) and self._holders() == self._shown
        if not same:
            self._shown = ()
        return same

    def over(self) -> None:
        """It has ended, in whatever way."""
        self._shown = ()
        if _told.pop(self._number, None) is not None and _tell is not None:
            _tell(self._number)


def _begin_anew() -> None:
    """A forked child is no guest."""
    global _tell
    _tell = None
    _told.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
