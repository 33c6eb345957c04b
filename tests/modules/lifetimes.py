"""Objects that say when they are gone."""

from __future__ import annotations

import gc
import weakref

import cloister

_living: weakref.WeakSet[Thing] = weakref.WeakSet()
_kept: list[object] = []


@cloister.by_reference
class Thing:
    """Something that is counted."""

    def __init__(self) -> None:
        _living.add(self)

    def ping(self) -> str:
        return "pong"

    def itself(self) -> Thing:
        return self

    def take(self, value: object) -> object:
        return value


def living() -> int:
    """How many there are."""
    gc.collect()
    return len(_living)


def make(count: int) -> list[Thing]:
    """Make some."""
    return [Thing() for _ in range(count)]


def give_back(value: object) -> object:
    """Return what came."""
    return value


def same(one: object, other: object) -> bool:
    """Whether two arguments are one object."""
    return one is other


def keep(value: object) -> None:
    """Keep what came."""
    _kept.append(value)


def kept() -> list[object]:
    """What was kept."""
    return _kept


def forget() -> None:
    """Keep nothing any more."""
    _kept.clear()


def use_kept(*args: object) -> object:
    """Call what was kept last."""
    return _kept[-1](*args)  # type: ignore[operator]  # the tests keep callables here
