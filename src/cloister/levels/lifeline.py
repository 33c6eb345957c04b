"""The host's end of the lifeline: one pipe, made with the first guest, whose write end only this process holds.

It is never written. When this process ends, the kernel closes it, and every guest that is tied to the read end is
killed with its group; the guest's end is `cloister.guest.lifeline`. A forked child of this process closes its copy at
once: it would keep the guests alive. Any thread may enter.
"""

from __future__ import annotations

import os
import threading

__all__ = ["close", "reader"]

_lock = threading.Lock()
_ends: tuple[int, int] | None = None


def reader() -> int:
    """The descriptor to hand to a guest. It stays open for as long as this process lives. Raises OSError (EMFILE)."""
    global _ends
    with _lock:
        if _ends is None:
            _ends = os.pipe()
        return _ends[0]


def close() -> None:
    """End all that is tied to it, where an interpreter ends before its process. Idempotent."""
    global _ends
    with _lock:
        if _ends is not None:
            os.close(_ends[0])
            os.close(_ends[1])
            _ends = None


def _close_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
