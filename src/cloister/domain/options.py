"""All that a domain is created with, in one value; `Domain` documents each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cloister.domain.events import Event
from cloister.domain.setup import LONGEST_S, Setup, Watchdog

__all__ = ["Options"]

Handlers = tuple[tuple[type[Event], Callable[[Any], object]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one domain, checked."""

    setup: Setup = field(default_factory=Setup)
    watchdog: Watchdog = field(default_factory=Watchdog)
    max_concurrency: int | None = None
    start_timeout: float = 60.0
    stop_timeout: float = 5.0
    echo: bool = True
    handlers: Handlers = ()
    max_guest_lanes: int = 256
    """Threads of the guest's own that may call the host; each needs two descriptors here."""

    def __post_init__(self) -> None:
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise ValueError(
                f"max_concurrency is a number from 1 up, or None for no limit, not {self.max_concurrency!r}"
            )
        for name in ("start_timeout", "stop_timeout"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is a number of seconds from 0 up, not {getattr(self, name)!r}")
        if self.stop_timeout > LONGEST_S:
            raise ValueError(
                f"stop_timeout is at most {LONGEST_S:,} s, not {self.stop_timeout!r}: every stop is bounded"
            )
