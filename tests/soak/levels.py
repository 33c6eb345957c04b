"""Domains made and unloaded in a row at one level: memory, threads and descriptors stay flat.

``python -m tests.soak.levels thread 500`` runs so many, as a program of its own, and fails where anything is left. At
the level ``interpreter`` as many bare interpreters are made and closed beside them, because what those leave is not
ours.

Memory is judged by the thirds of the row. In the first one caches fill and the C library finds its size; what the last
third adds to the middle one is a leak. Python's own blocks are exact, resident memory is not: it moves by whole pages
and arenas, so a few KiB a domain are let go, which is less than anything that a domain holds.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cloister.domain.domain import Domain
from cloister.levels import interpreter
from tests.patience import wait_until

__all__ = ["Figures", "leaks", "main", "one", "resident"]

DEAD_S = 60.0


def resident() -> int:
    """The resident memory of this process in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def one(level: str) -> list[weakref.ref[object]]:
    """Make a domain, use it, unload it; references to what there was of it here."""
    with Domain("row", level=level) as domain:
        domain.exec("kept = [0] * 1000")
        made = domain.create("fractions:Fraction", 1, 3)
        assert domain.call("math:sqrt", 16) == 4
        return [weakref.ref(each) for each in (domain, domain._life, domain._life.peer, domain._life.queue, made)]


def bare() -> list[weakref.ref[object]]:
    """Make and close an interpreter; nothing to refer to."""
    from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]  # there from 3.14 on

    made = interpreters.create()
    made.exec("import socket, logging, asyncio, ctypes")
    made.close()
    return []


MOST_BLOCKS = 20.0
"""Blocks of Python's memory that one domain may leave, in the last third of the row; one object is one or two."""
MOST_KIB = 8.0
"""KiB of resident memory that one domain may leave there. One page of each of its threads' stacks is more."""


@dataclass(frozen=True)
class Figures:
    """What this program has at one moment."""

    kib: int
    blocks: int
    threads: int
    files: int


def figures() -> Figures:
    """Look, after everything that is garbage has gone."""
    gc.collect()
    return Figures(resident(), sys.getallocatedblocks(), threading.active_count(), len(os.listdir("/proc/self/fd")))


def leaks(marks: list[Figures], each: int) -> list[str]:
    """What was left: `marks` were made before the row and after each third of it, of so many domains."""
    first, _, middle, last = marks
    found = []
    if last.threads > first.threads + 4:
        found.append(f"threads: {first.threads} -> {last.threads}")
    if last.files > first.files + 4:
        found.append(f"descriptors: {first.files} -> {last.files}")
    if (last.blocks - middle.blocks) / each > MOST_BLOCKS:
        found.append(f"{(last.blocks - middle.blocks) / each:.0f} blocks of memory each")
    if (last.kib - middle.kib) / each > MOST_KIB:
        found.append(f"{(last.kib - middle.kib) / each:.0f} KiB each")
    return found


def all_dead(refs: list[weakref.ref[object]]) -> bool:
    """Whether nothing that is referred to is there."""
    gc.collect()
    return all(ref() is None for ref in refs)


def main() -> None:
    """Run it from the command line."""
    level = sys.argv[1] if len(sys.argv) > 1 else "thread"
    if level == "interpreter" and not interpreter.available:
        print("the level 'interpreter' needs Python 3.14")
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    kinds: list[tuple[str, Callable[[], list[weakref.ref[object]]]]] = [("domains", partial(one, level))]
    if level == "interpreter":
        kinds.append(("bare interpreters", bare))
    third = max(1, count // 3)
    for name, make in kinds:
        marks = [figures()]
        refs: list[weakref.ref[object]] = []
        for _ in range(3):
            for _ in range(third):
                refs += make()
            wait_until(partial(all_dead, refs), DEAD_S)  # a thread may just be letting go
            refs.clear()
            marks.append(figures())
        steps = ", ".join(f"{after.kib - before.kib:+d}" for before, after in itertools.pairwise(marks))
        blocks = ", ".join(f"{after.blocks - before.blocks:+d}" for before, after in itertools.pairwise(marks))
        print(f"{3 * third} {name}, by thirds: {steps} KiB, {blocks} blocks; {marks[-1]}")
        if name == "domains" and (left := leaks(marks, third)):
            raise SystemExit(f"at the level {level!r} domains leave {'; '.join(left)}")


if __name__ == "__main__":
    main()
