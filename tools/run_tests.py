"""Run the suite: all of it on the first Python with coverage, its core on every other supported Python.

Not here: how environments are made; that is environment.py. The last thing printed is a summary of pytest's.

    python3 tools/run_tests.py [arguments of pytest]     with arguments: the first Python only, and no floor
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from environment import CHECKOUT, EnvironmentFailed, main_environment, other_environment, other_pythons

# House, documents and what is built on the library do not depend on the version of Python.
NOT_CORE = ["house", "docs", "cli", "examples", "integrations", "peers", "typing"]
# What a domain tells of itself, and how it is watched, depends on the kernel and the clock.
NOT_CORE += [
    f"domain/test_{name}.py" for name in "host_death lost_status output reports signs_of_life stops vitals".split()
]
CORE = ["--core", "-m", "not slow", *(f"--ignore=tests/{place}" for place in NOT_CORE)]

# Most tests wait for another process most of their time. The tests of one file stay together and share its fixtures.
SIDE_BY_SIDE = ["-n", "auto", "--maxprocesses=4", "--dist=loadfile"]


# The floor of the coverage is asked for by itself.
NO_FLOOR = ["--cov-fail-under=0"]


def run_everything() -> int:
    """Run the suite on each Python. Return 0 when all of them passed, otherwise 1."""
    worst = _twice(main_environment(), ["--cov", "--cov-report=term"], [])
    others = other_pythons()
    for version, python in others.items():
        if python is None:
            print(f"\nPython {_name(version)} is not on this machine; the suite was not run on it.", flush=True)
    for version, python in others.items():
        if python is not None:
            print(f"\nPython {_name(version)}, {python}:", flush=True)
            worst = max(worst, _twice(other_environment(version, python), CORE, CORE))
    return worst


def _twice(interpreter: Path, arguments: list[str], again: list[str]) -> int:
    """Run the suite side by side, and what has failed once more, one after the other and without coverage.

    On a busy machine a test of a time-out may fail by the machine's fault. What passes only then is named by the first
    run's summary, and is to be mended.
    """
    failed, uncovered = _pytest(interpreter, [*SIDE_BY_SIDE, *arguments])
    if failed:
        print("\nWhat has failed, once more and alone:", flush=True)
        failed, _ = _pytest(interpreter, ["--last-failed", "--last-failed-no-failures=none", *again])
    return max(failed, uncovered)


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
