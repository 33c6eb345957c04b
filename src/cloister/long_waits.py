"""The waits of this process that have become long: its host is told of them, asks for them, and may refuse one.

A host knows the waits of all its guests, and so the circles through several of them (`cloister.waits`). A guest tells
of a wait only when it has lasted for a while, so a call that does not wait pays nothing. Waits with an end by
themselves are not told. At most `MAX_TOLD` are told at once; more than that are not known to the host.

What is told has a number that is used once: a wait whose holders are others than before is told anew, with the next
one. So a host that hears that a number stands knows that nothing has changed since it was told. It is told again while
it lasts, more and more seldom: other waits, which nobody tells of, may have closed a circle meanwhile.

A guest may be the host of domains. What it hears from those it passes on (`Passed`), and what it is asked for such a
wait it asks them. It does so only where it hears of a wait again: by then it has refused what is a circle here.

Where this process is no guest nobody is told. The thread that waits owns its `LongWait`, the watcher's thread each
`Passed`; `ask` and `refuse` are for the control thread. Nothing here waits, but for the host to take a message.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from cloister import waits
from cloister.errors import DeadlockDetected

__all__ = ["SLICE_S", "LongWait", "Passed", "ask", "connect", "hosted", "refuse"]

MAX_TOLD: Final = 1000
SLICE_S: Final = 0.1
"""How often a thread that waits looks up: a wait is long when it has lasted so long."""
REPEAT_S: Final = 0.25
SELDOM_S: Final = 4.0
"""How soon a wait that lasts is told again: at first, and at last; twice as late each time."""
LOOK_S: Final = 0.2
"""How soon is looked again for a circle in this process: at first; at last as seldom as is told again."""
AGAIN_S: Final = 0.1
MOST_S: Final = 1.0
"""How soon a wait whose holders have changed is told again: at first, and at last; twice as late each time."""

_tell: Callable[..., None] | None = None
_confirm: Callable[..., None] | None = None
_numbers = itertools.count(1)
_told: dict[int, LongWait | Passed] = {}


def connect(tell: Callable[..., None] | None, confirm: Callable[..., None] | None = None) -> None:
    """Begin. `tell` tells the host of a wait, with number, strand, holders and what for, or that one is over; `confirm`
    tells it, with number and question, that a wait is there and has been all the time. None: nobody is told.
    """
    global _tell, _confirm
    _tell, _confirm = tell, confirm


def hosted() -> bool:
    """Whether this process has a host that is told."""
    return _tell is not None


def ask(number: int, question: int) -> None:
    """Tell the host whether the wait that was told with this number is there, and has been all the time; or ask on."""
    wait = _told.get(number)
    if wait is not None:
        wait.ask(question)
    elif _tell is not None:
        _tell(number)


def refuse(number: int, words: str) -> None:
    """Let the wait that was told with this number end, with a DeadlockDetected; ignored where it is over."""
    wait = _told.get(number)
    if wait is not None:
        wait.refuse(words)


class LongWait:
    """One wait for something exclusive. Made when it begins, and told of when it is looked at."""

    __slots__ = (
        "_again",
        "_changes",
        "_holders",
        "_look",
        "_looked",
        "_number",
        "_pause",
        "_repeat",
        "_repeated",
        "_seen",
        "_shown",
        "_strand",
        "_what",
        "refused",
    )

    def __init__(
        self,
        what: int | str,
        strand: int,
        holders: Callable[[], tuple[int, ...]],
        changes: Callable[[], int] = lambda: 0,
    ) -> None:
        """`what` is the number of a turn, or the name of something else.

        `holders` gives the strands that have what this one waits for; none where it does not wait any more. `changes`
        counts how often those have changed, where who has given it back may have it again before the one that waits.
        """
        self._what, self._strand, self._holders, self._changes = what, strand, holders, changes
        self._seen = 0
        self._number = 0
        self._shown: tuple[int, ...] = ()
        self._again, self._pause = 0.0, AGAIN_S
        self._repeated, self._repeat = 0.0, REPEAT_S
        self._looked, self._look = 0.0, LOOK_S
        self.refused = ""
        """Why it can never end; empty while that is not known."""

    def look(self) -> None:
        """It still lasts: look whether it can end, and tell the host what has changed.

        Raises DeadlockDetected where it never can, or the host has refused it.
        """
        if self.refused:
            raise DeadlockDetected(self.refused)
        now = time.monotonic()
        if now >= self._looked:
            self._looked, self._look = now + self._look, min(2 * self._look, SELDOM_S)
            words = waits.look(self._strand)
            if words:
                raise DeadlockDetected(words)
        if _tell is None:
            return
        seen, holders = self._changes(), self._holders()
        if holders and holders == self._shown and seen == self._seen:
            if now >= self._repeated:
                self._repeated, self._repeat = now + self._repeat, min(2 * self._repeat, SELDOM_S)
                _tell(self._number, self._strand, list(holders), self._what)
            return
        if now < self._again:
            return
        self.over()
        if holders and len(_told) < MAX_TOLD:
            self._again, self._pause = now + self._pause, min(2 * self._pause, MOST_S)
            self._repeated = now + self._repeat
            self._shown, self._seen, self._number = holders, seen, next(_numbers)
            _told[self._number] = self
            _tell(self._number, self._strand, list(holders), self._what)

    def ask(self, question: int) -> None:
        """The host asks whether it is as it was told. Where it is not, it is told anew if it lasts."""
        number = self._number
        if self._shown and not self.refused and (self._holders(), self._changes()) == (self._shown, self._seen):
            if _confirm is not None:
                _confirm(number, question)
            return
        self._shown = ()
        if _tell is not None:
            _tell(number)

    def refuse(self, words: str) -> None:
        """Let it raise, when it is next looked at. From now on it does not stand any more."""
        self.refused = words
        self._shown = ()

    def over(self) -> None:
        """It has ended, in whatever way."""
        self._shown = ()
        _end(self._number)


class Passed:
    """One wait in a domain that this guest has made, passed on to its host."""

    __slots__ = ("_number", "ask", "refuse")

    def __init__(self, ask: Callable[[int], None], refuse: Callable[[str], None]) -> None:
        """`ask` asks for it with a question of the host; `refuse` lets it raise. Neither may wait."""
        self.ask, self.refuse = ask, refuse
        self._number = 0

    def tell(self, what: str, strand: int, holders: Iterable[int]) -> None:
        """Tell of it, for the first time or again."""
        if _tell is None or (not self._number and len(_told) >= MAX_TOLD):
            return
        if not self._number:
            self._number = next(_numbers)
            _told[self._number] = self
        _tell(self._number, strand, list(holders), what)

    def stands(self, question: int) -> None:
        """It is as it was told: what `ask` has asked for."""
        if self._number and _confirm is not None:
            _confirm(self._number, question)

    def over(self) -> None:
        """It has ended, or is not as it was told."""
        _end(self._number)


def _end(number: int) -> None:
    if _told.pop(number, None) is not None and _tell is not None:
        _tell(number)


def _begin_anew() -> None:
    """A forked child is no guest."""
    global _tell, _confirm
    _tell = _confirm = None
    _told.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
