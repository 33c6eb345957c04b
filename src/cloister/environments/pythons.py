"""Which interpreter is meant by a version: ``"3.12"`` finds a Python 3.12 of this machine.

Looked for, in this order: the interpreter that runs this, the ``PATH``, pyenv's versions, the place beside this one's
installation. Each candidate is asked who it is, because a name on the path may be a shim that finds nothing to run.
Any thread may enter; what was found is remembered for the life of this process.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

__all__ = ["base_python", "find_python", "is_version"]

ASK_S: Final = 30.0
_VERSION: Final = re.compile(r"3(\.\d+){1,2}")


def is_version(text: str) -> bool:
    """Whether a text is a version, such as ``3.12`` or ``3.12.1``, and not a path."""
    return _VERSION.fullmatch(text) is not None


def base_python() -> str:
    """The interpreter that runs this, without the virtual environment that it may be in; empty where it is unknown."""
    return getattr(sys, "_base_executable", None) or sys.executable


@functools.cache
def find_python(version: str) -> str | None:
    """Return the path of an interpreter of that version that runs, or None."""
    own = ".".join(map(str, sys.version_info[:3]))
    if not getattr(sys, "frozen", False) and _fits(own, version) and base_python():
        return base_python()
    return next((path for path in _candidates(version) if _fits(_ask(path), version)), None)


def _fits(found: str, version: str) -> bool:
    return found == version or found.startswith(version + ".")


def _candidates(version: str) -> Iterator[str]:
    short = ".".join(version.split(".")[:2])
    end = ".exe" if sys.platform == "win32" else ""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in (f"python{short}", "python3", "python"):
            found = shutil.which(name, path=folder)
            if found:
                yield found
    root = os.environ.get("PYENV_ROOT") or os.path.join(os.path.expanduser("~"), ".pyenv")
    for place in (os.path.join(root, "versions"), os.path.dirname(sys.base_prefix)):
        for folder in sorted(glob.glob(os.path.join(glob.escape(place), f"{version}*")), reverse=True):
            if not folder.endswith("t"):  # free-threaded: another platform, for which few packages are built
                yield os.path.join(folder, *(() if end else ("bin",)), f"python{end}")


def _ask(python: str) -> str:
    program = "import sys; print(*sys.version_info[:3], sep='.')"
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
