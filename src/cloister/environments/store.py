"""Where environments are kept: in the user's cache, one folder for each key, with a lock beside it.

::

    <cache>/environments/<key>/                  the virtual environment
    <cache>/environments/<key>/environment.json  what it was made from; written last, so its presence means "whole"
    <cache>/environments/<key>/in-use            locked, shared, by each domain that uses it
    <cache>/environments/<key>.lock              locked by the one process that makes or removes it

The folder is made where it stays, not made elsewhere and renamed, because the programs in an environment hold its
path. A build that was killed has no `environment.json`: nobody uses it, and the next build begins anew.
`CLOISTER_CACHE` names another cache. Any thread may enter.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cloister.environments import locks
from cloister.environments.spec import Spec

__all__ = ["Kept", "cache_folder", "clean", "find", "finish", "folder_of", "in_use_file", "kept", "lock_file", "remove"]

_WHOLE: Final = "environment.json"
_IN_USE: Final = "in-use"
TOUCH_S: Final = 3600.0
"""How old the mark of the last use may be before it is set anew."""


def cache_folder() -> str:
    """The folder of cloister's caches; it need not exist."""
    own = os.environ.get("CLOISTER_CACHE")
    if own:
        return os.path.abspath(own)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
        return os.path.join(local, "cloister", "cache")
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Caches/cloister")
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cloister")


def _root() -> str:
    return os.path.join(cache_folder(), "environments")


def folder_of(key: str) -> str:
    """Where the environment of this key is, or will be."""
    return os.path.join(_root(), key)


def lock_file(key: str) -> str:
    """The file whose lock allows to make or remove it; the folder around it is made."""
    os.makedirs(_root(), mode=0o700, exist_ok=True)
    return folder_of(key) + ".lock"


def in_use_file(key: str) -> str:
    """The file that each domain that uses it locks."""
    return os.path.join(folder_of(key), _IN_USE)


def python_in(folder: str) -> str:
    """The interpreter of a virtual environment."""
    return os.path.join(folder, *(("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")))


def find(key: str) -> str | None:
    """The interpreter of a whole environment, noted as used now; None where there is none, or its Python is gone."""
    folder = folder_of(key)
    mark = os.path.join(folder, _WHOLE)
    python = python_in(folder)
    try:
        if time.time() - os.stat(mark).st_mtime > TOUCH_S:
            os.utime(mark)
    except OSError:
        return None
    return python if os.access(python, os.X_OK) else None


def finish(spec: Spec, version: str) -> None:
    """Note that an environment is whole. Raises OSError."""
    folder = folder_of(spec.key)
    told = {"requirements": [*spec.requirements], "python": version, "made": time.time()}
    with open(os.path.join(folder, _IN_USE), "w", encoding="utf-8"):
        pass
    half = os.path.join(folder, _WHOLE + ".half")
    with open(half, "w", encoding="utf-8") as file:
        json.dump(told, file, indent=1)
    os.replace(half, os.path.join(folder, _WHOLE))


@dataclass(frozen=True, slots=True)
class Kept:
    """One environment of the cache."""

    key: str
    folder: str
    requirements: tuple[str, ...]
    python: str
    """The version of its interpreter; empty where it is not whole."""
    used: float
    """When it was used last, in seconds since 1970, to the hour."""

    @property
    def whole(self) -> bool:
        """False where a build was killed, or goes on."""
        return bool(self.python)


def kept() -> list[Kept]:
    """All environments of the cache, the one used last first."""
    return sorted(_kept(), key=lambda each: each.used, reverse=True)


def _kept() -> Iterator[Kept]:
    try:
        keys = [entry.name for entry in os.scandir(_root()) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for key in keys:
        folder = folder_of(key)
        mark = os.path.join(folder, _WHOLE)
        told: dict[str, Any] = {}
        used = 0.0
        try:
            used = os.stat(folder).st_mtime
            with open(mark, encoding="utf-8") as file:
                told = json.load(file)
            used = os.stat(mark).st_mtime
        except FileNotFoundError:
            if not os.path.isdir(folder):
                continue  # somebody has removed it
        except (OSError, ValueError):
            continue
        yield Kept(key, folder, tuple(told.get("requirements", ())), str(told.get("python", "")), used)


def clean(unused_s: float) -> list[Kept]:
    """Remove what was not used for so many seconds, and what a killed build has left; return what was removed.

    What a domain uses, or somebody makes at this moment, stays.
    """
    now = time.time()
    return [each for each in kept() if (not each.whole or now - each.used >= unused_s) and remove(each.key)]


def remove(key: str) -> bool:
    """Remove one environment; False where it is used or made at this moment, or can't be removed."""
    try:
        with locks.alone(lock_file(key)) as mine:
            if mine is None:
                return False
            mark, in_use = os.path.join(folder_of(key), _WHOLE), in_use_file(key)
            if os.path.exists(in_use):
                with locks.alone(in_use) as unused:
                    if unused is None:
                        return False
                    os.remove(in_use)  # whoever comes now does not find it, and makes it anew
            if os.path.exists(mark):
                os.remove(mark)
            shutil.rmtree(folder_of(key), ignore_errors=True)
            if sys.platform != "win32":
                os.remove(lock_file(key))
    except OSError:
        return False
    return not os.path.exists(folder_of(key))
