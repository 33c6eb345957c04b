"""Time limits: a `timeout` that a user gives, and the deadline that it becomes.

A timeout is in seconds from now: None waits for ever, 0 does not wait. A deadline is a moment of
``time.monotonic()``, or None for never. A user's timeout becomes a deadline once, at the door; inside only the
deadline travels, so that an operation of many steps shares one limit. Any thread may enter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

__all__ = ["PAST", "deadline_after", "pauses", "seconds_left"]

LONGEST_S = 24 * 3600.0
"""No single wait is longer than this: the system's own limit is 2**31 ms, about 24 days, for poll.
Every waiter looks at its deadline again afterwards, so nobody notices."""


def deadline_after(timeout: float | None) -> float | None:
    """The deadline that lies `timeout` seconds from now; None stays None.

    Raises ValueError for a negative timeout and for a NaN, TypeError for what is not a number.
    """
    if timeout is None:
        return None
    if not timeout >= 0:  # a NaN is neither
        raise ValueError(f"timeout is {timeout!r}: seconds, 0 to not wait, None to wait for ever")
    return time.monotonic() + timeout


def seconds_left(deadline: float | None, longest: float = LONGEST_S) -> float:
    """How long to wait now: 0.0 when the deadline has passed, never more than `longest` seconds."""
    if deadline is None:
        return longest
    left = deadline - time.monotonic()
    if left <= 0:
        return 0.0
    return left if left < longest else longest


PAST = 0.0
"""A deadline that has passed: try, do not wait."""


def pauses() -> Iterator[float]:
    """Seconds to pause between attempts at something that nothing announces: 1 ms first, then longer, up to 50 ms.

    A twentieth of a second is not noticed by who waits for a server to appear, and costs 0.1 % of a processor.
    """
    pause = 0.001
    while True:
        yield pause
        pause = min(pause * 2, 0.05)
