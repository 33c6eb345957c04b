"""The sub-command ``cloister demo``: its options, and one run from the making of the files to the look for leftovers.

Exit codes: 0, 1 where something is left over or the demo could not be made ready, 2 for words that make no sense, 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from cloister import CloisterError, Domain
from cloister.cli.demo import leftovers
from cloister.cli.demo.intake import Intake
from cloister.cli.demo.kinds import KINDS, sorted_files
from cloister.cli.demo.one_process import compare
from cloister.cli.demo.outcomes import Outcome
from cloister.cli.demo.record import Record
from cloister.cli.demo.screen import Screen, screen_for

__all__ = ["add_to", "run"]

INTERRUPTED = 130
"""The exit code that a shell gives to a program that Ctrl-C ended: 128 and the number of SIGINT."""
_NEEDS = {"PIL": "Pillow", "pypdf": "pypdf", "polars": "polars"}


class _Unready(Exception):
    """The demo can't begin. The message says why and what to do."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this sub-command to a command line."""
    parser = commands.add_parser(
        "demo",
        help="read a folder of good, damaged and hostile files, each kind in its own domain",
        description="An intake server reads a folder of files, each kind with a module in a domain of its own. Some "
        "modules crash, hang, eat memory or leave; the server goes on and says exactly what happened.",
    )
    suffixes = " ".join(suffix for kind in KINDS for suffix in kind.suffixes)
    parser.add_argument("--folder", type=Path, help=f"read the files of this folder, not the demo's own: {suffixes}")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what happened into FILE, as one HTML page")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo and return the exit code. `options` has `folder` and `report`, both Path or None."""
    record = Record()
    screen = screen_for(sys.stdout)
    folders: list[Path] = []
    before: leftovers.Before | None = None
    interrupted = False
    try:
        if options.report is not None:
            _try_to_write(options.report)
        before = leftovers.look()
        with tempfile.TemporaryDirectory(prefix="cloister-demo-") as work:
            folders.append(Path(work))
            files = _files(options.folder, Path(work), record, screen)
            _read(files, Path(work), screen, record)
            record.comparison = compare(files, Path(work))
        record.left = leftovers.found(before, {life.pid for life in record.lives}, folders)
        screen.summary(record)
        if options.report is not None:
            _write(record, options.report)
            screen.say(f"report:           {options.report}")
    except (_Unready, CloisterError) as reason:
        _complain(str(reason))
        return 1
    except BrokenPipeError:
        # Who read the lines has gone. What is still in the buffer has nowhere to go when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        interrupted = True  # and the frames that it went through are let go of, with what they hold
    if interrupted:
        left = leftovers.found(before, {life.pid for life in record.lives}, folders) if before else []
        rest = "nothing is left over" if not left else "left over: " + "; ".join(left)
        _complain(f"interrupted after {len(record.outcomes)} files; {rest}")
        return INTERRUPTED
    return 1 if record.left else 0


def _complain(text: str) -> None:
    sys.stderr.write(f"cloister demo: {text}\n")


def _files(folder: Path | None, work: Path, record: Record, screen: Screen) -> list[Path]:
    """The files to read: of `folder`, or made now. Raises _Unready."""
    if folder is None:
        missing = [name for module, name in _NEEDS.items() if find_spec(module) is None]
        if missing:
            raise _Unready(f"it needs {' and '.join(missing)}, not installed here: pip install 'cloister[demo]'")
        folder = work / "in"
        folder.mkdir()
        begun = time.monotonic()
        with Domain("material", echo=False) as domain:
            record.faults = domain.call("cloister.cli.demo.material.arrivals:write", folder)
        screen.say(f"made {len(record.faults)} files in {time.monotonic() - begun:.1f} s; now they are read")
    try:
        files = sorted_files(folder)
    except OSError as error:
        raise _Unready(f"can't read the folder {folder}: {error.strerror}") from error
    if not files:
        raise _Unready(f"there is no file in {folder}")
    return files


def _read(files: list[Path], work: Path, screen: Screen, record: Record) -> None:
    intake = Intake(files, work)
    try:
        with intake, screen:
            screen.watch(intake)
            for outcome in intake.read_all():
                if isinstance(outcome, Outcome):
                    record.outcomes.append(outcome)
                    screen.show(outcome)
                else:
                    screen.tick()
    finally:
        record.lives, record.seconds = intake.lives, intake.clock()


def _try_to_write(path: Path) -> None:
    """Find out before the work whether its report can be written. Raises _Unready."""
    existed = path.exists()
    try:
        path.open("a").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise _Unready(f"can't write the report to {path}: {error.strerror}; nothing was done") from error


def _write(record: Record, path: Path) -> None:
    from cloister.cli.demo.page import page

    try:
        path.write_text(page(record), encoding="utf-8")
    except OSError as error:
        raise _Unready(f"can't write the report to {path}: {error.strerror}") from error
