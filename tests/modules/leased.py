"""Objects with leases; imported by guests only."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable

import cloister

made: weakref.WeakSet[object] = weakref.WeakSet()


class Held:
    """Something to hold."""

    def __init__(self) -> None:
        made.add(self)

    def name(self) -> str:
        return "held"

    def itself(self) -> Held:
        return self


@cloister.lease(0.05, renew_on_call=0)
class Short(Held):
    """Gone soon, whoever calls it."""


def sponsored(sponsor: Callable[[], float | None], seconds: float = 0.02) -> object:
    """One object, whose sponsor is the host's."""
    return cloister.lease(seconds, renew_on_call=0, sponsor=lambda held: sponsor())(Held())


def sponsored_by_one_that_exits() -> object:
    """One whose sponsor wants to end its thread."""
    return cloister.lease(0.02, renew_on_call=0, sponsor=lambda held: sys.exit())(Held())


def asked_in_vain() -> object:
    """One whose sponsor raises."""

    def sponsor(held: object) -> float:
        raise RuntimeError("no money")

    return cloister.lease(0.02, renew_on_call=0, sponsor=sponsor)(Held())


def alive() -> int:
    """How many are."""
    return len(made)


def keep(proxy: Held) -> Callable[[], str]:
    """Hold an object of the host's."""
    return lambda: proxy.name()
