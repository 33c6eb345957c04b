"""Shared memory for large buffers: anonymous, sealed, mapped on both sides of a wall.

The host makes every segment, because whoever makes one decides what may become of it. Its size is sealed, so a guest
can't shrink it under a reader (a read would be SIGBUS), and nobody can add a seal. A segment that goes *down* is also
sealed against writing: the host has mapped it before, the guest only reads it. One that goes *up* is written by the
guest, and mapped here for reading only.

Who writes a segment has the kernel make all its pages before it is used. Touching one of a segment that goes down can't
fail later. One that goes up has no seal against writing, so its guest may punch holes into it; where the system has no
memory left for such a page, reading it here is SIGBUS. Who reads a segment maps the pages as it reads. Nothing of a
segment is in the file system, and it is gone with the last mapping and the last descriptor. A mapping goes with its
last view. Any thread may enter.

Huge pages were tried: the kernel gives none to anonymous files unless its administrator has said so
(``transparent_hugepage/shmem_enabled``) or has reserved some (MFD_HUGETLB); where neither was done, asking costs and
changes nothing.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from cloister.pipes import pieces

assert sys.platform == "linux"

__all__ = ["AVAILABLE", "Mapping", "attach", "create"]

AVAILABLE = True
"""Whether this platform has segments."""

_PROT_READ, _PROT_WRITE = 1, 2
_MAP_SHARED = 0x01
_POPULATE_WRITE = 23
_FAILED = ctypes.c_void_p(-1).value
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_SEAL_FUTURE_WRITE = 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_mmap, _munmap = _libc.mmap, _libc.munmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_grounding = threading.RLock()  # a finalizer may send an array while it is held


class _Buffer(ctypes.Structure):
    """A `Py_buffer`; part of Python's stable interface."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("object", ctypes.c_void_p),
        ("rest", ctypes.c_ssize_t * 9),
    )


_get_buffer, _release_buffer = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_release_buffer.argtypes = [ctypes.POINTER(_Buffer)]
_release_buffer.restype = None


class Mapping:
    """A segment, mapped in this process until nothing refers to it or to a part of it."""

    __slots__ = ("__weakref__", "_address", "_ground", "_unmap", "left", "size", "writable")

    def __init__(self, fd: int, size: int, writable: bool) -> None:
        """Map `size` bytes of a descriptor, which stays the caller's. Raises OSError where that can't be done."""
        self._address = 0
        self._ground: weakref.ref[Any] | None = None
        self.size, self.writable = size, writable
        self.left: Callable[[], None] | None = None
        """Called when the ground has gone, wherever its last view died; it only adds to a queue."""
        self._unmap = _munmap  # at the end of the interpreter the module may be empty
        protection = _PROT_READ | (_PROT_WRITE if writable else 0)
        address = _mmap(None, size, protection, _MAP_SHARED, fd, 0)
        if address is None or address == _FAILED:
            error = ctypes.get_errno()
            raise OSError(error, f"{size:,} bytes of shared memory can't be mapped: {os.strerror(error)}")
        self._address = address
        if writable:
            try:
                pieces.do(self._populate, size)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                os.posix_fallocate(fd, 0, size)  # a kernel before 5.14

    def __del__(self) -> None:
        if self._address:
            self._unmap(self._address, self.size)

    def _populate(self, begin: int, end: int) -> None:
        if _madvise(self._address + begin, end - begin, _POPULATE_WRITE):
            error = ctypes.get_errno()
            raise OSError(error, f"{self.size:,} bytes of shared memory can't be had: {os.strerror(error)}")

    def root(self, offset: int, length: int) -> ctypes.Array[ctypes.c_char]:
        """What all views of a part rest on; the mapping lives as long as it does.

        Raises ValueError where the part is not inside.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are not inside a segment of {self.size}")
        root = (ctypes.c_char * length).from_address(self._address + offset)
        root._cloister_mapping = self  # type: ignore[attr-defined]  # nothing else holds it
        return root

    def ground(self) -> ctypes.Array[ctypes.c_char]:
        """The one root of all of it, on which arrays of this side rest."""
        with _grounding:
            found = None if self._ground is None else self._ground()
            if found is None:
                found = self.root(0, self.size)
                self._ground = weakref.ref(found, self._goes)
            ground: ctypes.Array[ctypes.c_char] = found
            return ground

    @property
    def grounded(self) -> bool:
        """Whether anything rests on its ground."""
        return self._ground is not None and self._ground() is not None

    def _goes(self, _: object) -> None:
        if self.left is not None:
            self.left()

    def view(self, offset: int = 0, length: int | None = None) -> memoryview:
        """A view of a part as bytes; read-only where the mapping is. Raises ValueError as `root`."""
        view = memoryview(self.root(offset, self.size - offset if length is None else length)).cast("B")
        return view if self.writable else view.toreadonly()

    def offset_of(self, view: memoryview) -> int:
        """Where the bytes of a view begin that rests on a part of this mapping."""
        buffer = _Buffer()
        _get_buffer(view, buffer, 0)
        try:
            return int(buffer.address) - self._address
        finally:
            _release_buffer(buffer)


def create(size: int, downwards: bool, *, shared: bool = False) -> tuple[Mapping, int]:
    """Make a segment; return it mapped, with the descriptor for the guest, which the caller closes.

    `downwards`: this side writes it and the guest reads it, else the other way round; `shared`: both write it.
    Raises OSError where memory or descriptors are used up; nothing is left then.
    """
    fd = os.memfd_create("cloister-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
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
