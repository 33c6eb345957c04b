"""What has to come before a future or a thread can go on: read from the objects of Python's own libraries.

Nobody is told when a task begins to await, or a thread to join another one. So the circles of waits (`cloister.waits`)
are followed through these by looking, and only where somebody has waited for long already. A future is looked at in the
frame in which it is awaited, or by what it does when it is done:

=================================================  ==============================================
a task of asyncio                                  what it awaits
`gather`, `shield`, `asyncio.wait`                 the futures that it was given
`TaskGroup`, of asyncio and of anyio               its tasks
`to_thread` of both, `run_in_executor`             what the thread of the executor runs
`wrap_future`, `run_coroutine_threadsafe`          the other future
`Lock` and `CapacityLimiter` of anyio              the tasks that have it
`Future.result`, `Thread.join`, without time-out   the future; the thread
the future of a call, or of a task of a pool       its strand
=================================================  ==============================================

Of everything else - a lock, an event, a queue, a sleep - nobody knows who brings it, so it may come at any time. The
names of private parts are those of Python 3.11 to 3.14 and of anyio 4; where one is not there, nothing is known. What
is read may change meanwhile. But each future is done once; so one that was seen twice was awaited all the time between.

Nothing here waits, or changes anything. Any thread may look. asyncio is not imported where nobody else has done so.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from types import FrameType
from typing import Any, Final

from cloister import calling
from cloister.waiting import Asleep

__all__ = ["Awaited", "awaits", "thread_asleep"]

MAX_AWAITED: Final = 1000
"""How many tasks and futures are looked at for one strand. Where there are more, it counts as one that goes on."""

_ANYIO: Final = "anyio._backends._asyncio"


class _Known:
    """Something that is awaited, and of which it is known what has to come before it: `behind`, or `strand`."""

    __slots__ = ("behind", "future", "name", "strand", "thread")

    def __init__(
        self, future: Any, behind: list[Any] | None = None, strand: int = 0, name: str = "", thread: int = 0
    ) -> None:
        self.future = future
        """What tells that it is over: a future, or a thread."""
        self.behind = behind or []
        self.strand = strand
        self.name = name
        """Of the call that it is; empty where it is none."""
        self.thread = thread
        """The ident of the thread that runs for it."""


class Awaited:
    """What some tasks and futures wait for, down to the strands."""

    def __init__(self, own: object = 0, strand_of: Callable[[Any], int] = lambda future: 0) -> None:
        """`own` is the strand for which they run. `strand_of` knows the futures that are the answer of a strand; of
        this one too, for a call within its call-back."""
        self._own, self._strand_of = own, strand_of
        self.futures: set[Any] = set()
        """All that was looked at; each is done once."""
        self.strands: set[int] = set()
        self.places = 0
        """In how many places their own strand goes on, in a thread or over there: the graph knows what it waits for."""
        self._names: list[str] = []

    def follow(self, ahead: list[Any]) -> bool:
        """Look at what they wait for; False where any of it may come."""
        while ahead:
            each = ahead.pop()
            key = each.future if isinstance(each, _Known) else each
            if key in self.futures and not isinstance(each, _Known):
                continue
            if _is_over(key) or len(self.futures) >= MAX_AWAITED:
                return False
            self.futures.add(key)
            more = self._behind(each)
            if more is None:
                return False
            ahead += more
        return bool(self.strands or self.places)

    def resource(self, who: str) -> Asleep:
        """It as something that `who` waits for, of which it is said in an error."""
        names = " and ".join(dict.fromkeys(f"the answer of {name}()" if name else "a thread" for name in self._names))
        return Asleep(f"{names}, which {who}", self.strands, self.futures)

    def _behind(self, each: Any) -> list[Any] | None:
        if isinstance(each, _Known):
            if not each.strand:
                return each.behind
            if each.strand != self._own:
                return self._found(each.strand, each.name)
            waits = _of_thread(each.thread)
            self.places += waits is None
            return waits or []
        strand = self._strand_of(each)
        if not strand:
            return _behind(each)
        if strand != self._own:
            return self._found(strand, getattr(each, "name", "") or "a call")
        served = list(getattr(each, "served", None) or ())
        self.places += not served
        return served

    def _found(self, strand: int, name: str) -> list[Any]:
        self.strands.add(strand)
        self._names.append(name)
        return []


def awaits(task: Any) -> list[Any]:
    """The tasks and futures for which a task waits, by way of no other task."""
    found: list[Any] = []
    ahead = _behind(task) or []
    while ahead and len(found) < MAX_AWAITED:
        each = ahead.pop()
        known = isinstance(each, _Known)
        key = each.future if known else each
        if not known and key in found:
            continue
        found.append(key)
        if known:
            ahead += each.behind
        elif not (hasattr(key, "get_coro") or isinstance(key, Future)):
            ahead += _behind(key) or []
    return found


def thread_asleep(strand: object) -> Asleep | None:
    """What the thread waits for whose own strand this is; None where it is none, or that is not known."""
    thread = calling.thread_of(strand) if isinstance(strand, int) else 0
    waits = _of_thread(thread)
    seen = Awaited(strand)
    if not waits or not seen.follow(waits) or seen.places:
        return None
    return seen.resource("it waits for")


def _is_over(each: Any) -> bool:
    over: bool = not each.is_alive() if isinstance(each, threading.Thread) else each.done()
    return over


def _behind(future: Any) -> list[Any] | None:
    """What has to come before a future can, one of it or all; None where that is not known."""
    try:
        if isinstance(future, Future):
            return _of_concurrent(future)
        if hasattr(future, "get_coro"):
            return _of_task(future)
        return _of_future(future)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return None  # it has moved meanwhile, or is of another make


# -- futures of asyncio ------------------------------------------------------------------------------------------------


def _of_task(task: Any) -> list[Any] | None:
    awaited = task._fut_waiter
    if awaited is None:
        return None
    for frame in list(_frames(task.get_coro()))[:-3:-1]:
        reader = _READERS.get((frame.f_globals.get("__name__"), frame.f_code.co_qualname))
        if reader is not None:
            more = reader(frame.f_locals)
            return None if more is None else [_Known(awaited, more)]
    return [awaited]


def _frames(coroutine: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that is suspended, from without."""
    while coroutine is not None:
        for kind, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                coroutine = getattr(coroutine, inner, None)
                break
        else:
            return


def _of_future(future: Any) -> list[Any] | None:
    children = getattr(future, "_children", None)  # of `gather`, which may also be done with the first
    if children is not None:
        return [child for child in list(children) if not child.done()] or None
    return _chained([each[0] for each in list(getattr(future, "_callbacks", None) or ())])


def _chained(callbacks: list[Any]) -> list[Any] | None:
    """The future of which another one takes its result, by what that does when it is done itself."""
    for callback in callbacks:
        name = getattr(callback, "__qualname__", "")
        inner = _CHAINED.get((getattr(callback, "__module__", ""), name))
        if inner is not None:
            return [dict(zip(callback.__code__.co_freevars, callback.__closure__, strict=True))[inner].cell_contents]
    return None


_CHAINED: Final = {
    ("asyncio.tasks", "shield.<locals>._outer_done_callback"): "inner",
    ("asyncio.futures", "_chain_future.<locals>._call_check_cancel"): "source",
}


def _of_group(known: Mapping[str, Any]) -> list[Any] | None:
    return [task for task in list(known["self"]._tasks) if not task.done()] or None


def _of_wait(known: Mapping[str, Any]) -> list[Any] | None:
    if known["timeout"] is not None:
        return None
    awaited = list(known["fs"])
    if known["return_when"] == "FIRST_COMPLETED" and any(each.done() for each in awaited):
        return None
    return [each for each in awaited if not each.done()] or None


def _of_lock(known: Mapping[str, Any]) -> list[Any] | None:
    owner = known["self"]._owner_task
    return None if owner is None else [owner]


def _of_limiter(known: Mapping[str, Any]) -> list[Any] | None:
    limiter = known["self"]
    borrowers = list(limiter._borrowers)
    full = borrowers and len(borrowers) >= limiter._total_tokens
    return borrowers if full and all(hasattr(each, "get_coro") for each in borrowers) else None


def _of_worker(known: Mapping[str, Any]) -> list[Any] | None:
    return _runs(known["future"], known["worker"].ident, known["context"])


_READERS: Final[dict[tuple[Any, str], Callable[[Mapping[str, Any]], list[Any] | None]]] = {
    ("asyncio.taskgroups", "TaskGroup.__aexit__"): _of_group,
    ("asyncio.taskgroups", "TaskGroup._aexit"): _of_group,
    ("asyncio.tasks", "_wait"): _of_wait,
    (_ANYIO, "TaskGroup.__aexit__"): _of_group,
    (_ANYIO, "Lock.acquire"): _of_lock,
    (_ANYIO, "CapacityLimiter.acquire_on_behalf_of"): _of_limiter,
    (_ANYIO, "AsyncIOBackend.run_sync_in_worker_thread"): _of_worker,
}
"""By module and name of the function that awaits: from its variables, what has to come before that."""


# -- futures of threads, and threads -----------------------------------------------------------------------------------


def _of_concurrent(future: Future[Any]) -> list[Any] | None:
    """What brings a future of `concurrent.futures`: strands, another future, or a function that a thread runs."""
    strands: Any = getattr(future, "strands", None)
    if strands is not None:
        return [_Known(future, strand=strand, name="a task of a pool") for strand in strands()] or None
    strand = getattr(future, "strand", 0)
    if strand:
        return [_Known(future, strand=strand, name=getattr(future, "name", ""))]
    source = _chained(list(future._done_callbacks))  # type: ignore[attr-defined]  # there is no public name for it
    if source is not None:
        return source
    for thread, frame in sys._current_frames().items():
        item = _item_of(frame)
        if item is not None and item.future is future:
            return _runs(future, thread, _context_of(item))
    return None


def _runs(future: Any, thread: int, context: contextvars.Context | None) -> list[Any] | None:
    strand = calling.strand_there(thread, context)
    return [_Known(future, strand=strand, thread=thread)] if strand else _of_thread(thread)


def _item_of(frame: FrameType | None) -> Any:
    """What a thread of a `ThreadPoolExecutor` does at this moment; None for any other thread."""
    while frame is not None:
        if frame.f_code.co_qualname == "_WorkItem.run" and frame.f_globals["__name__"] == "concurrent.futures.thread":
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def _context_of(item: Any) -> contextvars.Context | None:
    """The context in which `asyncio.to_thread` lets a function run; None where it runs in that of the thread."""
    function = item.fn if hasattr(item, "fn") else item.task[0]
    owner = getattr(getattr(function, "func", None), "__self__", None)
    return owner if isinstance(owner, contextvars.Context) else None


def _of_thread(thread: int) -> list[Any] | None:
    """What a thread waits for, in a function of the standard library and without a time-out; None for all else."""
    frame = sys._current_frames().get(thread)
    for _ in range(3):
        if frame is None:
            return None
        name = frame.f_globals.get("__name__"), frame.f_code.co_qualname
        if name in _WAITS:
            awaited = frame.f_locals.get("self")
            if frame.f_locals.get("timeout") is not None or awaited is None:
                return None
            if not isinstance(awaited, threading.Thread):
                return [awaited]
            return _runs(awaited, awaited.ident, None) if awaited.ident else None
        frame = frame.f_back
    return None


_WAITS: Final = frozenset(
    {
        ("concurrent.futures._base", "Future.result"),
        ("concurrent.futures._base", "Future.exception"),
        ("threading", "Thread.join"),
    }
)
