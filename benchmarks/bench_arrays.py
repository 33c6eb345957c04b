"""Arrays of float64: delivered to a function over there, summed by it, sent back, and read by twenty domains.

The floor is a warm np.copyto: the copy that is made at least, where the array was not made in shared memory. All times
are those of the sender, with an answer. A short run looks at the delivery of the large one alone. What was made with
`arrays.empty` or `arrays.share` is not copied; its time is that of a call. A fresh segment for each call is what most
do with shared memory; the kernel clears its pages each time.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import shared_memory
from typing import Any

import cloister
from benchmarks import harness, peers
from benchmarks.harness import Contestant, Entered, Table
from cloister import arrays

SIZES = {"64 MiB": 64 << 20, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "256 MiB": 256 << 20}
ROUNDS = {"64 KiB": 10, "1 MiB": 5, "64 MiB": 5, "256 MiB": 3}
SHORT = 1 << 20
DELIVERED_AIM = 1.05
MADE_AIM_S = 0.00015
"""What an array that was made in shared memory may take, whatever its size."""
DOMAINS = 20
EACH = 16 << 20


def run() -> Iterator[Table]:
    """A table for each size and question, and one for many domains."""
    harness.need("numpy")
    for label, size in SIZES.items():
        if harness.quick and label != "64 MiB":
            continue
        for what in ("delivered",) if harness.quick else ("delivered", "summed", "echoed"):
            yield _one(label, size, what)
    if not harness.quick:
        yield _many()


def _one(label: str, size: int, what: str) -> Table:
    contestants: dict[str, Contestant] = {
        "np.copyto": partial(copied, size),
        "cloister": partial(sent, size, what),
        "cloister, arrays.empty": partial(sent, size, what, made=True),
        "socket, into a reused buffer": partial(_socket, size, what),
        "multiprocessing Connection": partial(_connection, size, what),
    }
    if what != "echoed":
        contestants["shared_memory, fresh"] = partial(_shared, size, what)
    large = size >= 64 << 20 and what == "delivered"
    return harness.contest(
        f"Arrays: {label}, {what}",
        contestants,
        rounds=harness.rounds(ROUNDS[label]),
        placement="free",
        aims={"cloister": DELIVERED_AIM, "cloister, arrays.empty": _made_aim(size)} if large else None,
        extra=partial(_rate, size),
        unit="ms",
    )


def _many() -> Table:
    """The same array to twenty domains, one after the other: the time for all of them."""
    return harness.contest(
        f"Arrays: {EACH >> 20} MiB to {DOMAINS} domains, summed",
        {
            "np.copyto": partial(copied, EACH),
            "cloister": partial(_domains, shared=False),
            "cloister, arrays.share": partial(_domains, shared=True),
        },
        rounds=harness.rounds(5),
        placement="free",
        unit="ms",
    )


def _made_aim(size: int) -> float:
    """The aim for what is not copied, as a ratio to a copy of that size here and now."""
    source, target = _array(size), _array(size)
    copy = harness.need("numpy").copyto
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        copy(target, source)
        times.append(time.perf_counter() - begun)
    return MADE_AIM_S / min(times)


def _rate(size: int, _: str, seconds: float) -> dict[str, float | str]:
    return {"GiB/s": size / seconds / (1 << 30)}


def delivered(array: Any) -> int:
    """Have the array and look at none of it."""
    return int(array.nbytes)


def summed(array: Any) -> float:
    return float(array.sum())


def echoed(array: Any) -> Any:
    return array


def _timed(operation: Callable[[], object], short: bool = False) -> Callable[[], list[float]]:
    """What is `short` is done some times in a row, the first time untimed: else the look at cold caches is measured."""

    def once() -> float:
        begun = time.perf_counter()
        operation()
        return time.perf_counter() - begun

    def measure() -> list[float]:
        if short:
            once()
        return [once() for _ in range(10 if short else 1)]

    return measure


def _array(size: int) -> Any:
    return harness.need("numpy").arange(size // 8, dtype="float64")


@contextlib.contextmanager
def copied(size: int) -> Iterator[Entered]:
    source, target = _array(size), _array(size)
    copy = harness.need("numpy").copyto
    yield _timed(lambda: copy(target, source), size <= SHORT), []


@contextlib.contextmanager
def sent(size: int, what: str, *, made: bool = False) -> Iterator[Entered]:
    array = _array(size)
    if made:
        array, source = arrays.empty(size // 8), array
        array[:] = source
    with cloister.Domain("bench") as domain:
        domain.call(f"{__name__}:{what}", array)
        yield _timed(lambda: domain.call(f"{__name__}:{what}", array), made or size <= SHORT), []


@contextlib.contextmanager
def _domains(*, shared: bool) -> Iterator[Entered]:
    array = arrays.share(_array(EACH)) if shared else _array(EACH)
    with contextlib.ExitStack() as stack:
        domains = [stack.enter_context(cloister.Domain(f"bench-{n}")) for n in range(DOMAINS)]

        def call() -> None:
            for domain in domains:
                domain.call(f"{__name__}:summed", array)

        yield _timed(call), []


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

        yield _timed(call, size <= SHORT), []


def answer_socket(link: Any, size: int, what: str) -> None:
    """Read arrays into one buffer, again and again, and answer each."""
    numpy = harness.need("numpy")
    with socket.socket(fileno=link.fileno()) as end:
        link.detach()
        buffer = numpy.empty(size // 8)
        while _received(end, memoryview(buffer).cast("B")):
            made = globals()[what](buffer)
            end.sendall(memoryview(made).cast("B") if what == "echoed" else b"x")


def _received(end: socket.socket, view: memoryview) -> bool:
    while view:
        count = end.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


@contextlib.contextmanager
def _socket(size: int, what: str) -> Iterator[Entered]:
    array, back = _array(size), bytearray(size if what == "echoed" else 1)
    ours, theirs = socket.socketpair()
    process = peers.spawned.Process(target=answer_socket, args=(theirs, size, what))
    process.start()
    theirs.close()

    def call() -> None:
        ours.sendall(memoryview(array).cast("B"))
        _received(ours, memoryview(back))

    try:
        yield _timed(call, size <= SHORT), []
    finally:
        ours.close()
        process.join()


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

        yield _timed(call, size <= SHORT), []
