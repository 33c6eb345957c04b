"""Run one benchmark in a process of its own, so that whatever happens to it, the others have their figures.

It has a limit: one that hangs is ended, and the stacks of its threads are printed. A table counts as soon as it was
made: what a benchmark measured before it failed is kept. Its processes are in a session of their own, and end with it.
Not here: what is measured, and what a file of results looks like (`results`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import harness, results

__all__ = ["CHECKOUT", "Outcome", "measure", "measure_apart"]

CHECKOUT = Path(__file__).resolve().parent.parent
DONE, NOT_HERE, FAILED = 0, 3, 4
GRACE_S = 10.0
"""How long a benchmark may take to end, past its limit."""


@dataclass(slots=True)
class Outcome:
    """What became of a benchmark."""

    tables: list[results.Table] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """What took part and is installed elsewhere."""
    failed: str = ""
    """Why it has not measured all; empty where it has, and where something that it needs is missing."""


def measure(module: str, file: Path, *, quick: bool, limit: float) -> int:
    """Run a benchmark here, in a process that is there for nothing else. Print each table, and keep it in the file.

    Returns one of DONE, NOT_HERE and FAILED; past the limit, in seconds, it does not return.
    """
    harness.quick = quick
    faulthandler.enable()
    faulthandler.dump_traceback_later(limit, exit=True)
    tables: list[results.Table] = []
    try:
        for table in importlib.import_module(module).run():
            print(f"\n{table.to_markdown()}", flush=True)
            tables.append(table)
            results.write(file, tables, quick=quick)
    except harness.NotHere as reason:
        print(f"\n{_short(module)}: not measured: {reason}", flush=True)
        return NOT_HERE
    except Exception as error:
        traceback.print_exc()
        print(f"\n{_short(module)}: FAILED: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return FAILED
    finally:
        faulthandler.cancel_dump_traceback_later()
    return DONE


def measure_apart(module: str, *, quick: bool, limit: float) -> Outcome:
    """Run a benchmark in a process of its own, for so many seconds at most."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", "benchmarks", "alone", module, str(file), "--limit", str(limit)]
        begun = time.monotonic()
        code = _run([*command, *(["--quick"] if quick else [])], limit + GRACE_S)
        late = time.monotonic() - begun >= limit
        if file.exists():
            record, outcome.tables = results.load(file)
            outcome.versions = record["versions"]
    if code not in (DONE, NOT_HERE, FAILED):
        outcome.failed = f"took more than {limit:g} s" if code is None or late else _of_code(code)
        print(f"\n{_short(module)}: FAILED: {outcome.failed}", file=sys.stderr, flush=True)
    elif code == FAILED:
        outcome.failed = "raised"
    return outcome


def _run(command: list[str], limit: float) -> int | None:
    """The exit code of a program; None where it did not end in time. Nothing of its session is left."""
    process = subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if sys.platform == "win32":
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _of_code(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _short(module: str) -> str:
    return module.rpartition(".")[2].removeprefix("bench_")
