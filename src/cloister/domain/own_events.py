"""Events of the domain that the running code is in, for that code itself: `current_domain().on(Unloading, handler)`.

In a host these are the events of the default domain, which is never unloaded; in a guest those of its own. Each costs
nothing before somebody asks for it. Handlers run as those of other domains do: in order, on a thread of cloister's; at
interpreter exit, on the main thread. Any thread may enter.
"""

from __future__ import annotations

import atexit
import contextvars
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.domain import (
    crew,
    events,
    living,  # noqa: F401 - its exit hook stops the domains; ours is registered after it, and so runs before it
)
from cloister.domain.options import check_event, check_plain
from cloister.domain.subscriptions import Subscriptions
from cloister.errors import LevelUnavailable
from cloister.guest import loads, local, raised, unhandled

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.raised import Raised

__all__ = ["add", "handling", "remove"]

EXIT_S: Final = 5.0
"""How long handlers that still run at interpreter exit are waited for."""

_OF_THE_PROCESS: Final = (events.ProcessExit,)
"""What no domain has alone that shares its interpreter with others."""
_lock = threading.RLock()


class _Own:
    """Who in one domain wants to know what."""

    def __init__(self) -> None:
        self.subscriptions = Subscriptions(())
        self.watched: set[type[events.Event]] = set()


class _InPlace:
    """A handler of a domain that shares its interpreter; it runs in that domain."""

    def __init__(self, place: local.Place, handler: Callable[[Any], object]) -> None:
        self._place, self._handler = place, handler

    def __call__(self, event: events.Event) -> None:
        contextvars.Context().run(self._call, event)

    def _call(self, event: events.Event) -> None:
        local.bind(self._place)
        self._handler(event)

    def __eq__(self, other: object) -> bool:
        return self._handler == other

    __hash__ = None  # type: ignore[assignment]  # nobody looks it up


def _own() -> _Own:
    place = local.here()
    with _lock:
        if place.events is None:
            place.events = _Own()
        own: _Own = place.events
        return own


def add(kind: type[events.Event], handler: Callable[[Any], object]) -> None:
    """Call a handler for each event of this type from now on.

    Raises TypeError for what is no such type or can't be called, LevelUnavailable where this Python can't tell it.
    """
    check_event(kind, inside=True)
    watch = _WATCH.get(kind)
    if watch is None:
        names = ", ".join(sorted(known.__name__ for known in _WATCH))
        raise TypeError(f"a domain tells its own code of {names}; {kind.__name__} is told to its creator")
    if not callable(handler):
        raise TypeError(f"the handler of {kind.__name__} is to be called with the event; {handler!r} can't be called")
    check_plain(kind, handler)
    if local.shares() and kind in _OF_THE_PROCESS:
        raise LevelUnavailable(
            f"{kind.__name__} is told of a whole process, which a domain at the level 'thread' shares with its host;"
            " the end of the domain is told by Unloading"
        )
    own = _own()
    with _lock:
        if kind not in own.watched:
            watch(local.here(), own.subscriptions)
            own.watched.add(kind)
    own.subscriptions.add(kind, _InPlace(local.here(), handler) if local.shares() else handler)


def remove(kind: type[events.Event], handler: Callable[[Any], object]) -> bool:
    """Call a handler no more; False where it is not there."""
    return _own().subscriptions.remove(kind, handler)


def handling() -> bool:
    """Whether the calling thread runs one of these handlers."""
    return _own().subscriptions.queue.here


def _unloading(place: local.Place, told: Subscriptions) -> None:
    told.tell(events.Unloading(place.name, os.getpid()))
    told.queue.wait_empty(None)  # the host bounds it


def _exiting(place: local.Place, told: Subscriptions) -> None:
    told.tell(events.ProcessExit(place.name, os.getpid()))
    crew.run_all_here(EXIT_S)  # from 3.12 on no thread can be started any more
    told.queue.wait_empty(EXIT_S)


def _unhandled(place: local.Place, told: Subscriptions, where: str, error: BaseException) -> None:
    told.tell(events.UnhandledException(place.name, os.getpid(), where, error))


def _loaded(place: local.Place, told: Subscriptions, name: str, file: str) -> None:
    if told.wants(events.ModuleLoaded):
        told.tell(events.ModuleLoaded(place.name, os.getpid(), name, file))


def _raised(place: local.Place, told: Subscriptions, what: Raised) -> None:
    if told.wants(events.ExceptionRaised):
        told.tell(events.ExceptionRaised(place.name, os.getpid(), *what))


_WATCH: Final[dict[type[events.Event], Callable[[local.Place, Subscriptions], object]]] = {
    events.Unloading: lambda place, told: place.notices.add(partial(_unloading, place, told)),
    events.ProcessExit: lambda place, told: atexit.register(_exiting, place, told),
    events.UnhandledException: lambda place, told: unhandled.watch_unhandled(partial(_unhandled, place, told)),
    events.ModuleLoaded: lambda place, told: loads.watch_loads(partial(_loaded, place, told)),
    events.ExceptionRaised: lambda place, told: raised.watch_raised(partial(_raised, place, told)),
}
