"""Arrays: 64 MiB of float64 (and 1 MiB) delivered to a function over there, summed by it, and sent back.

The floor is a warm np.copyto: the copy that is made at least, where the array was not made in shared memory. All times
are those of the sender, with an answer. A short run looks at the delivery alone. A fresh segment for each call is what
most do with shared memory; the kernel clears its pages each time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import shared_memory
from typing import Any

import cloister
from benchmarks import harness, peers
from benchmarks.harness import Entered, Table

SIZES = {"64 MiB": 64 << 20, "1 MiB": 1 << 20}
ROUNDS = {"64 MiB": 5, "1 MiB": 40}
DELIVERED_AIM = 1.05


def run() -> Iterator[Table]:
    """A table for each size and question."""
    harness.need("numpy")
    for label, size in SIZES.items():
        for what in ("delivered",) if harness.quick else ("delivered", "summed", "echoed"):
            contestants = {
                "np.copyto": partial(_copy, size),
                "cloister": partial(_domain, size, what),
                "multiprocessing Connection": partial(_connection, size, what),
            }
            if what != "echoed":
                contestants["shared_memory, fresh"] = partial(_shared, size, what)
            yield harness.contest(
                f"Arrays: {label}, {what}",
                contestants,
                rounds=harness.rounds(ROUNDS[label]),
                placement="free",
                aims={"cloister": DELIVERED_AIM} if what == "delivered" and size > 1 << 20 else None,
                extra=partial(_rate, size),
                unit="ms",
            )


def _rate(size: int, _: str, seconds: float) -> dict[str, float | str]:
    return {"GiB/s": size / seconds / (1 << 30)}


def delivered(array: Any) -> int:
    """Have the array and look at none of it."""
    return int(array.nbytes)


def summed(array: Any) -> float:
    return float(array.sum())


def echoed(array: Any) -> Any:
    return array


def _timed(operation: Callable[[], object]) -> Callable[[], list[float]]:
    def measure() -> list[float]:
        begun = time.perf_counter()
        operation()
        return [time.perf_counter() - begun]

    return measure


def _array(size: int) -> Any:
    return harness.need("numpy").arange(size // 8, dtype="float64")


@contextlib.contextmanager
def _copy(size: int) -> Iterator[Entered]:
    source, target = _array(size), _array(size)
    copy = harness.need("numpy").copyto
    yield _timed(lambda: copy(target, source)), []


@contextlib.contextmanager
def _domain(size: int, what: str) -> Iterator[Entered]:
    array = _array(size)
    with cloister.Domain("bench") as domain:
        yield _timed(lambda: domain.call(f"{__name__}:{what}", array)), []


# -- the peers ---------------------------------------------------------------------------------------------------------


def answer(link: Any) -> None:
    """Do what is asked for, with the array that comes with it or lies in the segment of that name."""
    numpy = harness.need("numpy")
    with contextlib.suppress(EOFError):
        while True:
            what, array = link.recv()
            segment = None
            if isinstance(array, str):
                segment = shared_memory.SharedMemory(array)
                array = numpy.frombuffer(segment.buf, dtype="float64")
            link.send(globals()[what](array))
            del array
            if segment is not None:
                segment.close()


@contextlib.contextmanager
def _process() -> Iterator[Any]:
    ours, theirs = peers.spawned.Pipe()
    process = peers.spawned.Process(target=answer, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


@contextlib.contextmanager
def _connection(size: int, what: str) -> Iterator[Entered]:
    array = _array(size)
    with _process() as link:

        def call() -> None:
            link.send((what, array))
            link.recv()

        yield _timed(call), []


@contextlib.contextmanager
def _shared(size: int, what: str) -> Iterator[Entered]:
    numpy = harness.need("numpy")
    array = _array(size)
    with _process() as link:

        def call() -> None:
            segment = shared_memory.SharedMemory(create=True, size=size)
            target = numpy.frombuffer(segment.buf, dtype="float64")
            numpy.copyto(target[: len(array)], array)
            del target
            link.send((what, segment.name))
            link.recv()
            segment.close()
            segment.unlink()

        yield _timed(call), []
