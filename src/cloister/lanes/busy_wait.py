"""The busy wait of a lane: when its reader probes the pipe for a moment before it lets the kernel put it to sleep.

To wake a thread on another CPU that has nothing to do costs 20 to 70 µs, ten times what a small call takes otherwise.
To wait busily on the peer's own CPU would keep the peer from running at all. So it is done only

- when the peer last ran on another CPU, as the shared page says; both sides look now and then (`LOOK_EVERY`). A process
  that may use one CPU alone never does it, because its peer is there too. Where both sides are threads of one
  interpreter there is no page, because there it gains nothing (measured);
- for at most `SPIN_NS`; but once for `LONG_SPIN_NS` after nothing came in that time, because then the peer was asleep,
  and two sides that wake each other would miss each other's busy wait for ever;
- where that helps. Without success again and again (`STRIKES`) it is left out: calls that take longer, or come after a
  silence, gain nothing by it. For `SHORT_REST` messages at first, as something else may have had the processor for a
  moment, then for twice as many each time;
- with at most `SPIN_LANES` lanes at work in this process: more of them hinder each other;
- with no quota of processor time below `LEAST_PROCESSORS`: a busy wait would spend it;
- unless the environment variable ``CLOISTER_BUSY_WAIT`` is ``0``.

The last two are settled once in each process. A side that may not wait busily does not say where it runs, and then its
peer does not do it either. One thread at a time may enter a `BusyWait`.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from cloister.pipes import processors

if sys.platform != "win32":
    import fcntl
    import termios
else:
    fcntl: Any = None
    termios: Any = None

if TYPE_CHECKING:
    from cloister.pipes.page import Page

__all__ = ["LEAST_PROCESSORS", "LOOK_EVERY", "SPIN_LANES", "SPIN_NS", "BusyWait", "allowed"]

SPIN_NS: Final = 20_000
"""The usual busy wait. Waking a halted CPU costs 20 µs and more, so a longer one could only lose."""
LONG_SPIN_NS: Final = 80_000
"""The second one: long enough for the peer to wake up and to answer."""
SPIN_LANES: Final = 2
"""With more lanes at work than this a busy wait gains nothing, and makes the slowest calls slower."""
LOOK_EVERY: Final = 64
"""Messages between two looks at where the peer runs."""
STRIKES: Final = 2
"""How often it may be in vain before it is left out. A long one counts twice; a short one with success clears it."""
SHORT_REST: Final = 4
"""Messages without a busy wait after it was in vain; at most they are `LOOK_EVERY`."""
AT_WORK_NS: Final = 10_000_000
"""A lane whose last look is younger than this counts as at work."""
LEAST_PROCESSORS: Final = 2.0
"""While one side works the other one waits busily: together they use two processors."""

_at_work: dict[int, int] = {}
"""When each lane of this process last looked where its peer runs, by the identity of its `BusyWait`."""

_allowed: bool | None = None


def allowed() -> bool:
    """Whether this process may wait busily, as its environment and its quota were when this was first asked."""
    global _allowed
    if _allowed is None:
        least = processors.quota()
        _allowed = os.environ.get("CLOISTER_BUSY_WAIT") != "0" and (least is None or least >= LEAST_PROCESSORS)
    return _allowed


class BusyWait:
    """When one end of a lane waits busily."""

    __slots__ = ("_begun", "_long", "_own", "_page", "_peer", "_probe", "_rest", "_strikes", "left", "worthwhile")

    def __init__(self, page: Page | None, own: int, peer: int) -> None:
        """`own` and `peer` are where the two sides say in the page on which CPU they run; None is for no page."""
        self._page = page
        self._own, self._peer = own, peer
        self._probe = bytearray(4)
        self._strikes = 0
        self._long = False
        self._rest = SHORT_REST
        self._begun = False
        self.left = 0
        """Messages until the next look; who receives one counts it down, and calls `look` below 0."""
        self.worthwhile = False
        """Whether to call `probe` before a read that blocks."""
        if page is not None:
            page.cpus[own] = 0  # what an earlier lane has left there

    def look(self) -> None:
        """Note where this side runs, and decide anew whether to probe."""
        self.left = LOOK_EVERY
        page = self._page
        if not self._begun or page is None or not allowed():
            self._begun = True  # a lane of a few calls is not worth the first look at the quota
            self.worthwhile = False
            return
        own = page.cpus[self._own] = page.current_cpu() + 1
        other = page.cpus[self._peer]
        now = time.monotonic_ns()
        _at_work[id(self)] = now
        if len(_at_work) > SPIN_LANES:
            for key, seen in list(_at_work.items()):
                if now - seen > AT_WORK_NS:
                    _at_work.pop(key, None)
        self.worthwhile = other not in (0, own) and len(_at_work) <= SPIN_LANES

    def probe(self, reader: int) -> None:
        """Wait until the pipe has something, or it was long enough. Raises nothing: the read says what is wrong."""
        if sys.platform == "win32":
            raise NotImplementedError
        found, probe_pipe, request, clock = self._probe, fcntl.ioctl, termios.FIONREAD, time.perf_counter_ns
        long = self._long
        give_up = clock() + (LONG_SPIN_NS if long else SPIN_NS)
        try:
            while True:
                probe_pipe(reader, request, found)
                if found[0] or found[1]:  # a lane's pipe holds less than 2**16 bytes
                    if long:
                        self._long = False
                    else:
                        self._strikes, self._rest = 0, SHORT_REST
                    return
                if clock() > give_up:
                    break
        except OSError:
            return
        self._long = not long
        self._strikes += 2 if long else 1
        if self._strikes > STRIKES:
            self._long = self.worthwhile = False
            self.left = min(self.left, self._rest)
            self._rest = min(2 * self._rest, LOOK_EVERY)

    def end(self) -> None:
        """The lane is closed."""
        self._page = None
        _at_work.pop(id(self), None)
