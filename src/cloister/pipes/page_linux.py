"""One small shared page per domain: where each side runs, which call to cancel, and the stacks of a dying guest.

The host makes it, the guest maps it. It carries hints and requests, never data that anybody must trust: a guest may
write rubbish into it, and the worst that follows is a busy wait that gains nothing or a garbled text in a report. Its
size is sealed, so that a guest can't shrink it under the host's feet (a read would be SIGBUS).

====================  ======================================================================
offset                what
====================  ======================================================================
16 * lane + 0         u16, the CPU on which the host's end of this lane last ran, plus one
16 * lane + 2         u16, the same for the guest's end
16 * lane + 4         u32, on a shared lane of a pool: which item of its work the guest has begun, from 1
16 * lane + 8         u64, the number of the call that the host wants to be interrupted
16384 to 131072       what the guest's `faulthandler` wrote: text, ended by a NUL
====================  ======================================================================

Lanes from 1,024 on have no slot: they wait without spinning, and are cancelled by message alone. There is no lock: each
field has one writer, and is written in one aligned store. Any thread may enter.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import sys

__all__ = ["GUEST", "HOST", "SLOTS", "Page", "current_cpu", "rewind"]

SLOTS = 1024
"""Lanes that have a slot."""
SLOT_BYTES = 16
STACKS_AT = SLOTS * SLOT_BYTES
PAGE_BYTES = 128 * 1024
"""The size of the whole; pages that are never touched cost nothing."""

HOST, GUEST = 0, 1
"""The two sides, as an index into a lane's slot."""

assert sys.platform == "linux"

_libc = ctypes.CDLL(None)

current_cpu = _libc.sched_getcpu
"""The number of the CPU that the calling thread runs on, or -1. About 0.1 µs; it may be wrong at once."""


class Page:
    """The shared page of one domain, mapped in this process."""

    slots = SLOTS
    current_cpu = staticmethod(current_cpu)

    def __init__(self, fd: int) -> None:
        """Map the page behind a descriptor, which stays the caller's; it is unmapped with its last user.

        Raises OSError where it can't be mapped.
        """
        if sys.version_info >= (3, 13):
            view = memoryview(mmap.mmap(fd, PAGE_BYTES, trackfd=False))
        else:
            view = memoryview(mmap.mmap(fd, PAGE_BYTES))  # keeps a duplicate of the descriptor as long as it lives
        self.cpus = view[:STACKS_AT].cast("H")
        """Index ``8 * lane + side``: the CPU plus one, 0 for unknown."""
        self.cancels = view[:STACKS_AT].cast("Q")
        """Index ``2 * lane + 1``: the number of the call to interrupt, 0 for none."""
        self.items = view[:STACKS_AT].cast("I")
        """Index ``4 * lane + 1``: the item that the guest has begun last, 0 for none."""
        self._stacks = view[STACKS_AT:]

    @classmethod
    def create(cls) -> tuple[Page, int]:
        """Make a page; return it with the descriptor for the guest, which the caller closes after handing it over.

        The descriptor's offset is where the stacks begin. Raises OSError where memory or descriptors are used up.
        """
        fd = os.memfd_create("cloister-page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.truncate(fd, PAGE_BYTES)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            os.lseek(fd, STACKS_AT, os.SEEK_SET)
            return cls(fd), fd
        except BaseException:
            os.close(fd)
            raise

    def take_stacks(self) -> str:
        """Return what `faulthandler` wrote since the last time, and make room for the next. Empty where nothing did."""
        # Not at the start where a guest that is busy has not rewound yet.
        text = bytes(self._stacks)
        begin = len(text) - len(text.lstrip(b"\0"))
        text = text.strip(b"\0")
        self._stacks[begin : begin + len(text)] = bytes(len(text))
        return text.decode("utf-8", "backslashreplace").strip()


def rewind(fd: int) -> None:
    """Let `faulthandler`, which writes to this descriptor of a page, begin again where the stacks begin."""
    os.lseek(fd, STACKS_AT, os.SEEK_SET)
