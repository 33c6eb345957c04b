"""Plots and tables of one run, for the documents: an SVG and a PNG for each subject, and all tables as Markdown.

The subject of a table is what stands before the colon in its title. A bar is the ratio to the floor of the same run, on
a logarithmic scale, because ratios reach from a tenth to a thousand. The same results give the same files.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import matplotlib

from benchmarks import results

matplotlib.use("Agg")  # before pyplot is imported: no window is looked for
from matplotlib import pyplot

__all__ = ["FOLDER", "publish", "subjects"]

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "_static" / "benchmarks"
OURS, FLOOR, OTHERS, AIM = "#2b6cb0", "#718096", "#cbd5e0", "#c05621"
LEFT_OUT: Final = ("decode", "encode", "pipe")
"""What only those who work on the package ask; it is in the results, and not on the page."""


def publish(file: Path, folder: Path = FOLDER) -> None:
    """Put the results, their plots and their tables into a folder. Raises ValueError where the file holds none."""
    record, tables = results.load(file)
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        old.unlink()
    if file.resolve() != (folder / "results.json").resolve():
        shutil.copyfile(file, folder / "results.json")
    for subject, theirs in subjects(tables).items():
        if subject not in LEFT_OUT:
            _plot(theirs, folder / subject)
    (folder / "tables.md").write_text(_tables(record, tables), encoding="utf-8")


def subjects(tables: list[results.Table]) -> dict[str, list[results.Table]]:
    """The tables by their subjects, in small letters."""
    found: dict[str, list[results.Table]] = {}
    for table in tables:
        found.setdefault(table.title.partition(":")[0].lower(), []).append(table)
    return found


def _tables(record: dict[str, Any], tables: list[results.Table]) -> str:
    short = " The runs were short ones (`make bench-quick`): read the order, not the digits." if record["quick"] else ""
    load = ", ".join(f"{figure:.1f}" for figure in record["load before"])
    busy = f" The load of the machine before the first run was {load}." if load else ""
    text = [f"Measured on: {record['machine']}.{short}{busy}"]
    for subject, theirs in subjects(tables).items():
        if subject not in LEFT_OUT:
            text += [table.to_markdown() for table in theirs]
    return "\n\n".join(text) + "\n"


def _plot(tables: list[results.Table], path: Path) -> None:
    """Draw a panel for each table, one below the other."""
    heights = [len(table.rows) for table in tables]
    with matplotlib.rc_context({"svg.hashsalt": "cloister", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = pyplot.subplots(
            len(tables),
            figsize=(8, sum(0.27 * height + 0.85 for height in heights)),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        for panel, table in zip(panels[:, 0], tables, strict=True):
            _panel(panel, table)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=80, metadata={"Software": None})
        pyplot.close(figure)


def _panel(panel: Any, table: results.Table) -> None:
    rows = table.rows[::-1]
    ratios = [max(row.ratio, 0.001) for row in rows]
    panel.barh([row.name for row in rows], ratios, color=[_colour(row, table) for row in rows], height=0.72)
    panel.set_xscale("log")
    panel.set_xlim(min(0.5, *ratios) / 1.5, max(2.0, *ratios) * 4)
    panel.axvline(1, color=FLOOR, linewidth=1)
    for at, row in enumerate(rows):
        panel.annotate(
            f" {row.ratio:.2f} ×  ({results.figure(row.median)} {table.unit})",
            (max(ratios[at], 0.001), at),
            va="center",
        )
        if row.aim is not None:
            panel.plot([row.aim, row.aim], [at - 0.46, at + 0.46], color=AIM, linewidth=2.5)
    panel.set_title(f"{table.name}: × {table.floor}", loc="left", fontweight="bold", fontsize=9)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.spines[["top", "right"]].set_visible(False)


def _colour(row: results.Row, table: results.Table) -> str:
    if row.name == table.floor:
        return FLOOR
    return OURS if row.name.startswith("cloister") else OTHERS
