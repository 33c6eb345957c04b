"""Where a domain is in its life. Which state follows which is in `life`."""

from __future__ import annotations

from enum import Enum

__all__ = ["State"]


class State(Enum):
    """The state of a domain; see the picture in `cloister.domain.life`."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    ENDED = "ended"
