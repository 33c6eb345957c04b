"""An object with a signal; imported by guests only."""

from __future__ import annotations

import threading
import weakref

import cloister

_leased: weakref.WeakSet[Thermometer] = weakref.WeakSet()


def leased(seconds: float) -> object:
    """A thermometer that is let go after some seconds, though it is held."""
    made = Thermometer()
    _leased.add(made)
    return cloister.lease(seconds, renew_on_call=0)(made)


def living() -> int:
    """How many of those there are."""
    return len(_leased)


class Thermometer:
    """Emits its temperature."""

    def __init__(self) -> None:
        self.changed = cloister.Signal()
        self.heard: list[float] = []

    def measure(self, degrees: float) -> int:
        """On the thread of the call."""
        return self.changed.emit(degrees)

    def measure_in_thread(self, degrees: float) -> int:
        """On a thread of the guest's own."""
        told: list[int] = []
        thread = threading.Thread(target=lambda: told.append(self.changed.emit(degrees)))
        thread.start()
        thread.join()
        return told[0]

    async def measure_in_a_task(self, degrees: float) -> int:
        """On the domain's loop."""
        return self.changed.emit(degrees)

    def subscribers(self) -> int:
        """How many there are."""
        return len(self.changed)

    def hear(self, degrees: float) -> None:
        """A subscriber."""
        self.heard.append(degrees)
