"""Events of the domain that the running code is in, for that code itself: `current_domain().on(Unloading, handler)`.

In a host these are the events of the default domain, which is never unloaded; in a guest those of its own. Each costs
nothing before somebody asks for it. Handlers run as those of other domains do: in order, on a thread of cloister's; at
interpreter exit, on the main thread. Any thread may enter.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from cloister.domain import (
    crew,
    events,
    living,  # noqa: F401 - its exit hook stops the domains; ours is registered after it, and so runs before it
)
from cloister.domain.options import check_event
from cloister.domain.subscriptions import Subscriptions
from cloister.guest import loads, local, raised, unhandled
from cloister.guest.notices import notices

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.raised import Raised

__all__ = ["add", "handling", "remove"]

EXIT_S: Final = 5.0
"""How long handlers that still run at interpreter exit are waited for."""

_subscriptions = Subscriptions(())
_watched: set[type[events.Event]] = set()
_lock = threading.RLock()


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
    with _lock:
        if kind not in _watched:
            watch()
            _watched.add(kind)
    _subscriptions.add(kind, handler)


def remove(kind: type[events.Event], handler: Callable[[Any], object]) -> bool:
    """Call a handler no more; False where it is not there."""
    return _subscriptions.remove(kind, handler)


def handling() -> bool:
    """Whether the calling thread runs one of these handlers."""
    return _subscriptions.queue.here


def _unloading() -> None:
    _subscriptions.tell(events.Unloading(local.name, os.getpid()))
    _subscriptions.queue.wait_empty(None)  # the host bounds it


def _exiting() -> None:
    _subscriptions.tell(events.ProcessExit(local.name, os.getpid()))
    crew.run_all_here(EXIT_S)  # from 3.12 on no thread can be started any more
    _subscriptions.queue.wait_empty(EXIT_S)


def _unhandled(where: str, error: BaseException) -> None:
    _subscriptions.tell(events.UnhandledException(local.name, os.getpid(), where, error))


def _loaded(name: str, file: str) -> None:
    if _subscriptions.wants(events.ModuleLoaded):
        _subscriptions.tell(events.ModuleLoaded(local.name, os.getpid(), name, file))


def _raised(what: Raised) -> None:
    if _subscriptions.wants(events.ExceptionRaised):
        _subscriptions.tell(events.ExceptionRaised(local.name, os.getpid(), *what))


_WATCH: Final[dict[type[events.Event], Callable[[], object]]] = {
    events.Unloading: lambda: notices.add(_unloading),
    events.ProcessExit: lambda: atexit.register(_exiting),
    events.UnhandledException: lambda: unhandled.watch_unhandled(_unhandled),
    events.ModuleLoaded: lambda: loads.watch_loads(_loaded),
    events.ExceptionRaised: lambda: raised.watch_raised(_raised),
}
