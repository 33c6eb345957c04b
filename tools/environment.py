"""Make the virtual environments of the checkout, and find the Pythons of this machine.

Here: `.venv` with everything that developing needs, and `.venv-3.X`, one for each other supported Python, with what
the suite needs. Not here: what runs in them; see the Makefile and run_tests.py.

An environment is reused. It is installed again only when pyproject.toml has changed since, and made again only when
its Python is another one: a stamp in it says what it was made from. Only the standard library and pip are used; what
pip is told by the machine's configuration holds.

    python3 tools/environment.py        make or refresh .venv
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "CHECKOUT",
    "SUPPORTED",
    "EnvironmentFailed",
    "debian_place",
    "find_python",
    "main_environment",
    "other_environment",
    "other_pythons",
]

CHECKOUT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 11), (3, 12), (3, 13), (3, 14))

# pip learnt dependency groups in 25.1.
_PIP = "pip>=25.1"


class EnvironmentFailed(Exception):
    """An environment could not be made. The message says what to do."""


def main_environment() -> Path:
    """Make or refresh `.venv` from the Python that runs this, and return its interpreter.

    Raises EnvironmentFailed: this Python is too old, it can't make environments, or the installation failed.
    """
    version = sys.version_info[:2]
    if version < SUPPORTED[0]:
        wanted = ".".join(map(str, SUPPORTED[0]))
        raise EnvironmentFailed(
            f"cloister needs Python {wanted} or later, and {sys.executable} is {version[0]}.{version[1]}; "
            f"name another one: make PYTHON=python3.X …"
        )
    return _environment(CHECKOUT / ".venv", sys.executable, "dev")


def other_environment(version: tuple[int, int], python: str) -> Path:
    """Make or refresh `.venv-3.X` from the given Python, and return its interpreter. Raises EnvironmentFailed.

    A Python without ensurepip borrows the pip of `.venv`, which has to be there.
    """
    return _environment(CHECKOUT / f".venv-{version[0]}.{version[1]}", python, "test")


def other_pythons() -> dict[tuple[int, int], str | None]:
    """For every supported version but the one of `.venv`: the path of its interpreter, or None where none runs."""
    used = _version(str(_interpreter(CHECKOUT / ".venv"))) or sys.version_info[:2]
    return {version: find_python(version) for version in SUPPORTED if version != used}


def debian_place(version: tuple[int, int]) -> Path:
    """Where debian_python.py puts a Python of that version."""
    return CHECKOUT / ".cache" / f"python-{version[0]}.{version[1]}"


def find_python(version: tuple[int, int]) -> str | None:
    """Return the path of an interpreter of that version that runs, or None."""
    # A name on the path may be a shim that finds nothing to run, so each candidate is asked.
    return next((python for python in _candidates(version) if _version(python) == version), None)


def _candidates(version: tuple[int, int]) -> Iterator[str]:
    name = f"{version[0]}.{version[1]}"
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(f"python{name}", path=directory)
        if found:
            yield found
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    # Free-threaded builds end in t; they are another platform.
    for folder in sorted(root.glob(f"versions/{name}*"), reverse=True):
        if not folder.name.endswith("t"):
            yield str(folder / "bin" / "python")
    yield str(debian_place(version) / "usr" / "bin" / f"python{name}")


def _version(python: str) -> tuple[int, int] | None:
    try:
        done = subprocess.run(
            [python, "-c", "import sys, venv; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        major, minor = done.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return int(major), int(minor)


def _environment(folder: Path, python: str, group: str) -> Path:
    interpreter = _interpreter(folder)
    with _alone():
        made_from = _digest(python, group)
        stamp = folder / ".made-from"
        if interpreter.exists() and stamp.exists() and stamp.read_text() == made_from:
            return interpreter
        print(f"making {folder.name} with {python} …", flush=True)
        if _version(str(interpreter)) != _version(python) or not _imports(str(interpreter), "pip"):
            _make(folder, python)
        pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        failed = "pip could not install what cloister needs; its message above says why. Is the package registry there?"
        _run([*pip, "--upgrade", _PIP], failed)
        _run([*pip, "--group", group, "--editable", "."], failed)
        # Optional, and never compiled here: a Python may be too new for a wheel, a machine without a compiler.
        if subprocess.run(
            [*pip, "--only-binary", ":all:", "--group", "libraries"], cwd=CHECKOUT, check=False
        ).returncode:
            print(
                f"{folder.name} does without the optional libraries; the tests that need them are skipped", flush=True
            )
        stamp.write_text(made_from)
    return interpreter


def _make(folder: Path, python: str) -> None:
    command = [python, "-m", "venv", "--clear", str(folder)]
    lender = _interpreter(CHECKOUT / ".venv")
    interpreter = _interpreter(folder)
    if lender == interpreter or _imports(python, "ensurepip"):
        _run(command, _no_venv(python))
    else:
        _run([*command, "--without-pip"], _no_venv(python))
        pip = [str(lender), "-m", "pip", "--disable-pip-version-check", "--python", str(interpreter)]
        _run([*pip, "install", "--quiet", _PIP], f"the pip of .venv could not install pip into {folder.name}")


def _imports(python: str, module: str) -> bool:
    try:
        return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _interpreter(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _digest(python: str, group: str) -> str:
    project = (CHECKOUT / "pyproject.toml").read_bytes()
    return f"{hashlib.sha256(project).hexdigest()} {group} {Path(python).resolve()}\n"


def _no_venv(python: str) -> str:
    return f"{python} can't make virtual environments; on Debian: apt-get install python3-venv"


def _run(command: list[str], failed: str) -> None:
    try:
        subprocess.run(command, cwd=CHECKOUT, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentFailed(failed) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock while environments are made: two runs of make at once do no harm. Without flock, no lock."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder = CHECKOUT / ".cache"
    folder.mkdir(exist_ok=True)
    with (folder / "environment.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        main_environment()
    except EnvironmentFailed as error:
        sys.exit(f"tools/environment.py: {error}")
