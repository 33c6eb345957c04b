"""Run the suite once, each test on one Python; or its core on the Pythons that are left.

The tests of the library run on the newest Python, with coverage. What does not depend on the version (house, documents,
programs) runs on the first one, which has the tools for it. Where there is one only, it runs everything. A run in which
nothing happens any more is ended, with the stack of each thread. Not here: how environments are made; that is
environment.py. The last thing printed is a summary.

    python3 tools/run_tests.py                           each test once
    python3 tools/run_tests.py --others                  the core, on each Python that has not run it there
    python3 tools/run_tests.py [arguments of pytest]     the first Python only, and no floor
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from environment import CHECKOUT, EnvironmentFailed, main_environment, other_environment, other_pythons

# House, documents and what is built on the library do not depend on the version of Python.
ONCE = ["house", "docs", "cli", "examples", "integrations", "peers", "typing"]
# What a domain tells of itself, and how it is watched, depends on the kernel and the clock.
NOT_CORE = [
    f"domain/test_{name}.py" for name in "host_death lost_status output reports signs_of_life stops vitals".split()
]
# Messages are bytes on every Python.
NOT_CORE.append("wire")
# What is neither the first nor the newest differs from both in how it runs code, threads and coroutines alone.
NOT_BETWEEN = ["domain", "pipes", "environments", "executor", "inspection", "objects"]

PROGRAMS = [f"tests/{place}" for place in ONCE]
LIBRARY = [f"--ignore=tests/{place}" for place in ONCE]
CORE = ["--core", "-m", "not slow", *LIBRARY, *(f"--ignore=tests/{place}" for place in NOT_CORE)]
BETWEEN = [*CORE, *(f"--ignore=tests/{place}" for place in NOT_BETWEEN)]
COVERED = ["--cov", "--cov-report="]

# Most tests wait for another process much of their time, so there are two workers for each processor. The tests of one
# file stay together and share its fixtures, and files keep their order: by size, one long test would come last, alone.
SIDE_BY_SIDE = ["-n", str(min(2 * (os.cpu_count() or 1), 8)), "--dist=loadfile", "--no-loadscope-reorder"]

# More failures than these are not the fault of a busy machine.
MOST_AGAIN = 10

# Seconds in which no test begins or ends. A test has 60, so this is none that takes long: it hangs in a place where its
# limit does not reach, or pytest itself waits for a worker that is gone.
STILL_S = 180
HANGS = "tools/run_tests.py: the run HANGS"

# The note of a run that has left something behind, beside those of the tests that run; see tests/running.py.
# pytest blames the test that came last, which leaves nothing when it runs alone; so the run has a code of its own.
LEFT_NOTE = "left"
LEFT = 64

# How often that is looked at, and how long a process may take to write its stacks.
LOOK_S, STACKS_S = 1, 1

CACHE = CHECKOUT / ".cache"


def run_everything(run: Callable[[], int]) -> int:
    """Run the whole or the others. Return 0 when all tests passed, otherwise 1."""
    shutil.rmtree(_place(), ignore_errors=True)  # of another process with this number
    try:
        return run()
    finally:
        shutil.rmtree(_place(), ignore_errors=True)


def _place() -> Path:
    """Where this run keeps its notes and figures. Another one of this checkout has a place of its own."""
    return CACHE / "runs" / str(os.getpid())


def whole() -> int:
    """Run each test, on one Python."""
    main, found, newest = _pythons()
    suite = _Suite()
    if newest is None:
        suite.run("", main, COVERED)
        return suite.told(_report(main))
    suite.run("", main, [*COVERED, *PROGRAMS])
    interpreter = other_environment(newest, found[newest])
    name = f"Python {_name(newest)}"
    print(f"\n{name}, {found[newest]}:", flush=True)
    suite.run(f"{name}: ", interpreter, [*COVERED, *LIBRARY])
    return suite.told(_report(interpreter))


def others() -> int:
    """Run the core on the Pythons on which the library was not tested: all of it on the oldest one."""
    main, found, newest = _pythons()
    for version in other_pythons().keys() - found.keys():
        print(f"\nPython {_name(version)} is not on this machine; the suite is not run on it.", flush=True)
    suite = _Suite()
    if newest is not None:
        suite.run("", main, CORE)
    oldest = min(found, default=None)
    for version, python in found.items():
        if version != newest:
            name = f"Python {_name(version)}"
            print(f"\n{name}, {python}:", flush=True)
            core = CORE if newest is None and version == oldest else BETWEEN
            suite.run(f"{name}: ", other_environment(version, python), core)
    return suite.told(0)


def _pythons() -> tuple[Path, dict[tuple[int, int], str], tuple[int, int] | None]:
    """The interpreter that `make` uses; the other Pythons of this machine; and which one the library is tested on.

    That is the newest, for coverage is cheap there; None where it is the first one.
    """
    main = main_environment()
    found = {version: python for version, python in other_pythons().items() if python is not None}
    newest = max(found, default=None)
    return main, found, None if newest is None or newest < _version(main) else newest


class _Suite:
    """What has been run up to now: whether anything failed, and what passed only when it ran again, alone."""

    def __init__(self) -> None:
        self.failed = 0
        self.again: list[str] = []
        self._begun = time.monotonic()

    def told(self, uncovered: int) -> int:
        """Say how long it took, and what passed in the end. Return 0 when nothing has failed, otherwise 1."""
        print(f"\nAll of it took {time.monotonic() - self._begun:.0f} s.", flush=True)
        if self.again:
            print(f"{len(self.again)} test(s) FAILED FIRST and passed alone afterwards.", flush=True)
            print("Each is a defect, here or in the library:")
            print("\n".join(f"  {line}" for line in self.again), flush=True)
        return max(self.failed, uncovered)

    def run(self, on: str, interpreter: Path, arguments: list[str]) -> None:
        """Run tests side by side, and what has failed once more, one after the other and without coverage.

        On a busy machine a test of a time-out may fail by the machine's fault. What passes only then is told at the
        very end. Many failures are no accident: they get no second chance. Neither does a run that ended for another
        reason than tests that failed: most of its tests may not have run, and none of those that failed is the cause.
        """
        cache = _place() / "pytest"
        notes = cache / "v/cache/lastfailed"
        notes.unlink(missing_ok=True)  # of the run before, with other tests
        arguments = [*arguments, "-o", f"cache_dir={cache}"]
        failed = _pytest(interpreter, [*SIDE_BY_SIDE, *arguments])
        names = _failed(notes) if failed == 1 else []
        if 0 < len(names) <= MOST_AGAIN:
            print("\nWhat has failed, once more and alone:", flush=True)
            alone = [word for word in arguments if word not in COVERED]
            failed = _pytest(interpreter, ["--last-failed", "--last-failed-no-failures=none", *alone])
            still = _failed(notes) if failed else []
            self.again += [on + name for name in names if name not in still]
        self.failed = max(self.failed, min(failed, 1))


def _failed(notes: Path) -> list[str]:
    """What has failed in the last run, by pytest's own notes."""
    try:
        return sorted(json.loads(notes.read_text()))
    except (OSError, ValueError):
        return []


def _name(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _version(interpreter: Path) -> tuple[int, int]:
    words = [str(interpreter), "-c", "import sys; print(*sys.version_info[:2])"]
    major, minor = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return int(major), int(minor)


def _pytest(interpreter: Path, arguments: list[str]) -> int:
    """Run pytest. Return its own code: 0 when its tests passed, 1 when some failed.

    Other codes are `LEFT`, 2 when it was ended because it hung, and 128 and the signal when one has killed it.
    """
    subprocess.run([str(interpreter), "-m", "compileall", "-q", "src", "tests/modules"], cwd=CHECKOUT, check=False)
    data = _place() / "coverage" / f"data-{time.monotonic_ns()}"
    running = _place() / "running"
    shutil.rmtree(running, ignore_errors=True)
    for folder in (data.parent, running):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "COVERAGE_FILE": str(data), "CLOISTER_TESTS_RUNNING": str(running)}
    # What is not changed between two runs need not be compiled in each worker; guests do not write, see conftest.py.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # The floor of the coverage is asked for by itself.
    command = [str(interpreter), "-m", "pytest", *arguments, "--cov-fail-under=0"]
    try:
        # A session of its own: its workers are in it, and all of it can be ended.
        with subprocess.Popen(command, cwd=CHECKOUT, env=environment, start_new_session=True) as run:
            try:
                code = _wait(run, running)
                return LEFT if code == 1 and (running / LEFT_NOTE).exists() else code
            except KeyboardInterrupt:
                run.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    run.wait(10)
                raise
            finally:
                if run.returncode is None:
                    _end(run)
    finally:
        shutil.rmtree(running, ignore_errors=True)


def _wait(run: subprocess.Popen[bytes], running: Path) -> int:
    """Wait until pytest has ended, or until no test has begun or ended for `STILL_S`; then end it, with its stacks."""
    seen, since = 0, time.monotonic()
    while True:
        try:
            code = run.wait(LOOK_S)
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            pass
        now = running.stat().st_mtime_ns  # each test makes a note there while it runs, see conftest.py
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STILL_S:
            print(f"\n{HANGS}: no test has begun or ended for {STILL_S} s. The stacks:", flush=True)
            names = _stacks(run, running)
            print(f"\n{HANGS} and was killed. What ran:", *names, sep="\n  ", flush=True)
            return 2


def _stacks(run: subprocess.Popen[bytes], running: Path) -> list[str]:
    """End a run that hangs, with the stacks of all its threads. Return the tests that ran."""
    names = {int(note.name): note.read_text() for note in running.iterdir() if note.name.isdigit()}
    if run.pid not in names:  # its workers run the tests: no new ones, and one after the other
        run.send_signal(signal.SIGSTOP)
    for pid in [*(names.keys() - {run.pid}), run.pid]:
        with suppress(OSError):  # it has ended; its number may be another process's by now, which is left alone
            if os.getsid(pid) == run.pid:
                os.kill(pid, signal.SIGABRT)  # pytest's faulthandler writes the stacks
                os.kill(pid, signal.SIGCONT)
        time.sleep(STACKS_S)
    _end(run)
    return list(names.values()) or ["no test"]


def _end(run: subprocess.Popen[bytes]) -> None:
    """End pytest and its workers by force."""
    run.poll()
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def _report(interpreter: Path) -> int:
    """Print the coverage of all runs together. Return 1 where it is below the floor, otherwise 0."""
    data = _place() / "coverage" / "data"
    environment = {**os.environ, "COVERAGE_FILE": str(data)}
    coverage = [str(interpreter), "-m", "coverage"]
    found = [str(file) for file in data.parent.glob("data-*")]
    subprocess.run([*coverage, "combine", "-q", *found], cwd=CHECKOUT, env=environment, check=False)
    done = subprocess.run([*coverage, "report", "--ignore-errors"], cwd=CHECKOUT, env=environment, check=False)
    with suppress(OSError):  # for whoever looks closer afterwards
        (CACHE / "coverage").mkdir(parents=True, exist_ok=True)
        data.replace(CACHE / "coverage" / "data")
    return min(abs(done.returncode), 1)


def _one_run(arguments: list[str]) -> int:
    """Run pytest once, as it is asked for. Return 0 when its tests passed, otherwise 1."""
    try:
        # An empty suite (5) is a failure too: it proves nothing.
        return min(_pytest(main_environment(), arguments), 1)
    finally:
        shutil.rmtree(_place(), ignore_errors=True)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Pytest is in a session of its own, so whoever ends this run ends it through us.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        if sys.argv[1:] in ([], ["--others"]):
            sys.exit(run_everything(others if sys.argv[1:] else whole))
        sys.exit(_one_run(sys.argv[1:]))
    except EnvironmentFailed as error:
        sys.exit(f"tools/run_tests.py: {error}")
    except KeyboardInterrupt:
        sys.exit("tools/run_tests.py: interrupted")
