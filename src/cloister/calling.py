"""What the calls of the running code share: the time that is left, and which logical thread they are.

Here are the context variables and `timeout`; lanes and domains read them. They belong to the context of the running
code, so that threads and tasks do not disturb each other; a served call runs in a copy.

A *logical thread* crosses walls: what a domain runs for a thread of its host, nested call-backs included, has the
identity of that thread. A *strand* is one course of code that runs: a logical thread, or a call beside it that nobody
waits for, such as a submitted one. What is exclusive belongs to a strand, because two of them may run at once.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from cloister import travel
from cloister.errors import CallTimeout

__all__ = [
    "Entered",
    "Introduced",
    "adopt",
    "begin_interpreter",
    "begin_strand",
    "deadline",
    "entered",
    "join",
    "kill_after",
    "lend",
    "limits",
    "logical_thread",
    "options",
    "options_beside",
    "options_down",
    "place_of",
    "seconds_from_0",
    "serves",
    "strand",
    "strand_there",
    "thread_of",
    "timeout",
    "timeout_or_none",
]

T = TypeVar("T")

deadline: ContextVar[float | None] = ContextVar("cloister.deadline", default=None)
"""When the calls of this context must be over, as `time.monotonic` counts; None for no limit."""

kill_after: ContextVar[float | None] = ContextVar("cloister.kill_after", default=None)
"""How many seconds after it was given up a call of this context may go on before its domain is killed; None for ever.
It does not travel: a guest does not kill for its host."""

_served: ContextVar[int] = ContextVar("cloister.logical_thread", default=0)
"""The logical thread for which this context serves a call; 0 where it serves none."""

_strand: ContextVar[int] = ContextVar("cloister.strand", default=0)
"""The strand of this context, where that is another one than its logical thread."""

entered: ContextVar[Entered | None] = ContextVar("cloister.entered", default=None)
"""The context of its domain that this code is in (`cloister.contexts`); None in the default one."""

_NUMBER_BITS = 40
"""A process that needs a new identity a hundred thousand times a second has enough for four months."""
_PROCESS_BITS = 24
"""Linux has pids of 22 bits."""

_numbers = itertools.count(1)

_LONGEST_S = 2_000_000.0
"""23 days. The system's `poll` waits no longer than 24, so a longer limit is none."""


class Introduced(Protocol):
    """Something that remembers which logical thread spoke last on it."""

    logical: int
    strand: int


class Entered(Protocol):
    """A stay in a context. A call that leaves the domain goes through it, because others may come in meanwhile."""

    def call_out(self, call: Callable[..., Any], target: int, name: str, args: Any, kwargs: Any, flags: int) -> Any:
        """Make the call with `entered` unset, and come back into the context."""


class _Known:
    """Lies with a thread, and lets its strand be forgotten when it ends: the next one may get its ident."""

    def __init__(self, strands: dict[int, int], number: int) -> None:
        self._strands, self._thread, self._number = strands, threading.get_ident(), number
        strands[self._thread] = number

    def __del__(self) -> None:
        if self._strands.get(self._thread) == self._number:
            self._strands.pop(self._thread, None)


class _Own(threading.local):
    number = 0
    known: _Known | None = None


_own = _Own()
_lent: dict[int, int] = {}
"""The idents of the threads that run a strand that is none of their own, at this moment."""
_by_thread: dict[int, int] = {}
"""The same by the idents of the threads."""


@contextlib.contextmanager
def timeout(seconds: float, *, kill_after: float | None = None) -> Iterator[None]:
    """Give all calls inside, nested ones on the other side too, these seconds together.

    Inside another `timeout` the earlier end holds. More than 23 days are no limit. A call that is not over in time is
    told to stop, and raises `CallTimeout`. With `kill_after` the domain is killed where the call has not stopped so
    many seconds later, and the error says which of the two happened; None leaves that as it is outside. Raises
    TypeError and ValueError for what is no number of seconds from 0 up.
    """
    seconds_from_0("a time-out", seconds)
    if kill_after is not None:
        seconds_from_0("kill_after", kill_after)
    yield from _within(seconds, kill_after)


@contextlib.contextmanager
def limits(seconds: float | None, kill: float | None) -> Iterator[None]:
    """As `timeout`, with what was checked before; None changes nothing."""
    yield from _within(seconds, kill)


def timeout_or_none(seconds: float | None) -> contextlib.AbstractContextManager[None]:
    """As `timeout`; None changes nothing."""
    return contextlib.nullcontext() if seconds is None else timeout(seconds)


def seconds_from_0(what: str, value: object) -> None:
    """Raise TypeError or ValueError unless the value is a number of seconds from 0 up."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} is a number of seconds, not {value!r}, which is a {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"{what} is a number of seconds from 0 up, not {value!r}")


def _within(seconds: float | None, kill: float | None) -> Iterator[None]:
    limit = None if seconds is None else deadline.set(_earlier(seconds))
    grace = None if kill is None else kill_after.set(kill)
    try:
        yield
    finally:
        if grace is not None:
            kill_after.reset(grace)
        if limit is not None:
            deadline.reset(limit)


def logical_thread() -> int:
    """The identity of the logical thread that runs here: the same on both sides of a wall, and never used twice."""
    number = _served.get() or _own.number
    if not number:
        number = _own.number = _new_number()
        _own.known = _Known(_by_thread, number)
    return number


def serves() -> bool:
    """Whether this context serves a logical thread, or is a strand of its own: so its thread may run others too."""
    return _served.get() != 0


def strand() -> int:
    """The identity of the strand that runs here: the same on both sides of a wall, and never used twice."""
    return _strand.get() or logical_thread()


def strand_there(thread: int, context: contextvars.Context | None = None) -> int:
    """The strand of what another thread runs, in a context of its own where one is given; 0 where it has none yet."""
    there = 0 if context is None else context.get(_strand, 0) or context.get(_served, 0)
    return there or _by_thread.get(thread, 0)


def thread_of(strand: int) -> int:
    """The ident of the thread that runs a strand: its own, or for another process; 0 where that is not known."""
    there = _lent.get(strand, 0)
    return there or next((thread for thread, number in list(_by_thread.items()) if number == strand), 0)


def lend(strand: int, run: Callable[[], T]) -> T:
    """Run something for a strand on this thread, which is not its own, and let `thread_of` know."""
    before = _lent.get(strand)
    _lent[strand] = threading.get_ident()
    try:
        return run()
    finally:
        if before is None:
            _lent.pop(strand, None)
        else:
            _lent[strand] = before


def begin_strand() -> int:
    """Let what runs in this context from here on be a strand of its own, of the same logical thread; return which."""
    number = _new_number()
    _served.set(logical_thread())
    _strand.set(number)
    return number


def _new_number() -> int:
    # The pid in front: threads of a guest's own are not to be taken for threads of the host.
    return _process | next(_numbers)


def begin_interpreter(identity: int) -> None:
    """This is an interpreter of its own in a process of others, the one with this number; called before any call."""
    global _numbers
    _numbers = itertools.count((identity << _NUMBER_BITS + _PROCESS_BITS) + 1)


def place_of(strand: int) -> tuple[int, int, int]:
    """Where a logical thread or strand has begun, and its number there: (process, interpreter, number).

    The interpreter is 0 for the main one.
    """
    process = strand >> _NUMBER_BITS & (1 << _PROCESS_BITS) - 1
    return process, strand >> _NUMBER_BITS + _PROCESS_BITS, strand & (1 << _NUMBER_BITS) - 1


def _begin_anew() -> None:
    """A forked child is another process than the thread that forked it belongs to."""
    global _process
    _own.number = 0
    _by_thread.clear()
    _lent.clear()
    _process = os.getpid() << _NUMBER_BITS


_process = os.getpid() << _NUMBER_BITS
"""Looked up once: a system call for each number takes longer than all the rest."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def options(limit: float | None, name: str, lane: Introduced | None = None) -> dict[str, Any] | None:
    """The options to send with a call of this context; None for none.

    `limit` is its deadline. `lane` is given where the logical threads on a lane may change: each introduces itself
    once. Raises CallTimeout where the deadline has passed: nothing was sent then.
    """
    chosen: dict[str, Any] = {}
    if limit is not None:
        left = limit - time.monotonic()
        if left <= 0:
            raise CallTimeout(f"the time for {name}() was up before it was sent")
        chosen["left"] = int(left * 1e9)
    if lane is not None:
        logical = logical_thread()
        running = _strand.get() or logical
        if lane.logical != logical or lane.strand != running:
            chosen["logical"] = lane.logical = logical
            lane.strand = running
            if running != logical:
                chosen["strand"] = running
    return chosen or None


def options_down(limit: float | None, name: str, lane: Introduced | None = None) -> dict[str, Any] | None:
    """As `options`, for a call into a domain: with the context variables that travel and the trace context."""
    chosen = options(limit, name, lane)
    if travel.is_packed():
        chosen = chosen or {}
        travel.pack(chosen)
    return chosen or None


def options_beside(limit: float | None, name: str) -> dict[str, Any]:
    """As `options_down`, for a call that runs beside its caller, as a strand of its own."""
    if limit is None and not travel.is_packed():
        return {"logical": _served.get() or logical_thread(), "strand": _process | next(_numbers)}
    chosen = options_down(limit, name) or {}
    chosen["logical"] = logical_thread()
    chosen["strand"] = _new_number()
    return chosen


def _earlier(seconds: float) -> float | None:
    """The deadline of this context, or the end of so many seconds, if that is earlier."""
    outer = deadline.get()
    if seconds > _LONGEST_S:
        return outer
    end = time.monotonic() + seconds
    return end if outer is None else min(end, outer)


def adopt(options: dict[str, Any]) -> None:
    """Take over the options of a call that arrived, in the context that serves it; what is unknown is ignored.

    A deadline only ever becomes earlier by it.
    """
    if "left" in options and type(left := options["left"]) is int:
        deadline.set(_earlier(left / 1e9))
    logical = options.get("logical")
    if type(logical) is int:  # as in `join`
        _served.set(logical)
        strand = options.get("strand")
        _strand.set(strand if type(strand) is int else 0)


def join(logical: Any, strand: Any = None) -> None:
    """Serve a logical thread in this context from here on, if `logical` is the identity of one.

    `strand` is given where that is another one than the thread's own.
    """
    if type(logical) is int:
        _served.set(logical)
        _strand.set(strand if type(strand) is int else 0)
