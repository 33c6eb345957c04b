"""The threads that code of a domain starts where several domains share one interpreter: each belongs to its domain.

A new thread begins without the context of the one that starts it, so nothing would tell whose it is. While there is a
domain at the level ``thread``, `threading.Thread.start` is ours: a thread that is started by code of such a domain is
bound to it, and what ends the thread is told to that domain before it goes the way of any other, to
`threading.excepthook`. Threads that the host starts, and those of cloister itself, are left as they are. Any thread may
enter.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from cloister.guest import local
from cloister.guest.interrupts import Interrupted, StopRequested

if TYPE_CHECKING:
    from cloister.guest.local import Place

__all__ = ["follow", "is_followed", "leave"]

OURS: Final = "cloister-"
"""How the names of cloister's own threads begin; those know themselves where they belong."""

_lock = threading.Lock()
_followers = 0
_start: Any = None
_followed: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def follow() -> None:
    """There is one more domain that shares this interpreter."""
    global _followers, _start
    with _lock:
        _followers += 1
        if _start is None or threading.Thread.start is _start:  # else ours is in place, or what wraps it
            _start = threading.Thread.start
            threading.Thread.start = _start_followed  # type: ignore[method-assign]  # see above


def leave() -> None:
    """There is one less. With the last one `threading.Thread` is as it was, unless somebody else has changed it too."""
    global _followers, _start
    with _lock:
        _followers -= 1
        if not _followers and threading.Thread.start is _start_followed:
            threading.Thread.start = _start  # type: ignore[method-assign]  # see above
            _start = None


def is_followed(thread: threading.Thread | None) -> bool:
    """Whether a thread belongs to such a domain, which is told of its exceptions."""
    return thread in _followed


def _start_followed(self: threading.Thread) -> None:
    place = local.shared()
    if place is None or self.name.startswith(OURS):
        _start(self)
        return
    known, before = self in _followed, self.__dict__.get("run")
    _followed.add(self)
    _bind(self, place)
    try:
        _start(self)
    except Exception:  # it has not begun, and may be started again
        if before is None:
            self.__dict__.pop("run", None)
        else:
            self.run = before  # type: ignore[method-assign]  # as it was
        if not known:
            _followed.discard(self)
        raise


def _bind(thread: threading.Thread, place: Place) -> None:
    run = thread.run

    def run_there() -> None:
        thread.__dict__.pop("run", None)  # the instance's own, which holds the thread
        local.bind(place)
        try:
            run()
        except (SystemExit, StopRequested, Interrupted):
            raise
        except BaseException as error:
            place.tell_unhandled(f"thread {thread.name}", error)
            raise

    thread.run = run_there  # type: ignore[method-assign]  # of this one thread
