"""The demo, run once as a program for all tests that only look at what came of it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

# The demo's domains are processes, and some of its modules' defects are those of POSIX.
collect_ignore_glob = ["test_*.py"] if sys.platform == "win32" else []

COMMAND = [sys.executable, "-W", "error", "-m", "cloister", "demo"]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run."""

    code: int
    stdout: str
    stderr: str
    page: str
    seconds: float

    def row(self, file: str) -> str:
        """The row of a file in the table at the end, blanks made single."""
        table = self.stdout.partition("\nfile ")[2]
        return next(" ".join(line.split()) for line in table.splitlines() if line.startswith(f"{file} "))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of ``cloister demo --report FILE`` into pipes."""
    for library in ("PIL", "polars", "pypdf"):
        pytest.importorskip(library, reason="the demo's modules read with it: pip install 'cloister[demo]'")
    report = tmp_path_factory.mktemp("demo") / "report.html"
    begun = time.monotonic()
    command = [*COMMAND, "--report", str(report)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=28, check=False)
    seconds = time.monotonic() - begun
    page = report.read_text(encoding="utf-8") if report.exists() else ""
    return Run(done.returncode, done.stdout, done.stderr, page, seconds)
