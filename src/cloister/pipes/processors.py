"""The control groups of this process, and how many processors they let it use.

A container gets a share of the machine's time as a *quota*: so many microseconds in each period. What waits busily
spends it, and once it is used up, all threads of the group stand still until the next period. Linux says it in files:
``cpu.max`` of version 2, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` of version 1. The group of this process and
each one around it may have a limit; the least counts.

Elsewhere, and where the files can't be read, no quota is known. Any thread may enter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

__all__ = ["groups", "quota"]

_OCTAL = re.compile(r"\\([0-7]{3})")


def quota(proc: str = "/proc/self") -> float | None:
    """Give the processors that this process may use in the long run, such as 0.5; None where no limit is known.

    `proc` is where the kernel says in which groups the process is, and where they are mounted. Raises nothing.
    """
    least: float | None = None
    try:
        for folder in groups("cpu", proc):
            found = _quota_of(folder)
            if found is not None and (least is None or found < least):
                least = found
    except (OSError, ValueError):
        pass
    return least


def groups(controller: str, proc: str = "/proc/self") -> Iterator[str]:
    """The folders of this process's groups for a controller, such as ``cpu``, from the innermost out; either version.

    Raises OSError and ValueError where the kernel does not say.
    """
    paths: dict[str, str] = {}
    for line in _text(os.path.join(proc, "cgroup")).splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = group
    for line in _text(os.path.join(proc, "mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        root, mount = (_OCTAL.sub(lambda code: chr(int(code[1], 8)), part) for part in before.split(" ")[3:5])
        kind, _, options = after.split(" ", 2)
        if kind not in paths or (kind == "cgroup" and controller not in options.split(" ")[-1].split(",")):
            continue
        path = paths[kind]
        # What is mounted may itself be a group: in a container its own one.
        inner = os.path.relpath(path, root) if root != "/" and path.startswith(root) else path.strip("/")
        folder = os.path.normpath(os.path.join(mount, inner))
        while folder.startswith(mount):
            yield folder
            if folder == mount:
                break
            folder = os.path.dirname(folder)


def _quota_of(folder: str) -> float | None:
    try:
        said, period = _text(os.path.join(folder, "cpu.max")).split()
    except FileNotFoundError:
        try:
            said = _text(os.path.join(folder, "cpu.cfs_quota_us")).strip()
            period = _text(os.path.join(folder, "cpu.cfs_period_us"))
        except FileNotFoundError:
            return None
    if said in ("max", "-1") or int(period) <= 0:
        return None
    return int(said) / int(period)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
