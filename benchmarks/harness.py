"""How to measure so that two figures may be compared: interleaved, placed, against a floor.

Here: `compare` for things that are called many times, `place` for where they run, `Table` for what comes out, and the
record of machine and versions. Not here: what is measured; that is in the bench files.

Three rules, each for something that has misled people:

- Absolute figures drift by a factor of two within minutes on virtual machines. So all contestants of one table take
  turns, round by round, in one run, and the table shows ratios to one of them, the floor.
- A latency means nothing without its placement, because waking a halted CPU costs more than the call:
  `same` (both ends on one CPU), `diff` (each on its own) and `free` (as the scheduler likes).
- The mean hides what hurts. The tables show the median and the 99th percentile.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

__all__ = [
    "NotHere",
    "Placement",
    "Row",
    "Table",
    "compare",
    "compile_c",
    "describe_machine",
    "place",
    "placements",
    "save",
    "throughput",
]

Placement = Literal["same", "diff", "free"]

_RESULTS = Path(__file__).parent / "results"
_BUILD = Path(__file__).resolve().parent.parent / ".cache" / "benchmarks"

# The peers whose versions a result must name.
_PEERS = ("msgpack", "msgspec", "numpy", "rpyc", "pyro5", "execnet", "pyzmq", "uvloop", "pyarrow", "pandas", "polars")


class NotHere(Exception):
    """Something that this benchmark needs is missing on this machine. The message says what; nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant: the time of one operation, in microseconds, and its ratio to the floor's median."""

    name: str
    median_us: float
    p99_us: float
    ratio: float
    samples: int
    extra: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """One question with the answers of all contestants, in the order in which they were given."""

    title: str
    floor: str
    rows: list[Row]
    placement: Placement | None = None

    def to_markdown(self) -> str:
        """The table as Markdown; columns of `extra` follow the fixed ones."""
        extras = list(dict.fromkeys(key for row in self.rows for key in row.extra))
        heads = ["", "median µs", "p99 µs", f"× {self.floor}", *extras]
        where = f" ({self.placement})" if self.placement else ""
        lines = [f"### {self.title}{where}", "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
        for row in self.rows:
            figures = [_figure(row.median_us), _figure(row.p99_us), f"{row.ratio:.2f}"]
            lines.append(_line([row.name, *figures, *(_figure(row.extra.get(key, "")) for key in extras)]))
        return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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
    floor = floor if floor is not None else next(iter(contestants))
    repeats = {name: _repeats(operation, sample_us) for name, operation in contestants.items()}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, operation in contestants.items():
            with _no_collection():
                samples[name] += _sample(operation, repeats[name], round_s)
    medians = {name: statistics.median(times) for name, times in samples.items()}
    rows = [
        Row(
            name,
            medians[name] * 1e6,
            _percentile(times, 99) * 1e6,
            medians[name] / medians[floor],
            len(times),
            {} if extra is None else extra(name, medians[name]),
        )
        for name, times in samples.items()
    ]
    return Table(title, floor, rows, placement)


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


# -- recording -------------------------------------------------------------------------------------------------------


def describe_machine() -> str:
    """One line about where this was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    system = f"{platform.system()} {platform.release()}"
    return f"{system}, {cpus} CPUs, Python {platform.python_version()}; {versions}"


def _versions() -> dict[str, str]:
    found = {}
    for name in ("cloister", *_PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def save(tables: list[Table]) -> Path:
    """Write the tables as JSON, with machine and versions, into a new file in benchmarks/results; return its path."""
    _RESULTS.mkdir(parents=True, exist_ok=True)
    path = _RESULTS / time.strftime("%Y-%m-%dT%H%M%S.json", time.gmtime())
    record = {"machine": describe_machine(), "versions": _versions(), "tables": [asdict(table) for table in tables]}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    return path
