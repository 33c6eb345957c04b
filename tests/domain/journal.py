"""What happened to a domain, written down in order and waited for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, TypeVar

from cloister.domain import events
from tests.patience import wait_until

__all__ = ["MODULES", "Journal", "is_running", "wait_until"]

MODULES = str(Path(__file__).parent.parent / "modules")
"""Modules that guests import, and this process never."""

E = TypeVar("E", bound=events.Event)


class Journal:
    """Takes the events of one domain: ``Domain(on=journal.all)``."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self._changed = threading.Condition(threading.RLock())
        self.all: dict[type[events.Event], Any] = {events.Event: self.write}

    def write(self, event: events.Event) -> None:
        """Write an event down."""
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, kind: type[E]) -> list[E]:
        """The events of one type so far."""
        with self._changed:
            return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type[E], timeout: float = 30.0, count: int = 1) -> E:
        """Wait for the `count`-th event of a type and return it."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.of(kind)) >= count, timeout)
            assert done, f"no {kind.__name__} within {timeout} s; there was {self.events}"
        return self.of(kind)[count - 1]

    def kinds(self) -> list[str]:
        """The names of all events so far, output left out."""
        return [type(event).__name__ for event in self.events if not isinstance(event, events.Output)]

    def lines(self, stream: str = "stdout") -> list[str]:
        """The lines of one stream so far."""
        return [event.line for event in self.of(events.Output) if event.stream == stream]


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie; those of a parent that has ended wait for init, which may take long."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
