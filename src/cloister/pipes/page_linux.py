"""One small shared page per domain: signs of life, where each side runs, which call to cancel, a dying guest's stacks.

The host makes it, the guest maps it. It carries hints and requests, never data that anybody must trust: a guest may
write rubbish into it, and the worst that follows is a busy wait that gains nothing or a garbled text in a report. Its
size is sealed, so that a guest can't shrink it under the host's feet (a read would be SIGBUS).

====================  ======================================================================
offset                what
====================  ======================================================================
0, 8, 16              u64, the guest's last sign of life: its number from 1, when it was (ns of the
                      monotonic clock), its CPU time (ns)
32 + 16 * lane + 0    u16, the CPU on which the host's end of this lane last ran, plus one
32 + 16 * lane + 2    u16, the same for the guest's end
32 + 16 * lane + 8    u64, the number of the call that the host wants to be interrupted; on the lane of a pool's
                      worker instead what the guest has begun: the number of the call << 32 | the item, from 1
16384 to 131072       what the guest's `faulthandler` wrote: text, ended by a NUL
====================  ======================================================================

Lanes from 1,022 on have no slot: they wait without spinning, and are cancelled by message alone. There is no lock: each
field has one writer, and is written in one aligned store. Any thread may enter.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import sys
import time

__all__ = ["GUEST", "HOST", "SLOTS", "Page", "current_cpu", "rewind"]

SLOTS = 1022
"""Lanes that have a slot."""
SLOT_BYTES = 16
SLOTS_AT = 32
STACKS_AT = SLOTS_AT + SLOTS * SLOT_BYTES
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
        self._beat = view[:SLOTS_AT].cast("Q")
        slots = view[SLOTS_AT:STACKS_AT]
        self.cpus = slots.cast("H")
        """Index ``8 * lane + side``: the CPU plus one, 0 for unknown."""
        self.cancels = slots.cast("Q")
        """Index ``2 * lane + 1``: the number of the call to interrupt, 0 for none."""
        self.begun = self.cancels
        """Index ``2 * lane + 1``, on the lane of a pool's worker: what the guest has begun last, 0 for nothing."""
        self._stacks = view[STACKS_AT:]
        self._taken = 0
        """Where the stacks ended that were taken last; a guest that has not rewound since goes on there."""

    @classmethod
    def create(cls) -> tuple[Page, int]:
        """Make a page; return it with the descriptor for the guest, which the caller closes after handing it over.

        The descriptor's offset is where the stacks begin. Raises OSError where memory or descriptors are used up, and
        where a policy refuses them: a file that could be had instead can't be sealed.
        """
        try:
            fd = os.memfd_create("cloister-page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                raise _refused(error, "memfd_create is refused here: let the seccomp filter allow it") from error
            raise
        try:
            try:
                os.truncate(fd, PAGE_BYTES)
            except OSError as error:
                raise _refused(error, f"it takes {PAGE_BYTES:,} bytes: raise RLIMIT_FSIZE (ulimit -f)") from error
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            os.lseek(fd, STACKS_AT, os.SEEK_SET)
            return cls(fd), fd
        except BaseException:
            os.close(fd)
            raise

    def note_beat(self, number: int, cpu_ns: int) -> bool:
        """Leave a sign of life here, where the host looks when it wants to know. The guest's side; True."""
        beat = self._beat
        beat[1], beat[2] = time.monotonic_ns(), cpu_ns
        beat[0] = number
        return True

    def beat(self) -> tuple[int, int, int]:
        """The last sign of life that was left here: number, time, CPU time; (0, 0, 0) for none."""
        number, at, cpu_ns, _ = self._beat
        return number, at, cpu_ns

    def take_stacks(self) -> str:
        """Return what `faulthandler` wrote since the last time, and make room for the next. Empty where nothing did."""
        text = self._take_from(0)
        if not text and self._taken:
            text = self._take_from(self._taken)
        return text.decode("utf-8", "backslashreplace").strip()

    def _take_from(self, begin: int) -> bytes:
        if begin >= len(self._stacks) or not self._stacks[begin]:
            return b""  # most often; nothing else is touched, because memory that is looked at is memory used
        text = bytes(self._stacks[begin:]).partition(b"\0")[0]
        self._taken = begin + len(text)
        self._stacks[begin : self._taken] = bytes(len(text))
        return text


def _refused(error: OSError, way_out: str) -> OSError:
    return OSError(error.errno, f"{os.strerror(error.errno or 0)}: no shared memory for a domain; {way_out}")


def rewind(fd: int) -> None:
    """Let `faulthandler`, which writes to this descriptor of a page, begin again where the stacks begin."""
    os.lseek(fd, STACKS_AT, os.SEEK_SET)
