"""What comes out of a run: rows, tables, the record of the machine, and the file that keeps them.

Here is the form of results, and how they are written and read again. How they are measured is in `harness`, how two
files are compared in `comparison`, how they are drawn in `plots`.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

__all__ = ["Placement", "Row", "Table", "describe_machine", "elsewhere", "figure", "load", "save", "write"]

Placement = Literal["same", "diff", "free"]

_RESULTS = Path(__file__).parent / "results"

elsewhere: dict[str, str] = {}
"""Versions of what took part and is not installed in this environment."""

# The peers whose versions a result must name.
_PEERS = (
    "msgpack", "msgspec", "numpy", "rpyc", "pyro5", "execnet", "pyzmq", "loky", "uvloop", "pyarrow", "pandas", "polars",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant: what one operation takes, in the unit of its table, and its ratio to the floor's median."""

    name: str
    median: float
    p99: float
    ratio: float
    samples: int
    extra: dict[str, float | str] = field(default_factory=dict)
    aim: float | None = None
    """The ratio that the project wants to reach, or to stay below; None where it has not said."""

    @property
    def reached(self) -> bool:
        """Whether the aim was reached, to the two digits that are shown."""
        return self.aim is None or round(self.ratio, 2) <= self.aim


@dataclass(frozen=True, slots=True)
class Table:
    """One question with the answers of all contestants, in the order in which they were given."""

    title: str
    floor: str
    rows: list[Row]
    placement: Placement | None = None
    unit: str = "µs"
    missing: dict[str, str] = field(default_factory=dict)
    """Who did not take part, and why."""

    @property
    def name(self) -> str:
        """Title and placement."""
        return f"{self.title} ({self.placement})" if self.placement else self.title

    def to_markdown(self, level: int = 3) -> str:
        """The table as Markdown under a heading of this level; columns of `extra` follow the fixed ones."""
        extras = list(dict.fromkeys(key for row in self.rows for key in row.extra))
        heads = ["", f"median {self.unit}", f"p99 {self.unit}", f"× {self.floor}"]
        aimed = any(row.aim is not None for row in self.rows)
        heads += ["aim", *extras] if aimed else extras
        lines = [f"{'#' * level} {self.name}", "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
        for row in self.rows:
            cells = [row.name, figure(row.median), figure(row.p99), f"{row.ratio:.2f}"]
            if aimed:
                cells.append(_aim(row))
            lines.append(_line([*cells, *(figure(row.extra.get(key, "")) for key in extras)]))
        if self.missing:
            lines += ["", "Not measured: " + "; ".join(f"{name} ({why})" for name, why in self.missing.items()) + "."]
        return "\n".join(lines)


def _aim(row: Row) -> str:
    if row.aim is None:
        return ""
    return f"≤ {row.aim:g}: {'reached' if row.reached else 'missed'}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figure(value: float | str) -> str:
    """A figure as it is shown: three digits, or whole from 100 on; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# -- recording -------------------------------------------------------------------------------------------------------


def describe_machine() -> str:
    """One line about where this was measured. The name of a kernel may be private; its leading numbers are not."""
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    numbers = re.match(r"\d+(\.\d+)?", platform.release())
    system = f"{platform.system()} {numbers[0] if numbers else ''}".rstrip()
    return f"{system}, {cpus} CPUs, Python {platform.python_version()}; {versions}"


def _load_average() -> list[float]:
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else []


def _versions() -> dict[str, str]:
    found = {}
    for name in ("cloister", *_PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | elsewhere


def save(tables: list[Table], *, quick: bool = False, load_before: list[float] | None = None) -> Path:
    """Write the tables as JSON, with machine and versions, into a new file in benchmarks/results; return its path.

    `quick` says that the figures are of short runs; `load_before` is the load of the machine before the first one.
    """
    _RESULTS.mkdir(parents=True, exist_ok=True)
    path = _RESULTS / time.strftime("%Y-%m-%dT%H%M%S.json", time.gmtime())
    write(path, tables, quick=quick, load_before=load_before)
    return path


def write(path: Path, tables: list[Table], *, quick: bool = False, load_before: list[float] | None = None) -> None:
    """Write the same into a file of that name, and put it there whole."""
    record = {
        "machine": describe_machine(),
        "versions": _versions(),
        "quick": quick,
        "load before": load_before if load_before is not None else _load_average(),
        "tables": [asdict(table) for table in tables],
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def load(path: Path) -> tuple[dict[str, Any], list[Table]]:
    """Read a file of results: what it says of the run, and its tables. Raises ValueError for any other file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        tables = [Table(**{**table, "rows": [Row(**row) for row in table["rows"]]}) for table in record.pop("tables")]
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no results of this version of the benchmarks: {error}") from error
    return record, tables
