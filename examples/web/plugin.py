"""An object in a domain that is made anew after a crash, for servers: the part of app.py and api.py that isolates."""

from __future__ import annotations

import threading
from typing import Any

import cloister


class Plugin:
    """One object in a domain, made when it is first needed, and made anew after a crash. Any thread may call it."""

    def __init__(self, target: str, setup: cloister.Setup) -> None:
        self._target, self._setup = target, setup
        self._lock = threading.Lock()
        self._domain: cloister.Domain | None = None
        self._object: Any = None

    def call(self, method: str, *args: object) -> Any:
        """Call a method. Raises DomainCrashed for a call that ended its domain, CallTimeout after two seconds."""
        with self._lock:  # held while a domain is made, not while it works
            if self._domain is None or self._domain.report is not None:
                self._domain = cloister.Domain(self._target, setup=self._setup)
                self._object = self._domain.create(self._target)
            plugin = self._object
        with cloister.timeout(2):
            return getattr(plugin, method)(*args)

    def close(self) -> None:
        """End the domain, if there is one."""
        if self._domain is not None and self._domain.report is None:
            self._domain.unload()
