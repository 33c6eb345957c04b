"""Leases: objects that are let go some time after they were last used, though the other side still holds them.

An object that is handed out lives as long as it is held over there; that is right for almost everything. A lease is
for those who want an end all the same: of what a client forgets to drop, of what is costly to keep. It is given to a
class or to one object, by `lease`, on the side where the object is. When it runs out, its sponsor is asked, if it has
one; if that renews nothing, the object is let go here, and its proxies over there raise `MarshalError`.

One thread of cloister's looks after all leases of an interpreter; it is there only while there are any. Sponsors are
the user's code and run on a thread each. Any thread may enter; what the garbage collector may call only enqueues.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from cloister.daemons import daemons
from cloister.errors import MarshalError
from cloister.objects.marks import Shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.objects.exports import Exports

__all__ = ["Grant", "Lease", "grant_for", "lease"]

T = TypeVar("T")

SPONSOR_S: Final = 10.0
"""How long a sponsor may take to answer; after that the lease has run out."""
LONGEST_WAIT_S: Final = 3600.0
"""How long the clock sleeps; the system's own limit is in the way of a lease of a hundred years."""
AGAIN_S: Final = 0.1
"""How soon it is tried again to ask a sponsor where the system had no thread left."""
_MARK: Final = "__cloister_lease__"

_log = logging.getLogger("cloister")


class Lease:
    """The terms of a lease; made by `lease`. Call it with a class, as a decorator, or with an object to hand over."""

    def __init__(self, seconds: float, renew_on_call: float, sponsor: Callable[[Any], float | None] | None) -> None:
        self.seconds: float = seconds
        self.renew_on_call: float = renew_on_call
        self.sponsor: Callable[[Any], float | None] | None = sponsor

    def __call__(self, what: T) -> T:
        """Give these terms to all objects of a class, or to one object, which is handed over as by `share`."""
        if isinstance(what, type):
            try:
                setattr(what, _MARK, self)
            except TypeError:
                raise TypeError(f"{what!r} takes no attributes; give the lease to its objects, one by one") from None
            return cast("T", what)
        return Shared(what, self)  # type: ignore[return-value]  # it becomes a proxy of the value on the other side

    def __repr__(self) -> str:
        return f"lease({self.seconds:g}, renew_on_call={self.renew_on_call:g})"


def lease(
    seconds: float, *, renew_on_call: float | None = None, sponsor: Callable[[Any], float | None] | None = None
) -> Lease:
    """Terms under which an object is let go, though the other side still holds it.

    It is kept for `seconds` from when it is handed out, and for at least `renew_on_call` seconds (None: as many as
    `seconds`, 0: not at all) from each call. When that is over, `sponsor` is called with the object, on a thread of
    cloister's, and answers for how many more seconds it is kept; None, 0, an exception, an answer that is no number of
    seconds, or none within 10 s end it. Then every use over there raises MarshalError.

    ``@cloister.lease(60)`` above a class is for all its objects; ``cloister.lease(60)(value)`` hands one over, as
    `share` does. Without any of this there are no leases. Raises ValueError for what is no number of seconds, and
    TypeError for a sponsor that can't be called.
    """
    for name, number in (("seconds", seconds), ("renew_on_call", renew_on_call)):
        if number is None and name == "renew_on_call":
            continue
        if type(number) not in (int, float) or not 0 <= float(number or 0) < math.inf:
            raise ValueError(f"{name} of a lease is a number of seconds, not {number!r}")
    if sponsor is not None and not callable(sponsor):
        raise TypeError(f"a sponsor is a function that takes the object and returns seconds, not {sponsor!r}")
    return Lease(float(seconds), float(seconds if renew_on_call is None else renew_on_call), sponsor)


class Grant:
    """The lease of one object that was handed out. Its entry holds it, and nobody else does."""

    __slots__ = ("__weakref__", "asking", "due", "exports", "number", "terms")

    def __init__(self, terms: Lease, exports: Exports, number: int) -> None:
        self.terms, self.exports, self.number = terms, weakref.ref(exports), number
        self.due = time.monotonic() + terms.seconds
        self.asking = False

    def touch(self) -> None:
        """The object is called."""
        self.keep(self.terms.renew_on_call)

    def keep(self, seconds: float) -> None:
        """Keep it for at least so long from now."""
        self.due = max(self.due, time.monotonic() + seconds)


def grant_for(value: Any, terms: Lease | None, exports: Exports, number: int) -> Grant | None:
    """The lease of an object that is handed out for the first time; None where it has none."""
    if terms is None:
        terms = getattr(type(value), _MARK, None)
        if type(terms) is not Lease:
            return None
    grant = Grant(terms, exports, number)
    _clock.begin(grant)
    return grant


class _Clock:
    """Looks after the leases."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all, as a forked child must."""
        self._lock = threading.RLock()
        self._news: queue.SimpleQueue[weakref.ref[Grant] | None] = queue.SimpleQueue()
        self._runs = False

    def begin(self, grant: Grant) -> None:
        news = self._news
        self._put(weakref.ref(grant, lambda _: news.put(None)))

    def _put(self, grant: weakref.ref[Grant]) -> None:
        with self._lock:
            self._news.put(grant)
            if not self._runs:
                self._runs = True
                try:
                    threading.Thread(target=self._run, name="cloister-leases", daemon=daemons()).start()
                except RuntimeError:  # the interpreter ends
                    self._runs = False

    def _run(self) -> None:
        order = itertools.count()
        heap: list[tuple[float, int, weakref.ref[Grant]]] = []
        while True:
            new = self._next(heap)
            if new is None:
                heap = [entry for entry in heap if entry[2]() is not None]
                heapq.heapify(heap)
            elif (grant := new()) is not None:
                heapq.heappush(heap, (grant.due, next(order), new))
            grant = None
            now = time.monotonic()
            while heap and heap[0][0] <= now:
                _, _, reference = heapq.heappop(heap)
                again = self._look(reference, now)
                if again is not None:
                    heapq.heappush(heap, (again, next(order), reference))
            with self._lock:
                if not heap and self._news.empty():
                    self._runs = False
                    return

    def _next(self, heap: list[tuple[float, int, weakref.ref[Grant]]]) -> weakref.ref[Grant] | None:
        wait = min(max(0.0, heap[0][0] - time.monotonic()), LONGEST_WAIT_S) if heap else None
        try:
            return self._news.get(timeout=wait)
        except queue.Empty:
            return None

    def _look(self, reference: weakref.ref[Grant], now: float) -> float | None:
        """A lease may have run out; return when to look again, or None."""
        grant = reference()
        if grant is None:
            return None
        if grant.due > now:
            grant.asking = False
            return grant.due
        exports = grant.exports()
        if exports is None:
            return None
        sponsor = grant.terms.sponsor
        if sponsor is None or grant.asking:
            exports.expire(grant.number)
            return None
        grant.asking = True
        try:
            threading.Thread(
                target=self._ask, args=(reference, sponsor), name="cloister-sponsor", daemon=daemons()
            ).start()
        except RuntimeError:  # there is no thread left, or the interpreter ends
            grant.asking = False
            return now + AGAIN_S
        return now + SPONSOR_S

    def _ask(self, reference: weakref.ref[Grant], sponsor: Callable[[Any], float | None]) -> None:
        grant = reference()
        exports = None if grant is None else grant.exports()
        if grant is None or exports is None:
            return
        try:
            value = exports.find(grant.number).value
        except MarshalError:
            return  # it was dropped meanwhile
        try:
            seconds = _checked(sponsor(value))
        except BaseException:  # `sys.exit()` too: it is no answer
            _log.exception("the sponsor of a lease raised; object #%d is let go", grant.number)
            seconds = 0.0
        del value
        if seconds:
            grant.keep(seconds)
            grant.asking = False
            self._put(reference)
        elif grant.due <= time.monotonic():  # no call has renewed it meanwhile
            exports.expire(grant.number)


def _checked(answer: Any) -> float:
    """The seconds that a sponsor answers. Raises TypeError and ValueError for what is none."""
    if answer is None:
        return 0.0
    if not isinstance(answer, int | float) or isinstance(answer, bool):
        raise TypeError(f"a sponsor answers with seconds, or with None, not {answer!r}")
    if not 0 <= answer < math.inf:
        raise ValueError(f"a sponsor answers with seconds from 0 up, or with None, not {answer!r}")
    return float(answer)


_clock = _Clock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clock.begin_anew)
