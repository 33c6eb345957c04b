"""The time limits of tasks: whether one of asyncio or anyio ends a wait, so that it is no deadlock (`cloister.waits`).

A task is not told of a time limit around it; only its loop is. So it is looked for among the timers of the loops:
`asyncio.timeout` and `wait_for`, ``loop.call_later(t, task.cancel)``, and what else keeps the task that it ends as they
do; and among the cancel scopes of anyio. uvloop does not show its timers, but it refers to them, and they to what they
call. That another task may cancel it, or may fail in the same group, is not seen.

Any thread may look. It is done under a lock that others need, and on the thread that serves all domains; so no more
than `MOST` timers are looked at, which takes some milliseconds. Where there are more, or a loop is of a kind that
nobody here knows, the answer is that there may be a limit.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Final

__all__ = ["MOST", "may_end"]

MOST: Final = 10_000
"""Tasks, futures and timers."""


class _UnseenError(Exception):
    """Not all timers can be looked at."""


def may_end(awaited: Callable[[], Iterable[Any]]) -> tuple[bool, int]:
    """Whether a time limit may end one of these tasks and futures; the function names them.

    Returns also at how many tasks, futures and timers was looked: each costs about 1 µs.
    """
    look = _Look()
    try:
        each = list(awaited())
        look.seen += len(each)
        found = any(map(_is_waited_for, each)) or any(map(_is_in_a_scope, each)) or look.has_limit(each)
    except (RuntimeError, _UnseenError):  # the former where tasks, or timers, came and went
        found = True
    return found, look.seen


class _Look:
    """One look: at each loop once."""

    def __init__(self) -> None:
        self.seen = 0
        self._loops: set[Any] = set()
        self._aims: set[int] = set()
        """What the timers of these loops may end, by identity."""

    def has_limit(self, awaited: list[Any]) -> bool:
        """Whether a timer ends one of these, or the task that has made the group of one. Raises _UnseenError."""
        seen: set[Any] = set()
        while awaited:
            seen.update(awaited)
            for loop in {each.get_loop() for each in awaited if hasattr(each, "get_loop")} - self._loops:
                self._look_at(loop)
            if not self._aims.isdisjoint(map(id, awaited)):
                return True
            awaited = [task for each in awaited for task in _parents(each) if task not in seen]
            self.seen += len(awaited)
        return False

    def _look_at(self, loop: Any) -> None:
        self._loops.add(loop)
        timers = _timers(loop)
        self.seen += sum(map(len, timers))
        if self.seen > MOST:
            raise _UnseenError
        for handle in [handle for some in timers for handle in some]:
            if not handle.cancelled():
                self._aims.update(map(id, _aims(handle)))


def _timers(loop: Any) -> list[Collection[Any]]:
    """Where a loop keeps its timers. Raises _UnseenError where nobody knows."""
    scheduled = getattr(loop, "_scheduled", None)
    if scheduled is not None:
        return [scheduled]
    timer: Any = getattr(sys.modules.get("uvloop.loop"), "TimerHandle", None)
    if timer is None or not type(loop).__module__.startswith("uvloop"):
        raise _UnseenError
    return [held for held in gc.get_referents(loop) if type(held) is set and isinstance(next(iter(held), None), timer)]


def _aims(handle: Any) -> Iterable[Any]:
    """What a timer may end."""
    if hasattr(handle, "_callback"):
        args = [handle._callback, *(handle._args or ())]
    else:  # one of uvloop refers to what it calls, and to the arguments in a tuple
        args = gc.get_referents(handle)
        args += [each for some in args if type(some) is tuple for each in some]
    for each in args:
        if isinstance(each, partial):
            args += [each.func, *each.args]
    args += [getattr(each, "__self__", None) for each in args]
    return [*args, *(getattr(each, "_task", None) for each in args)]


def _parents(task: Any) -> Iterable[Any]:
    """The task that has made the group of this one: where it ends, the group does."""
    owners = [getattr(each[0], "__self__", None) for each in list(getattr(task, "_callbacks", None) or ())]
    return [parent for each in owners if (parent := getattr(each, "_parent_task", None)) is not None]


def _is_waited_for(future: Any) -> bool:
    """Whether `asyncio.wait_for` of Python 3.11 waits for this: it awaits a future of its own."""
    called = [getattr(each[0], "func", None) for each in getattr(future, "_callbacks", None) or ()]
    return any(getattr(function, "__name__", "") == "_release_waiter" for function in called)


def _is_in_a_scope(task: Any) -> bool:
    """Whether a cancel scope of anyio around a task has a time limit."""
    backend: Any = sys.modules.get("anyio._backends._asyncio")
    if backend is None or not hasattr(task, "get_coro"):
        return False
    state = backend._task_states.get(task)
    scope = None if state is None else state.cancel_scope
    while scope is not None:
        if scope.deadline != float("inf"):
            return True
        scope = scope._parent_scope
    return False
