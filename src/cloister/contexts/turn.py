"""Whose turn it is: one thread at a time, in the order in which they came.

A logical thread stays on one thread of each domain - nested calls are served by the thread that waits - so a turn
belongs to a thread, and a call that comes back to where its thread is inside already goes on at once.

Each way in is a `Pass`. A thread has as many as it is nested deep; the turn goes on when its last one has left. Leaving
is allowed at any moment, also while waiting, so that an exception at any place loses nothing: enter inside of a `try`,
leave in its `finally`.

Any thread may enter. The guard can be taken again by its own thread, because a signal handler may enter here too.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from typing import Final

from cloister.errors import CallTimeout

__all__ = ["Pass", "Turn"]

SLICE_S: Final = 0.1
"""A thread that waits in a lock is not reached by an exception from outside, such as the cancel of its call. So it
looks up this often."""


class Pass:
    """One way in of one thread."""

    __slots__ = ("gate", "logical", "thread")

    def __init__(self, logical: int) -> None:
        self.thread = threading.get_ident()
        self.logical = logical
        """The logical thread, which tells others who is inside."""
        self.gate: threading.Lock | None = None
        """Made where it has to wait, and opened when its turn has come."""


class Turn:
    """Lets one thread in at a time; the others wait, first come, first served."""

    def __init__(self, reentrant: bool) -> None:
        """`reentrant`: others may come in while the one inside calls out."""
        self.reentrant = reentrant
        self._guard = threading.RLock()
        self._inside: list[Pass] = []
        self._waiting: deque[Pass] = deque()
        _turns.add(self)

    @property
    def holders(self) -> tuple[int, ...]:
        """The logical threads that are inside: one, or none."""
        return tuple({each.logical for each in list(self._inside)})

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, own: Pass, limit: float | None = None, where: str = "") -> None:
        """Come in; wait for the turn where another thread is inside.

        `limit` is a time of `time.monotonic`; `where` is named in errors. Raises CallTimeout at the limit. Whatever is
        raised, `leave` has to follow.
        """
        with self._guard:
            inside = self._inside
            if not inside or inside[0].thread == own.thread:
                inside.append(own)
                return
            gate = own.gate = threading.Lock()
            gate.acquire()
            self._waiting.append(own)
        while not gate.acquire(timeout=_slice(limit)):
            if limit is not None and time.monotonic() >= limit:
                raise CallTimeout(f"the time for the call was up while it waited for its turn{where}")

    def leave(self, own: Pass) -> None:
        """Go out, or wait no longer. Ignored where it is not there."""
        with self._guard:
            if own in self._inside:
                self._inside.remove(own)
                self._hand_over()
            elif own in self._waiting:
                self._waiting.remove(own)

    def step_out(self) -> list[Pass]:
        """Let others in, with all passes of the calling thread; return them for `step_in`."""
        thread = threading.get_ident()
        with self._guard:
            own = [each for each in self._inside if each.thread == thread]
            if own:
                self._inside.clear()  # nobody else is inside
                self._hand_over()
        return own

    def step_in(self, passes: list[Pass]) -> None:
        """Come back in after `step_out`, however long that takes. What interrupts it leaves the thread outside."""
        if not passes:
            return
        first = passes[0]
        try:
            self.enter(first)
        except BaseException:
            self.leave(first)
            raise
        self._inside.extend(passes[1:])

    def _hand_over(self) -> None:
        if not self._inside and self._waiting:
            follower = self._waiting.popleft()
            self._inside.append(follower)
            assert follower.gate is not None
            follower.gate.release()

    def begin_anew(self) -> None:
        """This is a forked child: of all threads only this one is here."""
        self._guard = threading.RLock()
        thread = threading.get_ident()
        self._waiting.clear()
        self._inside = [each for each in self._inside if each.thread == thread]


def _slice(limit: float | None) -> float:
    return SLICE_S if limit is None else min(SLICE_S, max(0.0, limit - time.monotonic()))


_turns: weakref.WeakSet[Turn] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for turn in list(_turns):
        turn.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
