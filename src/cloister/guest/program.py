"""Running a program inside this process: its arguments, where it finds its neighbours, its exit code.

`sys.argv` and `sys.path` belong to the whole process, so one program at a time should run; with
``max_concurrency=1`` that holds by itself. Runs on the thread that calls.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import TYPE_CHECKING, Any

from cloister.objects import targets

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["exit_code", "run_file", "run_function", "run_program"]


def run_program(run: Callable[[], Any], name: str, args: list[str]) -> int:
    """Run a program with these arguments and return its exit code; an exception other than SystemExit goes on."""
    before = sys.argv
    sys.argv = [name, *args]
    try:
        run()
    except SystemExit as end:
        return exit_code(end)
    finally:
        sys.argv = before
    return 0


def run_file(path: str, args: list[str]) -> int:
    """Run a file, or a folder or archive with a ``__main__`` in it, as ``python path`` does; return its exit code.

    Modules beside the file can be imported, by this program only for as long as it runs. Raises as `run_program`.
    """

    def run() -> None:
        runpy.run_path(path, run_name="__main__")

    if not os.path.isfile(path) or path.endswith((".zip", ".pyz")):  # `runpy` puts these on the path itself
        return run_program(run, path, args)
    return _beside(path, run, args)


def run_function(target: str, args: list[str]) -> int:
    """Call ``module:function`` as the script of an installed program does, one of a file beside its neighbours; return
    its exit code. Raises as `run_program`."""

    def run() -> None:
        sys.exit(targets.resolve(target)())

    module, _ = targets.split(target)
    return _beside(module, run, args) if targets.is_file(module) else run_program(run, target, args)


def _beside(path: str, run: Callable[[], None], args: list[str]) -> int:
    """Run what is in a file; the modules beside it can be imported meanwhile."""
    beside = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, beside)
    try:
        return run_program(run, path, args)
    finally:
        if beside in sys.path:
            sys.path.remove(beside)


def exit_code(end: SystemExit) -> int:
    """The exit code that the interpreter would give: None is 0, a text is printed and is 1."""
    code = end.code
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code)
    print(code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    return 1
