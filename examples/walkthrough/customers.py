"""Customers of three kinds: copied, by reference, and neither."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import cloister


def place() -> str:
    """Where this runs: the domain and the context."""
    return f"{cloister.current_domain().name}, context {cloister.current_context().id}"


@cloister.by_value
@dataclass
class Customers:
    """A copy travels."""

    names: list[str] = field(default_factory=lambda: ["Ada", "Charles"])
    made_in: str = field(default_factory=place)

    def list(self) -> str:
        return f"{', '.join(self.names)}; made in {self.made_in}; listed in {place()}"


@cloister.by_reference
class Register(Customers):
    """A proxy travels."""


class Locked:
    """Neither: a lock has no copy."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
