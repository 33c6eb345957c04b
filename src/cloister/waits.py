"""The waits of this process: who waits for whom, and an error instead of a wait that would never end.

Whoever hands out something exclusive says so here: `hold` and `release` for each place, `waiting` around each wait. The
rule is in `cloister.waiting`. Any thread may enter, a finalizer in the middle of it too; nothing here waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Hashable, Iterator

from cloister import calling
from cloister.errors import DeadlockDetected
from cloister.waiting import Resource, WaitGraph

__all__ = ["Resource", "chain_in_words", "expect", "hold", "leave", "release", "settle", "strand_in_words", "waiting"]

_lock = threading.RLock()  # a finalizer may call while it is held
_graph = WaitGraph()


def hold(resource: Resource, strand: int | None = None) -> int:
    """The running strand, or the one given, has got a place. Returns which it is, for `release`."""
    holder = calling.strand() if strand is None else strand
    with _lock:
        _graph.hold(resource, holder)
    return holder


def release(resource: Resource, strand: int) -> None:
    """A strand has given back its place."""
    with _lock:
        _graph.release(resource, strand)


def settle(resource: Resource) -> None:
    """Nobody has a place of this resource any more; for one that is used up."""
    with _lock:
        resource.holders.clear()


def expect(resource: Resource, strand: int) -> None:
    """A strand that has not begun will wait for this; nobody asks whether it can ever get it."""
    with _lock:
        _graph.expect(resource, strand)


def leave(strand: int) -> None:
    """A strand that was expected to wait begins."""
    with _lock:
        _graph.leave(strand)


@contextlib.contextmanager
def waiting(resource: Resource, ends: bool, strand: int | None = None) -> Iterator[None]:
    """The running strand waits for a place inside; `ends` where the wait has a time-out.

    Raises DeadlockDetected, before anything waits, where it could never get one.
    """
    waiter = calling.strand() if strand is None else strand
    with _lock:
        stuck = _graph.wait(resource, waiter, ends)
        words = chain_in_words(stuck) if stuck else ""
    if words:
        raise DeadlockDetected(words)
    try:
        yield
    finally:
        with _lock:
            _graph.leave(waiter)


def chain_in_words(chain: list[tuple[Hashable, Resource]]) -> str:
    """Say who waits for what, and who has that: the message of a DeadlockDetected."""
    first, wanted = chain[0]
    words = [f"{strand_in_words(first)} would wait for itself: it wants {_wanted(wanted)}"]
    for strand, resource in chain[1:]:
        words.append(f"{strand_in_words(strand)} waits for {_wanted(resource)}")
    return "; ".join(words)


def strand_in_words(strand: Hashable) -> str:
    """The name of a strand in an error."""
    return f"thread {strand & 0xFFFFFFFF}" if isinstance(strand, int) else str(strand)


def _wanted(resource: Resource) -> str:
    holders = " and ".join(map(strand_in_words, resource.holders))
    return f"{resource.name}, held by {holders}" if holders else resource.name


def _begin_anew() -> None:
    """A forked child has one strand, and none of what its parent's strands have."""
    global _lock, _graph
    _lock, _graph = threading.RLock(), WaitGraph()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
