"""How to measure so that two figures may be compared: interleaved, placed, against a floor.

Here: `compare` for things that are called many times, `contest` for those that have another process, `place` for where
they run. Not here: what is measured (the bench files), what comes out (`results`).

Three rules, each for something that has misled people:

- Absolute figures drift by a factor of two within minutes on virtual machines. So all contestants of one table take
  turns, round by round, in one run, and the table shows ratios to one of them, the floor.
- A latency means nothing without its placement, because waking a halted CPU costs more than the call:
  `same` (both ends on one CPU), `diff` (each on its own) and `free` (as the scheduler likes).
- The mean hides what hurts. The tables show the median and the 99th percentile.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.results import Placement, Row, Table

__all__ = [
    "Contestant",
    "Entered",
    "NotHere",
    "Placement",
    "Row",
    "Table",
    "calls",
    "compare",
    "compile_c",
    "contest",
    "need",
    "place",
    "placements",
    "rounds",
    "table",
    "throughput",
]

Entered: TypeAlias = tuple[Callable[[], list[float]], Sequence[int]]
"""What measures a contestant once, giving times in seconds, and its processes, which are placed."""
Contestant: TypeAlias = Callable[[], AbstractContextManager[Entered]]

quick = False
"""Whether the run is to be short: to see that everything works, not for figures to quote."""

_BUILD = Path(__file__).resolve().parent.parent / ".cache" / "benchmarks"


class NotHere(Exception):
    """Something that this benchmark needs is missing on this machine. The message says what; nothing is wrong."""


def need(module: str) -> Any:
    """Import a module of a peer. Raises NotHere where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise NotHere(f"{module.partition('.')[0]} is not installed; it is in the group `bench`") from None


def rounds(count: int) -> int:
    """So many rounds, or a few where the run is to be short."""
    return min(count, max(2, count // 6)) if quick else count


def calls(count: int) -> int:
    """So many calls in a round, or a quarter of them where the run is to be short."""
    return count // 4 if quick else count


# -- measuring -------------------------------------------------------------------------------------------------------


def compare(
    title: str,
    contestants: Mapping[str, Callable[[], object]],
    *,
    floor: str | None = None,
    placement: Placement | None = None,
    rounds: int = 15,
    round_s: float = 0.02,
    sample_us: float = 0.0,
    extra: Callable[[str, float], dict[str, float | str]] | None = None,
) -> Table:
    """Measure operations against each other. They take turns, for `rounds` rounds of about `round_s` seconds each.

    `floor` names the contestant whose median the others are divided by; None is the first. An operation that is
    shorter than `sample_us` microseconds is repeated within one sample until it is that long: 0 times each by itself,
    which is right for round trips; 20 is right for what takes less than a microsecond, where reading the clock would be
    the larger part. `extra` is given the name and the median in seconds, and returns further columns.

    Raises what an operation raises; nothing is measured then. Garbage is collected between the rounds, not in them.
    """
    repeats = {name: _repeats(operation, sample_us) for name, operation in contestants.items()}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    if quick:
        rounds, round_s = max(2, rounds // 6), round_s / 2
    for _ in range(rounds):
        for name, operation in contestants.items():
            with _no_collection():
                samples[name] += _sample(operation, repeats[name], round_s)
    return table(title, samples, floor=floor, placement=placement, extra=extra)


def contest(
    title: str,
    contestants: Mapping[str, Contestant],
    *,
    rounds: int,
    placement: Placement | None = None,
    aims: Mapping[str, float] | None = None,
    extra: Callable[[str, float], dict[str, float | str]] | None = None,
    unit: Literal["µs", "ms"] = "µs",
) -> Table:
    """Measure contestants that have a process each. They take turns, for so many rounds, after one to warm up.

    All are there at the same time. One that is NotHere is named in the table. The rest is as for `table`.
    """
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        entered: dict[str, Callable[[], list[float]]] = {}
        processes: list[int] = []
        for name, contestant in contestants.items():
            try:
                entered[name], theirs = stack.enter_context(contestant())
            except NotHere as reason:
                missing[name] = str(reason)
            else:
                processes += theirs
        stack.enter_context(place(placement or "free", *processes))
        times: dict[str, list[float]] = {name: [] for name in entered}
        for measure in entered.values():
            measure()
        for _ in range(rounds):
            for name, measure in entered.items():
                with _no_collection():
                    times[name] += measure()
    scale = {"µs": 1e6, "ms": 1e3}[unit]
    return table(title, times, placement=placement, aims=aims, extra=extra, missing=missing, unit=unit, scale=scale)


def table(
    title: str,
    times: Mapping[str, list[float]],
    *,
    floor: str | None = None,
    placement: Placement | None = None,
    aims: Mapping[str, float] | None = None,
    extra: Callable[[str, float], dict[str, float | str]] | None = None,
    missing: Mapping[str, str] | None = None,
    unit: str = "µs",
    scale: float = 1e6,
) -> Table:
    """Make the table of what was measured, in seconds, or in what `scale` makes of it a figure in `unit`.

    `floor` names the contestant whose median the others are divided by; None is the first. `aims` are the ratios to it
    that the project wants. `extra` is given the name and the median in seconds, and returns further columns.
    """
    floor = floor if floor is not None else next(iter(times))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    rows = [
        Row(
            name,
            medians[name] * scale,
            _percentile(taken, 99) * scale,
            medians[name] / medians[floor],
            len(taken),
            {} if extra is None else extra(name, medians[name]),
            (aims or {}).get(name),
        )
        for name, taken in times.items()
    ]
    return Table(title, floor, rows, placement, unit, dict(missing or {}))


def throughput(size: int, messages: int = 1) -> Callable[[str, float], dict[str, float | str]]:
    """Make an `extra` for `compare`: messages/s and MB/s, where one operation moves `messages` of `size` bytes."""

    def columns(_name: str, seconds: float) -> dict[str, float | str]:
        return {"messages/s": messages / seconds, "MB/s": size * messages / seconds / 1e6}

    return columns


def _repeats(operation: Callable[[], object], sample_us: float) -> int:
    for _ in range(3):
        operation()
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            operation()
        if (time.perf_counter() - start) * 1e6 >= sample_us:
            return count
        count *= 2


def _sample(operation: Callable[[], object], repeats: int, seconds: float) -> list[float]:
    clock = time.perf_counter
    times = []
    end = clock() + seconds
    while True:
        start = clock()
        for _ in range(repeats):
            operation()
        now = clock()
        times.append((now - start) / repeats)
        if now >= end:
            return times


def _percentile(times: list[float], percent: int) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- placing ---------------------------------------------------------------------------------------------------------


def placements() -> list[Placement]:
    """The placements that this machine has: all three, or only `free` with one CPU or no way to place a process."""
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        return ["free"]
    return ["same", "diff", "free"]


@contextmanager
def place(placement: Placement, *children: int) -> Iterator[None]:
    """Keep this process and `children` (pids; all their threads) where `placement` says, during the block.

    `same`: all on the first CPU; `diff`: this process on the first, the children on the second; `free`: untouched.
    Raises NotHere when the machine has no such placement.
    """
    if placement == "free":
        yield
        return
    if placement not in placements() or sys.platform != "linux":
        raise NotHere(f"the placement {placement} needs Linux and two CPUs")
    allowed = os.sched_getaffinity(0)
    first, second = sorted(allowed)[:2]
    _pin(os.getpid(), {first})
    for child in children:
        _pin(child, {first if placement == "same" else second})
    try:
        yield
    finally:
        for process in (os.getpid(), *children):
            _pin(process, allowed)


def _pin(process: int, cpus: set[int]) -> None:
    if sys.platform != "linux":
        raise NotHere("only Linux places processes")
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)


# -- the C floor -----------------------------------------------------------------------------------------------------


def compile_c(source: Path) -> Path:
    """Compile one C file with optimisation into the cache, unless that is done, and return the program.

    Raises NotHere without a C compiler: the table is then made without this contestant.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NotHere(
            f"no C compiler for {source.name}: the C floor is left out; on Debian: apt-get install gcc libc6-dev"
        )
    program = _BUILD / source.stem
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        _BUILD.mkdir(parents=True, exist_ok=True)
        try:
            command = [compiler, "-O2", "-o", str(program), str(source)]
            subprocess.run(command, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise NotHere(f"{source.name} does not compile here: {error.stderr.strip()}") from error
    return program
