"""What guests do with large buffers. Only guests import this."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from typing import Any

import numpy as np

import cloister

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


def made(length: int, *, share: bool = False) -> Any:
    """Make an array of numbers where results lie, or copy one there."""
    if share:
        return cloister.arrays.share(np.arange(length, dtype="f8"))
    array = cloister.arrays.empty(length)
    array[:] = np.arange(length)
    return array


def some(length: int) -> list[Any]:
    """Make several."""
    return [made(length), np.arange(length), made(length)]


def views(length: int, number: int) -> list[Any]:
    """Several views of one array where results lie, each of all its bytes, and the array."""
    array = made(length)
    return [*(memoryview(array) for _ in range(number)), array]


def overlapping(length: int) -> Any:
    """A frame whose columns lie one over the other in one array where results lie."""
    import pandas

    array = made(2 * length)
    columns = {name: array[at : at + length] for at, name in enumerate("abcde")}
    return pandas.concat([pandas.Series(each, name=name, copy=False) for name, each in columns.items()], axis=1)


def change(value: Any) -> tuple[float, bool]:
    """Change the array in what came as a pickle; return its sum, and whether it lay in one piece as it should."""
    value["array"][0] = 100.0
    return float(value["array"].sum()), value["array"].flags.forc


def made_and_kept(length: int) -> Any:
    """Make one, keep it, and return it."""
    kept.append(made(length))
    return kept[-1]


def rewrite(value: float) -> None:
    """Write into what is kept."""
    kept[-1][:] = value


def is_shared(array: Any) -> bool:
    """Whether an array lies in shared memory over here."""
    return cloister.arrays.is_shared(array)


def hand_on(array: Any, take: Any) -> Any:
    """Give what came to a call-back of the host's; return what that returns."""
    return take(array)


def keep_the_memory(array: Any) -> float:
    """Note where an array lies, and keep that mapped whatever becomes of the array; return its first number."""
    from cloister.objects.exchange import root_under

    root = root_under(array)
    kept.append(root._cloister_mapping.view())
    return first_of_the_memory()


def first_of_the_memory() -> float:
    """The first number of what was kept so."""
    return float(np.frombuffer(kept[-1][:8], "f8")[0])


def part_of_memory(array: Any) -> float:
    """How much of this process's share of the array's memory is its own: 1.0 where nobody else has it."""
    array.sum()
    address = array.__array_interface__["data"][0]
    found = False
    with open("/proc/self/smaps", encoding="ascii") as file:
        for line in file:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                first, last = (int(each, 16) for each in words[0].split("-"))
                found = first <= address < last
            elif found and words[0] == "Pss:":
                return int(words[1]) * 1024 / float(array.nbytes)
    return 0.0


def no_more_addresses() -> None:
    """Let this process map no more than 40 MiB from here on."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 40 * 1024 * 1024, resource.RLIM_INFINITY))


def lock_memory() -> int:
    """Let this process lock all memory that it maps from now on, of which it may lock little; 0 where that works."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (min(hard, 64 * 1024 * 1024), hard))
    return int(ctypes.CDLL(None).mlockall(2))


def attack(array: Any, how: str) -> str:
    """Try to change the memory that the host lends; return the name of the error, or end."""
    address, size = array.__array_interface__["data"][0], array.nbytes
    libc = ctypes.CDLL(None, use_errno=True)
    if how == "protect":
        start = address & ~4095
        wrong = libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), 3)
        return errno.errorcode[ctypes.get_errno()] if wrong else "writable"
    ctypes.memset(address, 0, 1)
    return "written"


def after(go: Any, value: Any) -> Any:
    """Have the host do something; return what came before."""
    go()
    return value
