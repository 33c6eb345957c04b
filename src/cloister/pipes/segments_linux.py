"""Shared memory for large buffers: anonymous, sealed, mapped on both sides of a wall.

The host makes every segment, because whoever makes one decides what may become of it. Its size is sealed, so a guest
can't shrink it under a reader (a read would be SIGBUS), and nobody can add a seal. A segment that goes *down* is also
sealed against writing: the host has mapped it before, the guest only reads it. One that goes *up* is written by the
guest, and mapped here for reading only.

All its pages are reserved before it is used, so that touching one can't fail later, and are mapped at once. The
descriptor is closed when both sides have mapped it; nothing of a segment is in the file system, and it is gone with the
last mapping. A mapping goes with its last view. Any thread may enter.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

assert sys.platform == "linux"

__all__ = ["AVAILABLE", "Mapping", "attach", "create"]

AVAILABLE = True
"""Whether this platform has segments."""

_PROT_READ, _PROT_WRITE = 1, 2
_MAP_SHARED, _MAP_POPULATE = 0x01, 0x8000
_FAILED = ctypes.c_void_p(-1).value
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_SEAL_FUTURE_WRITE = 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_mmap, _munmap = _libc.mmap, _libc.munmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Mapping:
    """A segment, mapped in this process until nothing refers to it or to a part of it."""

    __slots__ = ("__weakref__", "_address", "_unmap", "size", "writable")

    def __init__(self, fd: int, size: int, writable: bool) -> None:
        """Map `size` bytes of a descriptor, which stays the caller's. Raises OSError where that can't be done."""
        self._address = 0
        self.size, self.writable = size, writable
        self._unmap = _munmap  # at the end of the interpreter the module may be empty
        protection = _PROT_READ | (_PROT_WRITE if writable else 0)
        address = _mmap(None, size, protection, _MAP_SHARED | _MAP_POPULATE, fd, 0)
        if address is None or address == _FAILED:
            error = ctypes.get_errno()
            raise OSError(error, f"{size:,} bytes of shared memory can't be mapped: {os.strerror(error)}")
        self._address = address

    def __del__(self) -> None:
        if self._address:
            self._unmap(self._address, self.size)

    def root(self, offset: int, length: int) -> ctypes.Array[ctypes.c_char]:
        """The object on which all views of a part rest: it lives as long as the last of them, and keeps the mapping.

        Raises ValueError for a part that is not inside.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are not inside a segment of {self.size}")
        root = (ctypes.c_char * length).from_address(self._address + offset)
        root._cloister_mapping = self  # type: ignore[attr-defined]  # nothing else holds it
        return root

    def view(self, offset: int = 0, length: int | None = None) -> memoryview:
        """A view of a part as bytes; read-only where the mapping is. Raises ValueError as `root`."""
        view = memoryview(self.root(offset, self.size - offset if length is None else length)).cast("B")
        return view if self.writable else view.toreadonly()


def create(size: int, downwards: bool, *, shared: bool = False) -> tuple[Mapping, int]:
    """Make a segment; return it mapped, with the descriptor for the guest, which the caller closes.

    `downwards`: this side writes it and the guest reads it, else the other way round; `shared`: both write it.
    Raises OSError where memory or descriptors are used up; nothing is left then.
    """
    fd = os.memfd_create("cloister-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, size)
        mapping = Mapping(fd, size, downwards or shared)
        only_here = downwards and not shared
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | (_SEAL_FUTURE_WRITE if only_here else 0))
        return mapping, fd
    except BaseException:
        os.close(fd)
        raise


def attach(fd: int, size: int, writable: bool) -> Mapping:
    """Map a segment that the host made. The descriptor is closed. Raises OSError where it can't be mapped."""
    try:
        return Mapping(fd, size, writable)
    finally:
        os.close(fd)
