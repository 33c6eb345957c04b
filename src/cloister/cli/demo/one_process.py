"""The same work without domains: one process, one loop, every exception caught. How far does it get?

`compare` runs this module as a program and watches it. As a program it imports the modules and calls them one after the
other, and writes a line to a file after each. Not here: anything of cloister's but the table of kinds.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister.cli.demo.kinds import kind_of
from cloister.cli.demo.outcomes import counted

__all__ = ["Comparison", "compare"]

PATIENCE = 4.0
"""Seconds without a new line until it is given up; twice what a module has for a file in its domain."""
MEMORY_LIMIT = 4 * 2**30
"""Bytes of address space for the whole: the reader's machine shall not suffer from the comparison."""
_LOOK = 0.02


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far one process got."""

    done: int
    """Files that it had done with, exceptions among them."""
    total: int
    last: str
    """The file at which it ended; empty where it got through."""
    end: str
    """How it ended, in a few words; empty where it got through."""

    def __str__(self) -> str:
        if not self.end:
            return f"one process got through all of {counted(self.total, 'file')}"
        done = f"one process did {self.done} of {counted(self.total, 'file')}"
        return f"{done}, then {self.end} at {self.last}; {self.total - self.done} not read"


def compare(files: Sequence[Path], work: Path) -> Comparison:
    """Read the files in one process that is none of ours; never takes longer than its last line and `PATIENCE`."""
    progress = work / "one-process.txt"
    progress.touch()
    command = [sys.executable, "-m", __name__, os.fspath(progress)]
    # A session of its own: Ctrl-C is for the server, which ends this below.
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=work,
        start_new_session=True,
    )
    try:
        assert child.stdin is not None
        with child.stdin as names:
            names.write(b"\0".join(os.fsencode(path.absolute()) for path in files))
        hung = _wait(child, progress)
    finally:
        child.kill()
        child.wait()
    done = progress.read_bytes().count(b"\n")
    last = files[done].name if done < len(files) else ""
    return Comparison(done, len(files), last, _end(child.returncode, hung) if done < len(files) else "")


def _wait(child: subprocess.Popen[bytes], progress: Path) -> bool:
    """Wait until it has ended, and return False, or until it makes no progress, and return True."""
    size, deadline = 0, time.monotonic() + PATIENCE
    while child.poll() is None:
        if (now := progress.stat().st_size) != size:
            size, deadline = now, time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            return True
        time.sleep(_LOOK)
    return False


def _end(code: int, hung: bool) -> str:
    if hung:
        return "hung"
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def _main(progress: str) -> None:
    files = [Path(os.fsdecode(name)) for name in sys.stdin.buffer.read().split(b"\0")]
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Path(progress).open("w", encoding="utf-8") as lines:
        for path in files:
            try:
                kind = kind_of(path)
                said = "unknown" if kind is None else importlib.import_module(kind.module).read(path)
            except Exception as error:
                said = f"raised {type(error).__name__}"
            print(said.replace("\n", " "), file=lines, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
