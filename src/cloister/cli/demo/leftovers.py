"""What is still there after the demo that was not there before: processes, threads, descriptors, files.

A look costs a few milliseconds. What ends by itself gets `PATIENCE` for it.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from cloister import Domain
from cloister.levels import template

__all__ = ["Before", "found", "look"]

PATIENCE = 2.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was there at the start."""

    threads: frozenset[int | None]
    descriptors: frozenset[tuple[str, str]]


def look() -> Before:
    """Take down what is there now in this process.

    What cloister makes once for a whole process and keeps, such as the pipe whose end tells all domains that this
    process is gone, is there already: a first domain has come and gone.
    """
    with Domain("first", echo=False) as domain:
        domain.wait_ready()
    gc.collect()
    return Before(frozenset(thread.ident for thread in threading.enumerate()), frozenset(_descriptors()))


def found(before: Before, pids: Collection[int], folders: Collection[Path]) -> list[str]:
    """A line for each thing that is left over, after `PATIENCE` at most; empty where nothing is.

    `pids` are the processes of the domains, which must be gone; any other child of this process must be gone as well.
    `folders` were made by the demo, and must be gone. Templates stay for further domains on purpose; they are ended.
    """
    template.close_all()
    deadline = time.monotonic() + PATIENCE
    while (left := _found(before, pids, folders)) and time.monotonic() < deadline:
        gc.collect()  # what only a reference cycle holds is not left over
        time.sleep(0.02)
    return left


def _found(before: Before, pids: Collection[int], folders: Collection[Path]) -> list[str]:
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    left = [f"process {pid}" for pid in sorted(children | {pid for pid in pids if _is_ours(pid)})]
    left += [f"thread {each.name}" for each in threading.enumerate() if each.ident not in before.threads]
    left += [f"descriptor {fd}: {target}" for fd, target in sorted(_descriptors() - before.descriptors)]
    return left + [f"folder {folder}" for folder in folders if folder.exists()]


def _is_ours(pid: int) -> bool:
    """Whether a process number still means one of ours; another program may have been given it meanwhile."""
    try:
        return "cloister" in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def _descriptors() -> set[tuple[str, str]]:
    """(number, what it leads to) of each open descriptor; nothing where the system does not tell."""
    found = set()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except OSError:
            pass  # the descriptor that listed the folder
    return found
