"""What guests do with large buffers. Only guests import this."""

from __future__ import annotations

import os
import resource
from typing import Any

import numpy as np

kept: list[Any] = []


def look(array: Any) -> tuple[float, bool, bool, bool, tuple[int, ...]]:
    """Say what an array is like: its sum, whether it may be written, is in C or in Fortran order, its strides."""
    flags = array.flags
    return float(array.sum()), flags.writeable, flags.c_contiguous, flags.f_contiguous, array.strides


def echo(value: Any) -> Any:
    """Give back what came."""
    return value


def kind(value: Any) -> tuple[str, int]:
    """The type and the length of what came."""
    return type(value).__name__, len(value)


def keep(value: Any) -> None:
    """Hold on to what came."""
    kept.append(value)


def sums() -> list[float]:
    """The sums of what is kept."""
    return [float(each.sum()) for each in kept]


def drop() -> None:
    """Let go of what is kept."""
    kept.clear()


def count(length: int) -> Any:
    """Make an array of numbers."""
    return np.arange(length, dtype="f8")


async def count_later(length: int) -> Any:
    """The same, in a coroutine."""
    return np.arange(length, dtype="f8")


def write_into(array: Any) -> None:
    """Try to change an array of the host's."""
    array[0] = 1.0


def unlock(array: Any) -> None:
    """Try to make an array of the host's writable."""
    array.flags.writeable = True


def no_more_descriptors(more: bool) -> None:
    """Let this process open descriptors, or none."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if more:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        return
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))


def map_nothing() -> None:
    """Let no segment be mapped here from now on."""
    from cloister.pipes import segments

    def fail(fd: int, *_: Any) -> Any:
        os.close(fd)
        raise OSError(12, "Cannot allocate memory")

    segments.attach = fail  # type: ignore[assignment]  # that is the shortage


def segment_maps() -> list[str]:
    """How the segments of this process are mapped: permissions, and name."""
    with open("/proc/self/maps", encoding="ascii") as file:
        words = [line.split() for line in file if "memfd:cloister-segment" in line]
    return [each[1] for each in words]
