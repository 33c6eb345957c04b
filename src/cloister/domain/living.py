"""The lives of this interpreter that have not ended, and what becomes of them when it ends or the process forks.

Each belongs to the domain whose code has made it. Where several domains share this interpreter, one that ends takes
along what it has made, as the end of a process does. At interpreter exit all of them are asked to stop at the same
time, and waited for; each of their steps is bounded, so the exit is. In a forked child they belong to its parent: what
was inherited is closed, and nothing is ever sent to them.

Any thread may enter.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from cloister import daemons
from cloister.domain import crew
from cloister.guest import local
from cloister.levels import interpreter, lifeline, template

if TYPE_CHECKING:
    from cloister.domain.life import Life
    from cloister.guest.local import Place

__all__ = ["add", "all_of_them", "made_here", "remove", "stop_all"]

KILLED_S = 2.0
"""How long killed processes may take to be gone before the exit goes on without them; the lifeline ends them then."""
FLUSH_S = 1.0
"""How long the last output and events of all domains may take at interpreter exit."""

_lock = threading.RLock()  # a finalizer may make or unload a domain while it is held
_living: dict[Life, Place | None] = {}
"""With the domain that has made it, where that shares this interpreter."""


def add(life: Life) -> None:
    """Take in a life that has begun; called where its maker's code runs."""
    maker = local.shared()
    with _lock:
        _living[life] = maker
        if maker is not None and not any(each is maker for known, each in _living.items() if known is not life):
            maker.ends.append(partial(_stop_those_of, maker))


def remove(life: Life) -> None:
    """Leave out a life that has ended."""
    with _lock:
        _living.pop(life, None)


def all_of_them() -> list[Life]:
    """The lives that have not ended."""
    with _lock:
        return list(_living)


def made_here() -> list[Life]:
    """Those that were made by the domain that the running code is in."""
    maker = local.shared()
    with _lock:
        return [life for life, its in _living.items() if its is maker]


def stop_all() -> None:
    """Stop all domains and wait until they have ended; run at interpreter exit. Bounded, and raises nothing."""
    lives = all_of_them()
    _stop(lives)
    # From 3.12 on no thread can be started any more: what was left to one that is not there is done here.
    end = time.monotonic() + FLUSH_S
    crew.run_all_here(FLUSH_S)
    for life in lives:
        life.queue.wait_empty(max(0.0, end - time.monotonic()))
    template.close_all()
    if not daemons.daemons():  # this interpreter ends, and the process goes on
        lifeline.close()
    elif stuck := [life.name for life in lives if life.options.level == "interpreter" and not life.process.has_ended()]:
        interpreter.bound_exit(stuck)


def _stop_those_of(maker: Place) -> None:
    with _lock:
        lives = [life for life, its in _living.items() if its is maker]
    _stop(lives)


def _stop(lives: list[Life]) -> None:
    patience = 0.0
    for life in lives:
        with life.using() as there:  # one that was dropped may be gone by now
            if there:
                patience = max(patience, life.patience)
        with suppress(Exception):  # it was killed then
            life.stop()
    crew.run_all_here(FLUSH_S)  # handlers of `Unloading`, where no thread can be started for them any more
    end = time.monotonic() + patience + KILLED_S
    for life in lives:
        life.wait_ended(max(0.0, end - time.monotonic()))


def _disown_all() -> None:
    global _lock
    _lock = threading.RLock()
    crew.begin_anew()
    lives = list(_living)
    _living.clear()
    for life in lives:
        life.disown()


atexit.register(stop_all)
daemons.before_end(stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
