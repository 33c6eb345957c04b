"""Run the suite: all of it on the first Python with coverage, its core on the newest, and a part of that between.

Not here: how environments are made; that is environment.py. The last thing printed is a summary of pytest's.

    python3 tools/run_tests.py [arguments of pytest]     with arguments: the first Python only, and no floor
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from environment import CHECKOUT, EnvironmentFailed, main_environment, other_environment, other_pythons

# House, documents and what is built on the library do not depend on the version of Python.
NOT_CORE = ["house", "docs", "cli", "examples", "integrations", "peers", "typing"]
# What a domain tells of itself, and how it is watched, depends on the kernel and the clock.
NOT_CORE += [
    f"domain/test_{name}.py" for name in "host_death lost_status output reports signs_of_life stops vitals".split()
]
CORE = ["--core", "-m", "not slow", *(f"--ignore=tests/{place}" for place in NOT_CORE)]
# What is neither the first nor the newest differs from both in how it runs code, threads and coroutines alone.
NOT_BETWEEN = ["domain", "pipes", "wire", "environments", "inspection"]
BETWEEN = [*CORE, *(f"--ignore=tests/{place}" for place in NOT_BETWEEN)]

# Most tests wait for another process much of their time, so there are two workers for each processor. The tests of one
# file stay together and share its fixtures, and files keep their order: by size, one long test would come last, alone.
SIDE_BY_SIDE = ["-n", str(min(2 * (os.cpu_count() or 1), 8)), "--dist=loadfile", "--no-loadscope-reorder"]

# More failures than these are not the fault of a busy machine.
MOST_AGAIN = 10

# The floor of the coverage is asked for by itself.
NO_FLOOR = ["--cov-fail-under=0"]


def run_everything() -> int:
    """Run the suite on each Python. Return 0 when all of them passed, otherwise 1."""
    begun = time.monotonic()
    again: list[str] = []
    worst = _twice("", main_environment(), ["--cov", "--cov-report=term"], [], again)
    others = other_pythons()
    newest = max((version for version, python in others.items() if python is not None), default=None)
    for version, python in others.items():
        if python is None:
            print(f"\nPython {_name(version)} is not on this machine; the suite was not run on it.", flush=True)
    for version, python in others.items():
        if python is not None:
            name = f"Python {_name(version)}"
            core = CORE if version == newest else BETWEEN
            print(f"\n{name}, {python}:", flush=True)
            worst = max(worst, _twice(f"{name}: ", other_environment(version, python), core, core, again))
    print(f"\nAll of it took {time.monotonic() - begun:.0f} s.", flush=True)
    if again:
        print(
            f"{len(again)} test(s) FAILED FIRST and passed alone afterwards. Each is a defect, here or in the library:"
        )
        print("\n".join(f"  {line}" for line in again), flush=True)
    return worst


def _twice(on: str, interpreter: Path, arguments: list[str], alone: list[str], again: list[str]) -> int:
    """Run the suite side by side, and what has failed once more, one after the other and without coverage.

    On a busy machine a test of a time-out may fail by the machine's fault. What passes only then is added to `again`,
    and is told at the very end. Many failures are no accident: they get no second chance.
    """
    failed, uncovered = _pytest(interpreter, [*SIDE_BY_SIDE, *arguments])
    names = _failed() if failed else []
    if 0 < len(names) <= MOST_AGAIN:
        print("\nWhat has failed, once more and alone:", flush=True)
        failed, _ = _pytest(interpreter, ["--last-failed", "--last-failed-no-failures=none", *alone])
        still = _failed() if failed else []
        again += [on + name for name in names if name not in still]
    return max(failed, uncovered)


def _failed() -> list[str]:
    """What has failed in the last run, by pytest's own notes."""
    try:
        return sorted(json.loads((CHECKOUT / ".cache/pytest/v/cache/lastfailed").read_text()))
    except (OSError, ValueError):
        return []


def _name(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _pytest(interpreter: Path, arguments: list[str]) -> tuple[int, int]:
    """Run pytest. Return 1 or 0 for its tests, and 1 or 0 for a coverage below the floor, where that is measured."""
    # Two runs of one checkout at once must not write into each other's figures.
    data = CHECKOUT / ".cache" / "coverage"
    data.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "COVERAGE_FILE": str(data / f"data-{os.getpid()}")}
    # Hundreds of guests are started; each would compile what it imports, which takes as long as the rest of its start.
    # What tests write themselves is not compiled into files, which would be taken for leaks.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    subprocess.run([str(interpreter), "-m", "compileall", "-q", "src", "tests/modules"], cwd=CHECKOUT, check=False)
    try:
        done = subprocess.run(
            [str(interpreter), "-m", "pytest", *arguments, *NO_FLOOR], cwd=CHECKOUT, env=environment, check=False
        )
        uncovered = 0
        if "--cov" in arguments:  # the floor is in pyproject.toml; a test that failed must not hide it
            report = [str(interpreter), "-m", "coverage", "report", "--ignore-errors", "--format=total"]
            uncovered = subprocess.run(report, cwd=CHECKOUT, env=environment, check=False).returncode
    finally:
        for file in data.glob(f"data-{os.getpid()}*"):
            file.unlink(missing_ok=True)
    # An empty suite (5) is a failure too: it proves nothing.
    return min(done.returncode, 1), min(uncovered, 1)


if __name__ == "__main__":
    try:
        sys.exit(_pytest(main_environment(), sys.argv[1:])[0] if sys.argv[1:] else run_everything())
    except EnvironmentFailed as error:
        sys.exit(f"tools/run_tests.py: {error}")
