"""Filling what is free between the objects of a template, so that those of a guest lie side by side.

Python keeps small objects in pools, one size in each, and puts a new one where the last one of its size was given up.
After many imports these places are all over the memory, and after a fork each of them is on a page that is copied for
it. Where nothing is free in the pools that are in use, a guest begins new ones: its objects lie in a few pages of its
own. That saves a twelfth of what a guest writes to, and costs the template some hundred KiB, once.

It depends on how CPython arranges its memory (pools of 16 KiB, a header of 48 bytes). Where that is another way, as
with PYTHONMALLOC or without the interpreter lock, nothing is taken. Runs on the main thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["fill"]

_POOL: Final = 16 * 1024
_HEADER: Final = 48
_ALIGNMENT: Final = 16
_LARGEST: Final = 512
_MOST: Final = 30_000
"""The most objects of one size."""
_EMPTY: Final = b"".__sizeof__()
_PROBE: Final = 7 * _ALIGNMENT
"""A size of which not every aligned place in a pool is a multiple."""
_PROBES: Final = 64


def fill() -> list[Any]:
    """Take all that is free in the pools in use; what is returned is to be kept."""
    if not _is_as_expected():
        return []
    taken: list[Any] = [_taken(object)]
    taken.append(_taken(lambda: float("1.5")))
    for size in range(3 * _ALIGNMENT, _LARGEST + 1, _ALIGNMENT):
        taken.append(_taken(lambda length=size - _EMPTY: bytes(length)))  # type: ignore[misc]  # it is bound here
    return taken


def _is_as_expected() -> bool:
    """Whether objects of one size lie one after the other in a pool, behind its header."""
    probes = [bytes(_PROBE - _EMPTY) for _ in range(_PROBES)]
    return all((id(probe) % _POOL - _HEADER) % _PROBE == 0 for probe in probes)


def _taken(make: Callable[[], Any]) -> list[Any]:
    """Make objects until one is the first in its pool."""
    taken = []
    for _ in range(_MOST):
        made = make()
        taken.append(made)
        if id(made) % _POOL == _HEADER:
            break
    return taken
