"""How many descriptors a process may have: counting them, and leaving exactly so many free."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path


def count() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def at_most(number: int) -> Iterator[None]:
    """Inside, this process may have `number` descriptors, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def only_free(number: int) -> Iterator[None]:
    """Inside, exactly `number` more descriptors can be opened."""
    fillers: list[int] = []
    with at_most(256):
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(2))
            for _ in range(number):
                os.close(fillers.pop())
            yield
        finally:
            for fd in fillers:
                os.close(fd)


FULL = (errno.EMFILE, errno.ENFILE)
