"""What the calls of the running code share: the time that is left, and which logical thread they are.

Here are the context variables and `timeout`; lanes and domains read them. They belong to the context of the running
code, so that threads and tasks do not disturb each other; a served call runs in a copy.

A *logical thread* crosses walls: what a domain runs for a thread of its host, nested call-backs included, has the
identity of that thread.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from cloister.errors import CallTimeout

__all__ = ["Introduced", "adopt", "deadline", "join", "logical_thread", "options", "timeout", "timeout_or_none"]

deadline: ContextVar[float | None] = ContextVar("cloister.deadline", default=None)
"""When the calls of this context must be over, as `time.monotonic` counts; None for no limit."""

_served: ContextVar[int] = ContextVar("cloister.logical_thread", default=0)
"""The logical thread for which this context serves a call; 0 where it serves none."""

_numbers = itertools.count(1)

_LONGEST_S = 2_000_000.0
"""23 days. The system's `poll` waits no longer than 24, so a longer limit is none."""


class Introduced(Protocol):
    """Something that remembers which logical thread spoke last on it."""

    logical: int


class _Own(threading.local):
    number = 0


_own = _Own()


@contextlib.contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """Give all calls inside, nested ones on the other side too, these seconds together.

    Inside another `timeout` the earlier end holds. More than 23 days are no limit. A call that is not over in time
    raises `CallTimeout`. Raises ValueError where `seconds` is negative or not a number.
    """
    if not seconds >= 0:
        raise ValueError(f"a time-out is a number of seconds from 0 up, not {seconds!r}")
    token = deadline.set(_earlier(seconds))
    try:
        yield
    finally:
        deadline.reset(token)


def timeout_or_none(seconds: float | None) -> contextlib.AbstractContextManager[None]:
    """As `timeout`; None changes nothing."""
    return contextlib.nullcontext() if seconds is None else timeout(seconds)


def logical_thread() -> int:
    """The identity of the logical thread that runs here: the same on both sides of a wall, and never used twice."""
    number = _served.get() or _own.number
    if not number:
        # The pid in front: threads of a guest's own are not to be taken for threads of the host.
        number = _own.number = os.getpid() << 32 | next(_numbers)
    return number


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
        if lane.logical != logical:
            chosen["logical"] = lane.logical = logical
    return chosen or None


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
    left = options.get("left")
    if type(left) is int:
        deadline.set(_earlier(left / 1e9))
    join(options.get("logical"))


def join(logical: Any) -> None:
    """Serve a logical thread in this context from here on, if `logical` is the identity of one."""
    if type(logical) is int:
        _served.set(logical)
