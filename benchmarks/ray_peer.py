"""Ray as a peer, where somebody wants it: it takes 0.3 GB, so it is in no group of the project.

It is used where it is installed: in this environment, or in one of its own, which `install` makes. What is measured
runs there, in `ray_program`; a contestant asks it for times.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import results
from benchmarks.harness import Entered, NotHere

__all__ = ["Cluster", "contestant", "install", "started"]

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "benchmarks" / "ray"
PACKAGES = ["ray>=2.40", "numpy"]
ENDED_S = 60.0
"""How long Ray may take to end."""
SAID = 4000
"""So much of what the program has said is shown where it fails."""
Cluster: TypeAlias = Callable[[str, int], list[float]]
"""What asks the program: what to do, how often; gives seconds."""


def install() -> int:
    """Make the environment, unless it is there. Return 0, or 1 where it can't be made."""
    if _interpreter() is not None:
        print("Ray is here already")
        return 0
    python = FOLDER / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(FOLDER)], check=True)
        subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *PACKAGES], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(FOLDER, ignore_errors=True)
        print(f"Ray can't be installed: {error}. Is there a wheel of it for this Python?", file=sys.stderr)
        return 1
    return 0


def _interpreter() -> str | None:
    """A Python that has Ray."""
    if importlib.util.find_spec("ray") is not None:
        return sys.executable
    python = FOLDER / "bin" / "python"
    return str(python) if any(FOLDER.glob("lib/python*/site-packages/ray/__init__.py")) else None


@contextlib.contextmanager
def started() -> Iterator[Cluster]:
    """Start Ray on this machine. Raises NotHere where it is not installed."""
    python = _interpreter()
    if python is None:
        raise NotHere("Ray is not installed; PEERS=ray, or `python -m benchmarks peer ray`, gets it (0.3 GB)")
    program = [python, str(Path(__file__).with_name("ray_program.py"))]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        told, heard = process.stdin, process.stdout
        assert told is not None
        assert heard is not None

        def read() -> Any:
            if line := heard.readline():
                return json.loads(line)
            process.wait(ENDED_S)
            said.seek(0)
            raise EOFError(f"the program that runs Ray has ended; it said: {said.read()[-SAID:]}")

        def ask(what: str, count: int) -> list[float]:
            print(what, count, file=told, flush=True)
            times: list[float] = read()
            return times

        results.elsewhere["ray"] = read()
        try:
            yield ask
        finally:
            told.close()
            process.wait(ENDED_S)


@contextlib.contextmanager
def contestant(cluster: Cluster, what: str, count: int) -> Iterator[Entered]:
    """What Ray needs for one of the things that its program does."""
    yield lambda: cluster(what, count), []
