"""Temporary folders of domains: made by the host, removed by the host when the domain has ended.

A host that is killed can't remove its folders, so their names say whose they are, and the next host that makes one
removes those of hosts that are gone. The name holds the host's pid and the number of its pid namespace, because
containers that share a temporary folder count their processes each by itself. Any thread may enter.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from typing import Final

__all__ = ["make", "remove"]

_PREFIX: Final = "cloister-temp-"
_NAME: Final = re.compile(r"cloister-temp-(\d+)-(\d+)-")
_swept: set[str] = set()


def make(name: str) -> str:
    """Make a folder for a domain. Raises OSError."""
    place = tempfile.gettempdir()
    if place not in _swept:
        _swept.add(place)
        _sweep(place)
    safe = re.sub(r"[^A-Za-z0-9_.]", "_", name)[:20]
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{_space()}-{os.getpid()}-{safe}-", dir=place)


def remove(*folders: str) -> None:
    """Remove folders with all that is in them; what can't be removed stays, without an error."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _space() -> int:
    """The number of this process's pid namespace; 0 where there are none."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _sweep(place: str) -> None:
    import psutil

    space = _space()
    try:
        entries = list(os.scandir(place))
    except OSError:
        return
    for entry in entries:
        found = _NAME.match(entry.name)
        if found is None or int(found[1]) != space or psutil.pid_exists(int(found[2])):
            continue
        try:
            mine = sys.platform == "win32" or entry.stat(follow_symlinks=False).st_uid == os.getuid()
        except OSError:
            continue
        if mine and entry.is_dir(follow_symlinks=False):
            remove(entry.path)
