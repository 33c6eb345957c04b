"""Run benchmarks, compare two runs, publish one.

    python -m benchmarks [--quick] [NAME …]         run all, or bench_NAME.py; results go to benchmarks/results
    python -m benchmarks peer NAME                  get a peer that is too large for the environment of all: ray
    python -m benchmarks compare BEFORE AFTER       fail where something takes longer, by the floors of both runs
    python -m benchmarks publish RESULTS            make the plots and tables of the documents from a run

Each benchmark has a process of its own, and a limit. One that is broken, or hangs, does not take the figures of the
others with it; the run fails at its end. What was measured until a run was interrupted is written, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks import comparison, ray_peer, results, runner

_HERE = Path(__file__).parent
LIMIT = 1.5
"""A row that takes so many times as long as before, in units of its floor, is a regression."""
LIMIT_S, QUICK_LIMIT_S = 600.0, 120.0
"""What a benchmark may take; five times as long as any does on two processors."""


def main(args: list[str]) -> int:
    """Do what is asked for. Return 1 if something failed, else 0."""
    if args[:1] == ["compare"]:
        return _compare(args[1:])
    if args[:1] == ["publish"]:
        return _publish(args[1:])
    if args[:1] == ["peer"]:
        return _peer(args[1:])
    if args[:1] == ["alone"]:
        return _alone(args[1:])
    return _run(args)


def _run(args: list[str]) -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in _HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure against the floor and the peers."
    )
    parser.add_argument("--quick", action="store_true", help="short runs: to see that all works, not to quote")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all without")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="what one benchmark may take")
    given = parser.parse_args(args)
    names = given.names or known
    if unknown := set(names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    load = list(os.getloadavg()) if hasattr(os, "getloadavg") else []
    limit = given.limit or (QUICK_LIMIT_S if given.quick else LIMIT_S)
    print(results.describe_machine(), flush=True)
    tables: list[results.Table] = []
    failed: list[str] = []
    begun = time.monotonic()
    try:
        for name in names:
            started = time.monotonic()
            outcome = runner.measure_apart(f"benchmarks.bench_{name}", quick=given.quick, limit=limit)
            tables += outcome.tables
            results.elsewhere.update(outcome.versions)
            if outcome.failed:
                failed.append(f"{name} ({outcome.failed})")
            print(f"\n({name}: {time.monotonic() - started:.0f} s)", flush=True)
    except KeyboardInterrupt:
        failed.append("interrupted")
    aimed = [row for table in tables for row in table.rows if row.aim is not None]
    print(f"\n{sum(row.reached for row in aimed)} of {len(aimed)} aims reached, in {time.monotonic() - begun:.0f} s")
    print(f"written to {results.save(tables, quick=given.quick, load_before=load)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _alone(args: list[str]) -> int:
    """What `runner` begins: one benchmark, in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks alone")
    parser.add_argument("module")
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", type=float, default=LIMIT_S)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(args)
    return runner.measure(given.module, given.file, quick=given.quick, limit=given.limit)


def _peer(args: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks peer", description="Install a peer into an environment of its own."
    )
    parser.add_argument("name", choices=["ray"])
    parser.parse_args(args)
    return ray_peer.install()


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
