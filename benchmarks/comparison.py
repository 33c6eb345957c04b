"""Two files of results, side by side: what has become slower?

Compared are ratios to the floor of the same run, because absolute figures drift with the machine. A row that is in only
one of the files is named and compared with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import results

__all__ = ["Change", "changes", "compare_files"]


@dataclass(frozen=True, slots=True)
class Change:
    """A row of both files."""

    table: str
    row: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        """How many times as long it takes as before, measured by the floors of both."""
        return self.after / self.before if self.before else 1.0


def changes(before: list[results.Table], after: list[results.Table]) -> tuple[list[Change], list[str]]:
    """The rows that both have, the worst change first, and the names of those that only one has."""
    old, new = _ratios(before), _ratios(after)
    found = [Change(*key, old[key], new[key]) for key in old.keys() & new.keys()]
    found.sort(key=lambda change: (-change.factor, change.table, change.row))
    return found, sorted(" / ".join(key) for key in old.keys() ^ new.keys())


def compare_files(before: Path, after: Path, limit: float) -> int:
    """Print what has changed; return 1 where something takes more than `limit` times as long as before, else 0.

    Raises ValueError where a file holds no results, or both have nothing in common.
    """
    found, alone = changes(results.load(before)[1], results.load(after)[1])
    if not found:
        raise ValueError(f"{before} and {after} have no row in common")
    worse = [change for change in found if change.factor > limit]
    shown = [change for change in found if change.factor > limit or change.factor < 1 / limit]
    for change in shown:
        mark = "SLOWER" if change.factor > limit else "quicker"
        print(
            f"{mark:8}{change.factor:6.2f} ×  {change.table} / {change.row}: "
            f"{change.before:.2f} → {change.after:.2f} × floor"
        )
    for name in alone:
        print(f"only in one: {name}")
    print(f"{len(found)} rows compared; {len(worse)} take more than {limit:g} times as long as before")
    return int(bool(worse))


def _ratios(tables: list[results.Table]) -> dict[tuple[str, str], float]:
    return {(table.name, row.name): row.ratio for table in tables for row in table.rows if row.name != table.floor}
