"""Which processes descend from one, known so that a later process of the same number is not taken for one of them.

A pid alone names nobody for long. A descendant is its pid and the time when it was created, and is looked at again in
the moment in which it is killed. Any thread may enter.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Descendant", "descendants"]


@dataclass(frozen=True, slots=True)
class Descendant:
    """One process."""

    pid: int
    created: float
    """As the system tells it; in no unit that matters here."""

    def kill(self) -> None:
        """Kill it, unless it is gone already. Never raises."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            if process.create_time() == self.created:
                process.kill()
        except psutil.Error:
            pass


def descendants(pid: int) -> list[Descendant]:
    """All living descendants of a process: children, their children, and so on. Empty where it is gone.

    Empty also where psutil is not installed, in a domain that a bare guest has made: its group is killed all the same.
    """
    try:
        import psutil  # 20 ms, which only those pay who kill something
    except ImportError:
        return []

    try:
        return [Descendant(child.pid, child.create_time()) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []
