"""A lane has failed under a call: who ends the domain for it, and what the caller is told.

A lane fails because the guest ends, which the kernel tells a moment later, or because the guest misbehaves. Callers
wait for a bounded time until it is known which, so that they get the report. The watcher's thread never comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from cloister.report import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloister.domain.life import Life
    from cloister.errors import ProtocolError

__all__ = ["KILL_S", "LANE_PATIENCE_S", "bad_message", "ended", "ending", "raise_ended"]

KILL_S = 10.0
"""How long a killed process may take to be gone. The kernel frees 20 GiB in a second; more than this is a broken disk
or driver, and then the domain can't be unloaded."""
LANE_PATIENCE_S = 1.0
"""How long a guest may live on after it has closed a lane. One that ends does it a moment before."""


def ended(life: Life, name: str) -> BaseException:
    """What a caller is told whose lane has failed: waits, for a bounded time, until the report is there."""
    for seconds in ending(life, name):
        life.moments.wait_known(seconds)
    return life.error()


def raise_ended(life: Life, name: str) -> NoReturn:
    """Raise what `ended` returns, with the cause that it has of its own, and without what became of the lane."""
    error = ended(life, name)
    try:
        raise error from error.__cause__
    finally:
        del error  # it holds this frame


def ending(life: Life, name: str) -> Iterator[float]:
    """The steps of `ended`, for callers that wait in their own way: give how many seconds to wait for the end."""
    if life.foreign:
        return
    yield LANE_PATIENCE_S
    if life.ready and not life.process.has_ended():
        words = life.last_words
        if words is None:
            # The guest lives, but has closed this lane: only its own misbehaviour does that.
            life.end_for(Reason.BAD_MESSAGE, f"it closed the lane on which {name}() waited")
        else:
            patience = life.options.stop_timeout
            yield patience
            if not life.over:
                late = f"its exit hooks took longer than {patience:g} s, and it was killed in them"
                life.end_for(words[0], f"{words[2]}\n{late}".lstrip())
    yield KILL_S


def bad_message(life: Life, error: ProtocolError, name: str) -> BaseException:
    """End the domain because of what it sent; returns what the caller is told."""
    life.end_for(Reason.BAD_MESSAGE, f"{error} (while {name}() was called)")
    life.moments.wait_known(KILL_S)
    return life.error()
