"""Whether threads of cloister's are daemons here, and what ends them where they are not.

A process that ends does not wait for daemons. An interpreter that shares its process with others allows none: it ends
when its last thread has. So there each service with a thread that waits for something to happen says how it is ended,
and a guest ends all of them before it leaves. Any thread may enter.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["allow_no_daemons", "before_end", "daemons", "end_services"]

_daemons = True
_ends: list[Callable[[], object]] = []


def daemons() -> bool:
    """Whether this interpreter allows daemon threads; one that shares its process with others does not."""
    return _daemons


def allow_no_daemons() -> None:
    """This interpreter allows none. Called once, before any thread is started."""
    global _daemons
    _daemons = False


def before_end(end: Callable[[], object]) -> None:
    """Call `end` before this interpreter ends, where it allows no daemons; the last one first."""
    _ends.append(end)


def end_services() -> None:
    """The interpreter ends: end what was named by `before_end`."""
    while _ends:
        _ends.pop()()
