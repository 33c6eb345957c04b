"""Signs of life, judged: (what was seen, now) -> what to do. Pure: no clock, no thread, no file.

Two signs are told apart. A *beat* says that the process lives and that its interpreter runs. The beat also carries
which calls are served, as the threads that serve them have noted themselves. A call that is waited for and that no
thread has taken up at two beats in a row says that the domain lives and does not *work*. An idle domain is never called
unresponsive: beats are owed always, work is not. Native code that holds the interpreter lock sends no beat and uses the
CPU; a stopped process does neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.domain.setup import Watchdog

__all__ = ["Silent", "Vitals"]


@dataclass(frozen=True, slots=True)
class Silent:
    """The domain has become unresponsive."""

    why: str
    missed: int
    cpu_seconds: float


class Vitals:
    """The signs of life of one domain."""

    def __init__(self, watchdog: Watchdog, now: float) -> None:
        """Times are seconds of any steady clock."""
        self._watchdog = watchdog
        self._last_beat = now
        self._cpu_at_beat = 0.0
        self.beats = 0
        self.unresponsive = False
        self.running: list[tuple[int, int]] = []
        """(lane, number) of each call that the guest served at its last beat."""
        self.ready = False
        """Since it has said so, beats are owed, also where none has come yet."""
        self.suspended = False
        """While it is, no beat is owed."""
        self._untaken: set[tuple[int, int]] = set()
        self.working = True
        """Every call that is waited for had been taken up by a thread over there, or is younger than a beat."""

    @property
    def last_beat(self) -> float:
        """When the last sign of life came."""
        return self._last_beat

    def resume(self, now: float) -> None:
        """Owe beats again, from now on."""
        self.suspended, self._last_beat = False, now

    def began(self, now: float) -> None:
        """Owe beats from now on: the guest is ready. What it does next may keep even the first beat away."""
        self.ready = True
        self._last_beat = max(self._last_beat, now)

    def due(self) -> float:
        """When to look again."""
        return self._last_beat + self._watchdog.beat * (self._watchdog.misses + 0.5)

    def beat(
        self, now: float, cpu_seconds: float, running: list[tuple[int, int]], outstanding: list[tuple[int, int]]
    ) -> float | None:
        """Take a beat, with the calls that run over there and those that are waited for here.

        Returns for how many seconds there was none, where that ends an unresponsive time, else None.
        """
        untaken = set(outstanding).difference(running)
        self.working = not untaken & self._untaken
        self._untaken = untaken
        silent = now - self._last_beat
        self.beats += 1
        self._last_beat, self._cpu_at_beat, self.running = now, cpu_seconds, running
        if not self.unresponsive:
            return None
        self.unresponsive = False
        return silent

    def look(self, now: float, cpu_seconds: float | None, state: str) -> Silent | None:
        """Judge the silence at a time when none should be.

        `cpu_seconds` is what the process has used in all, None where it is not known; `state` is the kernel's letter
        for the process: ``T`` stopped, ``t`` held by a debugger. Returns what to tell, or None.
        """
        if not self.beats and not self.ready:
            return None  # it is starting, which has a time-out of its own
        if self.unresponsive or now < self.due() or self.suspended or state == "t":
            return None
        self.unresponsive = True
        missed = int((now - self._last_beat) / self._watchdog.beat)
        used = 0.0 if cpu_seconds is None else max(0.0, cpu_seconds - self._cpu_at_beat)
        # A tenth of the silence spent computing is a busy process on a crowded machine; an idle one uses nothing.
        busy = used > 0.1 * (now - self._last_beat)
        return Silent("stopped" if state == "T" else "busy" if busy else "silent", missed, used)
