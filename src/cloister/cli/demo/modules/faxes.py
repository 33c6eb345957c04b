"""TIFF faxes, through a "driver" in native code that takes a lock for each page.

The defect is a deadlock: the way out for a page without strips forgets to give the lock back, so the next page waits
for ever. The lock is the C library's own and the wait holds the interpreter lock: no signal handler runs, no thread
runs, no exception can be raised in there.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["read"]

_STRIP_OFFSETS = 273

# PyDLL calls without letting go of the interpreter lock, as a C extension does that never thinks of it.
_driver = ctypes.PyDLL(None)
_lock = ctypes.create_string_buffer(128)  # room for a pthread_mutex_t of any system; all zeros is a free one


def read(path: Path) -> str:
    """Count pages and strips. A page without strips stops everything at the page after it."""
    data = path.read_bytes()
    strips = [_strips_of_page(tags) for tags in _pages(data)]
    return f"{len(strips)} page(s), {sum(strips)} strip(s)"


def _strips_of_page(tags: dict[int, int]) -> int:
    _driver.pthread_mutex_lock(_lock)
    if _STRIP_OFFSETS not in tags:
        return 0
    _driver.pthread_mutex_unlock(_lock)
    return tags[_STRIP_OFFSETS]


def _pages(data: bytes) -> Iterator[dict[int, int]]:
    """For each page its tags, with how many values each has. Raises ValueError for what is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("no TIFF: it begins with neither II nor MM")
    (at,) = struct.unpack_from(f"{order}4xI", data)
    while at:
        (entries,) = struct.unpack_from(f"{order}H", data, at)
        fields = [struct.unpack_from(f"{order}HHI", data, at + 2 + 12 * index) for index in range(entries)]
        yield {tag: count for tag, _, count in fields}
        (at,) = struct.unpack_from(f"{order}I", data, at + 2 + 12 * entries)
