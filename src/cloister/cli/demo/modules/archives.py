"""ZIP archives, with zipfile, archives inside archives too. It keeps all that it unpacks, which is how a bomb works."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

__all__ = ["limit_memory", "read"]

MEMORY_LIMIT = 192 * 2**20
"""Bytes of address space for the whole process; the interpreter and the domain's own threads take half of it."""


def limit_memory() -> None:
    """The initializer of the domain: from now on an allocation above the limit fails. Nothing on Windows."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def read(path: Path) -> str:
    """Unpack all of it. Raises BadZipFile, EOFError, and MemoryError at the limit."""
    files = list(_unpack(path.read_bytes()))
    return f"{len(files)} file(s), {sum(map(len, files)):,} bytes"


def _unpack(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            content = archive.read(member)
            found += _unpack(content) if member.filename.endswith(".zip") else [content]
    return found
