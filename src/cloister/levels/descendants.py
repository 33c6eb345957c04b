"""Which processes descend from one, known so that a later process of the same number is not taken for one of them.

A pid alone names nobody for long. A descendant is its pid and the time when it was created, and is looked at again in
the moment in which it is killed. Where the system keeps no lists of children that can be read, every process of the
machine is looked at, 20 µs for each. Any thread may enter.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol

if sys.platform == "linux":
    from cloister.levels import descendants_linux

__all__ = ["GUEST_TELLS", "Descendant", "descendants", "looks_fast"]

GUEST_TELLS = sys.platform == "linux"
"""A guest says whether it has any, with a beat and when it is told to stop. To look for what most often is not there
costs 150 µs; and the kernel keeps names of what was looked up, which it has to forget before a process is gone: for up
to 4 ms at times."""


class Descendant(Protocol):
    """One process."""

    @property
    def pid(self) -> int:
        """Its number, which is its own for as long as it lives."""

    def kill(self) -> None:
        """Kill it, unless it is gone already. Never raises."""


def looks_fast() -> bool:
    """Whether the system keeps lists of children, so that a look does not take longer with every process there is."""
    return sys.platform == "linux" and descendants_linux.can_list()


def descendants(pid: int) -> list[Descendant]:
    """All living descendants of a process: children, their children, and so on. Empty where it is gone.

    Empty also where psutil is needed and not installed, in a domain that a bare guest has made: its group is killed all
    the same.
    """
    if sys.platform == "linux" and descendants_linux.can_list():
        return [*descendants_linux.descendants(pid)]
    return _looked_for(pid)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One process, as psutil has seen it."""

    pid: int
    created: float

    def kill(self) -> None:
        import psutil

        try:
            process = psutil.Process(self.pid)
            if process.create_time() == self.created:
                process.kill()
        except psutil.Error:
            pass


def _looked_for(pid: int) -> list[Descendant]:
    try:
        import psutil  # 20 ms, which only those pay who kill something
    except ImportError:
        return []

    try:
        return [_Seen(child.pid, child.create_time()) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []
