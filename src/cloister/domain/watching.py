"""What a guest is to watch for its host: lookups that fail, modules that are loaded, exceptions that are raised.

Each costs the guest something, so it watches only what somebody here wants to know. What is wanted before the set-up is
sent goes along with it; what is wanted later is asked for with a call. Any thread may enter.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cloister.domain import events
from cloister.domain.crew import Crew
from cloister.errors import LevelUnavailable

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["FIRST_WITH_MONITORING", "Watching", "run_aside"]

FIRST_WITH_MONITORING: Final = (3, 12)
"""The first Python that can tell of each exception without tracing every line."""

_WATCHED: Final[dict[type[events.Event], str]] = {
    events.ModuleLoaded: "modules",
    events.ResolveFailed: "lookups",
    events.ExceptionRaised: "raised",
}
_crew = Crew(4, "cloister-watch")

run_aside = _crew.run
"""Runs what asks a guest, where the calling thread must not wait."""


class Watching:
    """What one guest is to watch."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._lock = threading.RLock()  # a finalizer may make a domain, or ask, while it is held
        self._sent = False
        self._wanted: set[str] = set()
        for kind, _ in life.options.handlers:
            self.want_event(kind)

    @property
    def anything(self) -> bool:
        """Whether there is something to watch."""
        return bool(self._wanted)

    def want_event(self, kind: type[events.Event]) -> None:
        """Watch what events of this very type tell; as `want`. Most types need nothing."""
        what = _WATCHED.get(kind)
        if what is not None:
            self.want(what)

    def want(self, what: str) -> None:
        """Watch it; from the return on it is, unless the domain is called from event loops.

        Waits until the domain is ready where it is past the first words of its start. Raises as a call does, and
        LevelUnavailable where the guest's Python can't.
        """
        with self._lock:
            late = self._sent and what not in self._wanted
            if late:
                self._check(what)
            self._wanted.add(what)
        if late:
            self._life.peer.watch(what)

    def for_setup(self) -> list[str]:
        """What the guest is to watch from its beginning; asked for once, when its Python is known."""
        with self._lock:
            self._sent = True
            for what in self._wanted:
                self._check(what)
            return sorted(self._wanted)

    def _check(self, what: str) -> None:
        version = self._life.peer.version
        if what == "raised" and version < FIRST_WITH_MONITORING:
            raise LevelUnavailable(
                f"domain {self._life.name!r}: ExceptionRaised needs Python 3.12 or later in the domain, which has"
                f" {version[0]}.{version[1]}; UnhandledException is told by every Python"
            )
