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
import types
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Final

__all__ = ["MOST", "may_end"]

MOST: Final = 5_000
"""Tasks, futures and timers."""

DEPTH: Final = 4
"""From a timer to a partial function, its arguments, one that is a method, and whose it is."""
_THROUGH: Final = frozenset((types.MethodType, types.BuiltinMethodType, tuple, partial))
"""What a timer calls, or calls it with, and what that refers to may be ended by it."""


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
    """One look."""

    def __init__(self) -> None:
        self.seen = 0

    def has_limit(self, awaited: list[Any]) -> bool:
        """Whether a timer ends one of these, or the task that has made the group of one. Raises _UnseenError."""
        wanted = {id(each): each for each in awaited}
        while awaited:
            awaited = [task for each in awaited for task in _parents(each) if id(task) not in wanted]
            wanted.update((id(each), each) for each in awaited)
            self._count(len(awaited))
        for loop in {each.get_loop() for each in wanted.values() if hasattr(each, "get_loop")}:
            timers = _timers(loop)
            self._count(sum(map(len, timers)))
            if not wanted.keys().isdisjoint(_aims([handle for some in timers for handle in some])):
                return True
        return False

    def _count(self, number: int) -> None:
        self.seen += number
        if self.seen > MOST:
            raise _UnseenError


def _timers(loop: Any) -> list[Collection[Any]]:
    """Where a loop keeps its timers. Raises _UnseenError where nobody knows."""
    scheduled = getattr(loop, "_scheduled", None)
    if scheduled is not None:
        return [scheduled]
    timer: Any = getattr(sys.modules.get("uvloop.loop"), "TimerHandle", None)
    if timer is None or not type(loop).__module__.startswith("uvloop"):
        raise _UnseenError
    return [held for held in gc.get_referents(loop) if type(held) is set and isinstance(next(iter(held), None), timer)]


def _aims(timers: list[Any]) -> set[int]:
    """What these timers may end, by identity. One that was cancelled refers to nothing any more.

    Most of it is done in C: it is 1 µs for each then, and many times as much otherwise.
    """
    found: dict[int, Any] = {}
    ahead = timers
    for _ in range(DEPTH):
        met = {id(each): each for each in gc.get_referents(*ahead)}
        ahead = [each for key, each in met.items() if type(each) in _THROUGH and key not in found]
        found.update(met)
    tasks = {id(getattr(each, "_task", None)) for each in found.values() if type(each) not in _THROUGH}
    return tasks.union(found)


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
