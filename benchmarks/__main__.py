"""Run benchmarks, compare two runs, publish one.

    python -m benchmarks [--quick] [NAME …]         run all, or bench_NAME.py; results go to benchmarks/results
    python -m benchmarks compare BEFORE AFTER       fail where something takes longer, by the floors of both runs
    python -m benchmarks publish RESULTS            make the plots and tables of the documents from a run

One broken benchmark does not take the figures of the others with it; the run fails at its end.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from benchmarks import comparison, harness, results

_HERE = Path(__file__).parent
LIMIT = 1.5
"""A row that takes so many times as long as before, in units of its floor, is a regression."""


def main(args: list[str]) -> int:
    """Do what is asked for. Return 1 if something failed, else 0."""
    if args[:1] == ["compare"]:
        return _compare(args[1:])
    if args[:1] == ["publish"]:
        return _publish(args[1:])
    return _run(args)


def _run(args: list[str]) -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in _HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure against the floor and the peers."
    )
    parser.add_argument("--quick", action="store_true", help="short runs: to see that all works, not to quote")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all without")
    given = parser.parse_args(args)
    names = given.names or known
    if unknown := set(names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    harness.quick = given.quick
    load = list(os.getloadavg()) if hasattr(os, "getloadavg") else []
    print(results.describe_machine())
    tables: list[results.Table] = []
    failed: list[str] = []
    for name in names:
        begun = time.monotonic()
        try:
            module = importlib.import_module(f"benchmarks.bench_{name}")
            for table in module.run():
                print(f"\n{table.to_markdown()}", flush=True)
                tables.append(table)
        except harness.NotHere as reason:
            print(f"\n{name}: not measured: {reason}", flush=True)
        except Exception as error:
            print(f"\n{name}: FAILED: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
        print(f"\n({name}: {time.monotonic() - begun:.0f} s)", flush=True)
    aimed = [row for table in tables for row in table.rows if row.aim is not None]
    print(f"\n{sum(row.reached for row in aimed)} of {len(aimed)} aims reached")
    print(f"written to {results.save(tables, quick=given.quick, load_before=load)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _compare(args: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare", description="Compare the ratios to the floor of two runs."
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--fail-above",
        dest="limit",
        type=float,
        default=LIMIT,
        metavar="TIMES",
        help="fail where something takes more than so many times as long as before; %(default)s without",
    )
    given = parser.parse_args(args)
    try:
        return comparison.compare_files(given.before, given.after, given.limit)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def _publish(args: list[str]) -> int:
    from benchmarks import plots  # it needs matplotlib, which measuring does not

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks publish", description="Make the plots and tables of the documents from a run."
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=plots.FOLDER)
    given = parser.parse_args(args)
    try:
        plots.publish(given.results, given.folder)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
