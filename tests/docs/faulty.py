"""Functions that fail in each way that the table of the README names. Imported by programs that run beside it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

LIMIT = 1 << 29


class OddError(Exception):
    """As libraries have them: its constructor wants other things than it keeps, so pickle can't make it again."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"odd error {code} in {where}")


def works() -> str:
    """Nothing wrong here."""
    return "works"


def raises() -> None:
    """Raise what everybody knows."""
    raise ValueError("a wrong value")


def raises_oddly() -> None:
    """Raise what can't be unpickled."""
    raise OddError(7, "the plug-in")


def segfaults() -> None:
    """Read memory that is not there."""
    ctypes.string_at(0)


def never_returns() -> None:
    """Work for ever."""
    while True:
        pass


def limit_memory() -> None:
    """Allow this process half a gigabyte of addresses."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, resource.getrlimit(resource.RLIMIT_AS)[1]))


def eats_memory() -> None:
    """Take memory until there is none."""
    kept = []
    while True:
        kept.append(bytearray(1 << 24))


def is_killed() -> None:
    """End as the kernel ends a process when memory is used up."""
    os.kill(os.getpid(), signal.SIGKILL)
