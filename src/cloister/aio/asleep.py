"""What the coroutines of this process await, so that a circle of waits through them is found (`cloister.waits`).

A call of a loop is a strand. While the guest waits for a call-back of it, the strand goes on as the task that runs the
call-back, and waits for what that task awaits: the answers of other calls, through tasks and `asyncio.gather` too. All
of it is looked up in the tasks themselves, so a call costs nothing more. Whatever else a task awaits - a sleep, a lock,
a queue - counts as something that comes. So does what a coroutine of the guest asks for: over there it may do more
than to wait.

A time limit of `asyncio.timeout`, or of `asyncio.wait_for`, ends a wait, and a strand does not know of it. Only its
loop does; `may_end` looks for one, in the tasks of a circle and in those that wait for its calls. What else may cancel
a task is not seen: `anyio.move_on_after`, or `loop.call_later(t, task.cancel)`. A wait that those would have ended may
be refused.

Any thread may look, and nothing here waits or changes anything. The loops go on meanwhile; `waits` looks twice.
"""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final

from cloister import waits
from cloister.aio.limited import Errand
from cloister.lanes.loop_shared import LoopCall

if TYPE_CHECKING:
    from cloister.aio.peer import LoopPeer

__all__ = ["asleep", "may_end", "watch"]

MAX_AWAITED: Final = 1000
"""How many tasks and futures are looked at for one strand. Where there are more, it counts as one that goes on."""

PAUSE_S: Final = 0.05
SHARE: Final = 50
"""How soon a time limit is looked for again: after so long, or so many times as long as it took."""

_next_look = 0.0

_peers: dict[int, weakref.ref[LoopPeer]] = {}

Task = asyncio.Task[Any]


def watch(peer: LoopPeer) -> None:
    """From now on look at the calls of this peer, as long as it lives."""
    key = id(peer)
    _peers[key] = weakref.ref(peer, lambda _: _peers.pop(key, None))
    waits.coroutines(asleep, may_end)


def asleep(strand: Hashable) -> waits.Asleep | None:
    """What the tasks await that run for a strand; None where there are none, or where one of them may go on."""
    seen = _Awaited()
    if not isinstance(strand, int) or not seen.follow(_tasks_of(strand)):
        return None
    names = " and ".join(dict.fromkeys(f"the answer of {name}()" for name in seen.names))
    return waits.Asleep(f"{names}, which its call-back awaits", seen.strands, seen.futures)


class _Awaited:
    """What some tasks await, down to the calls."""

    def __init__(self) -> None:
        self.tasks: set[Task] = set()
        self.futures: list[asyncio.Future[Any]] = []
        self.strands: set[int] = set()
        self.names: list[str] = []

    def follow(self, ahead: list[Any]) -> bool:
        """Look at tasks and what they await; False where any of it may come."""
        while ahead:
            future = ahead.pop()
            if future.done() or len(self.futures) >= MAX_AWAITED:
                return False
            self.futures.append(future)
            more = self._behind(future)
            if more is None:
                return False
            ahead += [each for each in more if each not in self.tasks]
        return bool(self.strands)

    def _behind(self, future: Any) -> list[Any] | None:
        """What has to come before a task or a future can; None where that is not known."""
        if isinstance(future, asyncio.Task):
            self.tasks.add(future)
            awaited = getattr(future, "_fut_waiter", None)
            return None if awaited is None else [awaited]
        children = getattr(future, "_children", None)  # of `asyncio.gather`, which may also be done with the first
        if children is not None:
            return [child for child in list(children) if not child.done()] or None
        strand = _strand_of(future)
        if strand:
            self.strands.add(strand)
            self.names.append(getattr(future, "name", "") or "a call")
            return []
        return list(getattr(future, "served", None) or ()) or None


def _peers_now() -> list[LoopPeer]:
    return [peer for each in list(_peers.values()) if (peer := each()) is not None]


def _tasks_of(strand: int) -> list[Any]:
    """The tasks that run for a strand while the guest waits for them; empty where it is not known that it does."""
    return next((tasks for peer in _peers_now() if (tasks := peer.waits_for(strand))), [])


def _strand_of(future: Any) -> int:
    """The strand whose answer a future is; 0 where it is none, or the strand of its caller goes on in it."""
    if isinstance(future, LoopCall) and future.strand:
        return future.strand
    return next((strand for peer in _peers_now() if (strand := peer.strand_of(future))), 0)


def may_end(strands: Iterable[Hashable]) -> bool:
    """Whether a time limit of asyncio may end one of the waits that lead to these strands.

    Looking goes through all objects of the program. So it is not done often, whatever guests say: meanwhile the answer
    is that it may be so, and whoever asks comes again.
    """
    global _next_look
    begun = time.monotonic()
    if begun < _next_look:
        return True
    try:
        return _has_limit(strands)
    except RuntimeError:  # not all tasks were seen
        return True
    finally:
        now = time.monotonic()
        _next_look = now + max(PAUSE_S, SHARE * (now - begun))


def _has_limit(strands: Iterable[Hashable]) -> bool:
    known = [strand for strand in strands if isinstance(strand, int)]
    below = _Awaited()
    for strand in known:
        below.follow(_tasks_of(strand))
    tasks, futures = _above(known)
    tasks |= below.tasks
    return any(map(_is_waited_for, futures)) or any(map(_is_limit, gc.get_referrers(*tasks)))


def _above(strands: list[int]) -> tuple[set[Task], list[Any]]:
    """The tasks that wait for the calls of these strands, and for one another; with what they await.

    Raises RuntimeError where a loop makes tasks so fast that they can't be listed.
    """
    waiting: dict[Any, list[Task]] = {}
    calls: list[Any] = []
    for peer in _peers_now():
        calls += [call for strand in strands if (call := _future_of(peer.caller(strand))) is not None]
        for loop in peer.loops():
            for task in asyncio.all_tasks(loop):
                awaited = getattr(task, "_fut_waiter", None)
                for each in [awaited, *(getattr(awaited, "_children", None) or ())]:
                    waiting.setdefault(each, []).append(task)
    tasks: set[Task] = set()
    ahead = list(calls)
    while ahead:
        for task in waiting.get(ahead.pop(), ()):
            if task not in tasks:
                tasks.add(task)
                ahead.append(task)
    return tasks, [*calls, *tasks]


def _future_of(caller: LoopCall | Errand | None) -> Any:
    return caller.call if isinstance(caller, Errand) else caller


def _is_waited_for(future: Any) -> bool:
    """Whether `asyncio.wait_for` of Python 3.11 waits for this: it awaits a future of its own."""
    called = [getattr(each[0], "func", None) for each in getattr(future, "_callbacks", None) or ()]
    return any(getattr(function, "__name__", "") == "_release_waiter" for function in called)


def _is_limit(owner: Any) -> bool:
    """Whether what refers to a task is a time limit that is set."""
    if isinstance(owner, asyncio.Timeout):
        return owner.when() is not None
    return type(owner) is dict and "_timeout_handler" in owner and owner.get("_when") is not None
