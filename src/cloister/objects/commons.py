"""The segments of a host that several of its domains may read: each holds one array of `cloister.arrays`.

Such a segment is made by this program alone and keeps its descriptor, so that every domain can be given a twin of it. A
domain gets to know it with the first array that is sent there, and reads it from then on wherever it lies. The array is
this program's: it counts in no domain's budget, and may be written while others read it.

When the array has gone, the segment is let go, and the domains that know it are told. It is never taken for another
array: a domain that was given it may keep it mapped whatever it says, and would read what was never sent there.

In a guest there are none: its arrays lie in segments of its pool, and only its host reads them (`take_from`).

`make` and `of` may be called by any thread. The end of an array only adds to a queue, which `tidy` works off.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from cloister.pipes import segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.pipes.segments import Mapping

__all__ = ["Common", "Reader", "forget", "make", "of", "take_from", "tidy"]

PAGE: Final = 4096


class Reader(Protocol):
    """A domain that knows such segments."""

    def withdraw(self, mapping: Mapping) -> None:
        """Let the domain forget one, as soon as it reads nothing of it any more."""


class Common:
    """One such segment."""

    def __init__(self, mapping: Mapping, fd: int) -> None:
        self.mapping, self.fd = mapping, fd
        self.readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._close = os.close  # at the end of the interpreter the module may be empty

    def __del__(self) -> None:
        try:
            self._close(self.fd)
        except OSError:
            pass


_lock = threading.RLock()  # a finalizer may send an array while it is held
_common: dict[int, Common] = {}
"""All of them, by the identity of their mapping."""
_ended: deque[Common] = deque()
_source: Callable[[int], Any] | None = None


def take_from(source: Callable[[int], Any] | None) -> None:
    """This is a guest: arrays lie in memory that its host has made, as `source` gives it, or None.

    Without a source it is none any more.
    """
    global _source
    _source = source


def make(length: int) -> Any:
    """The ground of a segment for an array of so many bytes. Raises OSError where memory or descriptors are used up."""
    if _source is not None:
        ground = _source(length)
        if ground is None:
            raise OSError(errno.ENOMEM, "the host has no shared memory to give")
        return ground
    tidy()
    size = max(1, -(-length // PAGE)) * PAGE
    mapping, fd = segments.create(size, True)
    common = Common(mapping, fd)
    mapping.left = partial(_leaves, weakref.ref(common))
    ground = mapping.ground()
    _common[id(mapping)] = common
    return ground


def of(mapping: Mapping) -> Common | None:
    """The segment that is mapped so, where it is one of these."""
    common = _common.get(id(mapping))
    return common if common is not None and common.mapping is mapping else None


def forget(reader: Reader) -> None:
    """A domain has ended."""
    with _lock:
        for common in list(_common.values()):
            common.readers.discard(reader)
        tidy()


def tidy() -> None:
    """Let go of what held an array that is no more."""
    if not _ended:
        return
    with _lock:
        while _ended:
            common = _ended.popleft()
            if not common.mapping.grounded and of(common.mapping) is common:
                _common.pop(id(common.mapping), None)
                for reader in list(common.readers):
                    reader.withdraw(common.mapping)


def _leaves(reference: weakref.ref[Common]) -> None:
    """The last view of an array has died."""
    common = reference()
    if common is None:
        return
    if common.readers:
        _ended.append(common)
    else:
        _common.pop(id(common.mapping), None)


def _in_child() -> None:
    """The domains are the parent's. What this child has, it goes on having."""
    global _lock
    _lock = threading.RLock()
    _ended.clear()
    for common in list(_common.values()):
        common.readers = weakref.WeakSet()
        if not common.mapping.grounded:
            _leaves(weakref.ref(common))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
