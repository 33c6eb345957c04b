"""Run all benchmarks, or the named ones: ``python -m benchmarks [NAME …]`` where NAME is the end of `bench_NAME.py`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks import harness

_HERE = Path(__file__).parent


def main() -> int:
    """Run what is asked for, print each table when it is ready, save all as JSON. Return 1 if one failed, else 0."""
    known = sorted(path.stem.removeprefix("bench_") for path in _HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure against the floor and the peers."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all without")
    names = parser.parse_args().names or known
    if unknown := set(names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(harness.describe_machine())
    tables: list[harness.Table] = []
    failed = False
    for name in names:
        module = importlib.import_module(f"benchmarks.bench_{name}")
        try:
            for table in module.run():
                print(f"\n{table.to_markdown()}", flush=True)
                tables.append(table)
        except harness.NotHere as reason:
            print(f"\n{name}: not measured: {reason}", flush=True)
        except Exception as error:
            # One broken benchmark must not take the figures of the others with it.
            print(f"\n{name}: FAILED: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed = True
    print(f"\nwritten to {harness.save(tables)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
