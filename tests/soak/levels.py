"""Domains made and unloaded in a row at one level: memory, threads and descriptors stay flat.

``python -m tests.soak.levels thread 500`` runs so many, as a program of its own. At the level ``interpreter`` as many
bare interpreters are made and closed beside them, because what those leave is not ours.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cloister.domain.domain import Domain
from cloister.levels import interpreter
from tests.domain.journal import wait_until

__all__ = ["main", "one", "resident"]


def resident() -> int:
    """The resident memory of this process in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def one(level: str) -> list[weakref.ref[object]]:
    """Make a domain, use it, unload it; references to what there was of it here."""
    with Domain("row", level=level) as domain:
        domain.exec("kept = [0] * 1000")
        made = domain.create("fractions:Fraction", 1, 3)
        assert domain.call("math:sqrt", 16) == 4
        return [weakref.ref(each) for each in (domain, domain._life, domain._life.peer, made)]


def bare() -> list[weakref.ref[object]]:
    """Make and close an interpreter; nothing to refer to."""
    from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]  # there from 3.14 on

    made = interpreters.create()
    made.exec("import socket, logging, asyncio, ctypes")
    made.close()
    return []


def figures() -> tuple[int, int, int]:
    """KiB, threads, descriptors."""
    gc.collect()
    return resident(), threading.active_count(), len(os.listdir("/proc/self/fd"))


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
    for name, make in kinds:
        for _ in range(max(10, count // 2)):  # what the first ones leave in caches stays
            make()
        before = figures()
        refs = [ref for _ in range(count) for ref in make()]
        after = figures()
        wait_until(partial(all_dead, refs))  # a thread may just be letting go
        grown = (after[0] - before[0]) / count
        print(
            f"{count} {name}: {grown:+.1f} KiB each, threads {before[1]} -> {after[1]}, files {before[2]} -> {after[2]}"
        )
        if name == "domains" and (after[2] > before[2] + 4 or after[1] > before[1] + 4):
            raise SystemExit("threads or descriptors were left")


if __name__ == "__main__":
    main()
