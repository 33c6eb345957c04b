"""Whose turn it is: one strand of code at a time, in the order in which they came.

A strand is what runs with all that it calls, across walls too (`cloister.calling.strand`); mostly it stays on one
thread of each domain. Each way in is a `Pass`. Who has the last pass inside comes in again at once: its own thread
always, and another thread of the same strand while that one calls out over a wall, because then it waits for this call.
The turn goes on when the last pass has left.

Leaving is allowed at any moment, also while waiting, so that an exception at any place loses nothing: enter inside of a
`try`, leave in its `finally`. A wait that could never end is a DeadlockDetected (`cloister.waits`).

Any thread may enter. The guard can be taken again by its own thread, because a signal handler may enter here too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Hashable

from cloister import waits
from cloister.errors import CallTimeout
from cloister.long_waits import SLICE_S, LongWait

__all__ = ["Pass", "Turn"]


_numbers = itertools.count(1)


class Pass:
    """One way in."""

    __slots__ = ("gate", "out", "strand", "thread")

    def __init__(self, strand: int) -> None:
        self.thread: int = threading.get_ident()
        self.strand: int = strand
        self.out: bool = False
        """Whether it calls out over a wall at this moment, and waits."""
        self.gate: threading.Lock | None = None
        """Made where it has to wait, and opened when its turn has come."""


class _Place(waits.Resource):
    """A turn in the graph of who waits for whom. Who has it is looked up, so that taking it costs nothing."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn, name: str) -> None:
        self._turn = weakref.ref(turn)
        self.name: str = name
        self.places: int = 1

    @property
    def holders(self) -> Counter[Hashable]:  # type: ignore[override]  # nobody writes it
        turn = self._turn()
        return Counter(() if turn is None else turn.holders)


class Turn:
    """Lets one strand in at a time; the others wait, first come, first served."""

    def __init__(self, reentrant: bool) -> None:
        """`reentrant`: others may come in while the one inside calls out."""
        self.reentrant: bool = reentrant
        self._guard = threading.RLock()
        self._inside: list[Pass] = []
        self._waiting: deque[Pass] = deque()
        self._number = next(_numbers)
        self._place = _Place(self, f"synchronized turn {self._number} (one at a time)")
        _turns.add(self)

    @property
    def holders(self) -> tuple[int, ...]:
        """The strands that are inside: one, or none."""
        return tuple({each.strand for each in list(self._inside)})

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, own: Pass, limit: float | None = None, where: str = "") -> None:
        """Come in; wait for the turn where somebody else is inside.

        `limit` is a time of `time.monotonic`; `where` is named in errors. Raises CallTimeout at the limit, and
        DeadlockDetected where the turn could never come. Whatever is raised, `leave` has to follow.
        """
        with self._guard:
            inside = self._inside
            last = inside[-1] if inside else own
            if last.thread == own.thread or (last.out and last.strand == own.strand):
                inside.append(own)
                return
            gate = own.gate = threading.Lock()
            gate.acquire()
            # Known before anybody can hand over to it, so that the graph never shows a wait that is over. Where another
            # thread of its own strand is inside - a copy of its context variables runs there - the graph knows nothing.
            alone = own.strand not in self.holders
            wait = waits.waiting(self._place, limit is not None, own.strand) if alone else contextlib.nullcontext()
            wait.__enter__()
            self._waiting.append(own)
        long = LongWait(self._number, own.strand, lambda: self._before(own))
        try:
            while not gate.acquire(timeout=_slice(limit)):
                if limit is None and alone:
                    long.look()
                elif limit is not None and time.monotonic() >= limit:
                    raise CallTimeout(f"the time for the call was up while it waited for its turn{where}")
        finally:
            long.over()
            wait.__exit__(None, None, None)

    def _before(self, own: Pass) -> tuple[int, ...]:
        """The strands that are inside while this one waits; none where it does not. Without the guard: who has that
        may be a finalizer, and the control thread asks."""
        return self.holders if own in tuple(self._waiting) else ()

    def leave(self, own: Pass) -> None:
        """Go out, or wait no longer. Ignored where it is not there."""
        with self._guard:
            if own in self._inside:
                self._inside.remove(own)
                self._hand_over()
            elif own in self._waiting:
                self._waiting.remove(own)

    def step_out(self) -> list[Pass]:
        """Let others in, with all passes of the strand inside; return them for `step_in`."""
        with self._guard:
            if not self._inside or self._inside[-1].thread != threading.get_ident():
                return []  # something interrupted it on its way back in, and others are there
            passes, self._inside = self._inside, []
            self._hand_over()
        return passes

    def step_in(self, passes: list[Pass]) -> None:
        """Come back in after `step_out`, however long that takes. What interrupts it leaves the strand outside."""
        if not passes:
            return
        first = passes[0]
        try:
            self.enter(first)
        except BaseException:
            self.leave(first)
            raise
        self._inside.extend(passes[1:])

    def call_out(self, out: bool) -> None:
        """The one inside begins (`out`) or ends to wait for a call over a wall, and keeps its turn meanwhile."""
        with self._guard:
            if self._inside and self._inside[-1].thread == threading.get_ident():
                self._inside[-1].out = out

    def _hand_over(self) -> None:
        if not self._inside and self._waiting:
            follower = self._waiting.popleft()
            self._inside.append(follower)
            waits.hold(self._place, follower.strand)
            assert follower.gate is not None
            follower.gate.release()

    def begin_anew(self) -> None:
        """This is a forked child: of all threads only this one is here."""
        self._guard = threading.RLock()
        thread = threading.get_ident()
        self._waiting.clear()
        self._inside = [each for each in self._inside if each.thread == thread]


def _slice(limit: float | None) -> float:
    # A thread that waits in a lock is not reached by an exception from outside, such as the cancel of its call.
    return SLICE_S if limit is None else min(SLICE_S, max(0.0, limit - time.monotonic()))


_turns: weakref.WeakSet[Turn] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for turn in list(_turns):
        turn.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
