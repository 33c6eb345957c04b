"""The coroutines that run for calls of loops, so that a circle of waits through them is found (`cloister.waits`).

A call of a loop is a strand. While the guest waits for a call-back of it, the strand goes on as the task that runs the
call-back, and waits for what that task awaits. All of it is looked up in the tasks themselves (`cloister.awaited`), so
a call costs nothing more. What a coroutine of the guest asks for counts as something that may come: over there it may
do more than to wait.

`callers` gives the tasks that wait for the calls of a circle: a time limit around one of them ends the circle too.

Any thread may look, and nothing here waits or changes anything. The loops go on meanwhile; `waits` looks twice.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from cloister import waits
from cloister.aio.limited import Errand
from cloister.awaited import Awaited, awaits
from cloister.lanes.loop_shared import LoopCall

if TYPE_CHECKING:
    from cloister.aio.peer import LoopPeer

__all__ = ["asleep", "callers", "watch"]

_peers: dict[int, weakref.ref[LoopPeer]] = {}

Task = asyncio.Task[Any]


def watch(peer: LoopPeer) -> None:
    """From now on look at the calls of this peer, as long as it lives."""
    key = id(peer)
    _peers[key] = weakref.ref(peer, lambda _: _peers.pop(key, None))
    waits.coroutines(asleep, callers)


def asleep(strand: Hashable) -> waits.Asleep | None:
    """What the tasks await that run for a strand; None where there are none, or they wait for what it does itself."""
    tasks = _tasks_of(strand) if isinstance(strand, int) else []
    if not (isinstance(strand, int) and tasks):
        return None
    seen = Awaited(strand, partial(_strand_of, strand))
    if not seen.follow(tasks) or (seen.places and seen.strands) or seen.places > 1:
        return waits.Asleep()
    return None if seen.places else seen.resource("its call-back awaits")


def _peers_now() -> list[LoopPeer]:
    return [peer for each in list(_peers.values()) if (peer := each()) is not None]


def _tasks_of(strand: int) -> list[Any]:
    """The tasks that run for a strand while the guest waits for them; empty where it is not known that it does."""
    return next((tasks for peer in _peers_now() if (tasks := peer.waits_for(strand))), [])


def _strand_of(own: int, future: Any) -> int:
    """The strand whose answer a future is; 0 where it is none. `own` goes on in a call that has no strand."""
    if isinstance(future, LoopCall):
        return future.strand or own
    return next((strand for peer in _peers_now() if (strand := peer.strand_of(future))), 0)


def callers(strands: Iterable[Hashable]) -> list[Any]:
    """The calls of these strands, and the tasks that wait for them, or for one another.

    Raises RuntimeError where a loop makes tasks so fast that they can't be listed.
    """
    waiting: dict[Any, list[Task]] = {}
    calls: list[Any] = []
    known = [strand for strand in strands if isinstance(strand, int)]
    for peer in _peers_now():
        calls += [call for strand in known if (call := _future_of(peer.caller(strand))) is not None]
        for loop in peer.loops():
            for task in asyncio.all_tasks(loop):
                for each in awaits(task):
                    waiting.setdefault(each, []).append(task)
    tasks: set[Task] = set()
    ahead = list(calls)
    while ahead:
        for task in waiting.get(ahead.pop(), ()):
            if task not in tasks:
                tasks.add(task)
                ahead.append(task)
    return [*calls, *tasks]


def _future_of(caller: LoopCall | Errand | None) -> Any:
    return caller.call if isinstance(caller, Errand) else caller
