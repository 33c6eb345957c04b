"""The time limits of tasks: whether one of asyncio or anyio ends a wait, so that it is no deadlock (`cloister.waits`).

A task is not told of a time limit around it; only its loop is. So it is looked for among the timers of the loops:
`asyncio.timeout` and `wait_for`, ``loop.call_later(t, task.cancel)``, and what else keeps the task that it ends as they
do; and among the cancel scopes of anyio. uvloop does not show its timers: there all objects of the program are gone
through that refer to the task. That another task may cancel it, or may fail in the same group, is not seen.

Any thread may look.
"""

from __future__ import annotations

import gc
import sys
import time
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

__all__ = ["may_end"]

PAUSE_S: Final = 0.05
SHARE: Final = 50
"""How soon is looked again: after so long, or so many times as long as it took the processor."""

_next_look = 0.0


def may_end(awaited: Callable[[], Iterable[Any]]) -> bool:
    """Whether a time limit may end one of these tasks and futures; the function names them.

    Looking costs some milliseconds. So it is not done often, whatever guests say: meanwhile the answer is that it may
    be so, and whoever asks comes again.
    """
    global _next_look
    if time.monotonic() < _next_look:
        return True
    begun = time.thread_time()
    try:
        each = list(awaited())
        return any(map(_is_waited_for, each)) or any(map(_is_in_a_scope, each)) or _has_limit(each)
    except RuntimeError:  # not all tasks were seen
        return True
    finally:
        _next_look = time.monotonic() + max(PAUSE_S, SHARE * (time.thread_time() - begun))


def _has_limit(awaited: list[Any]) -> bool:
    seen: set[Any] = set()
    while awaited:
        seen.update(awaited)
        if _is_timed(awaited):
            return True
        awaited = [task for each in awaited for task in _parents(each) if task not in seen]
    return False


def _is_timed(awaited: list[Any]) -> bool:
    loops = {each.get_loop() for each in awaited if hasattr(each, "get_loop")}
    timers = [getattr(loop, "_scheduled", None) for loop in loops]
    if any(each is None for each in timers):
        return any(map(_is_limit, gc.get_referrers(*awaited)))
    wanted = {id(each) for each in awaited}
    handles = [handle for each in timers for handle in list(each or ())]
    return any(not handle.cancelled() and not wanted.isdisjoint(map(id, _aims(handle))) for handle in handles)


def _aims(handle: Any) -> Iterable[Any]:
    """What a timer may end."""
    called, args = handle._callback, list(handle._args or ())
    while isinstance(called, partial):
        args += called.args
        called = called.func
    args += [getattr(each, "__self__", None) for each in (called, *args)]
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


def _is_limit(owner: Any) -> bool:
    """Whether what refers to a task or a future is a time limit that is set, or its `cancel` that somebody keeps."""
    if isinstance(owner, types.BuiltinMethodType | types.MethodType):
        return owner.__name__ == "cancel"
    if type(owner) is dict:
        return "_timeout_handler" in owner and owner.get("_when") is not None
    timeouts: Any = sys.modules.get("asyncio.timeouts")
    return timeouts is not None and isinstance(owner, timeouts.Timeout) and owner.when() is not None
