"""Thumbnails of files that nobody can trust: a pool whose workers may crash, hang and leak.

Run it: python examples/pool.py
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import as_completed

import cloister


def thumbnail(name: str) -> str:
    """Stand for a decoder in native code."""
    if name == "broken.png":
        ctypes.string_at(0)
    if name == "endless.gif":
        time.sleep(600)
    if name == "empty.jpg":
        raise ValueError("no pixels in it")
    return f"{name} is 64 x 64"


def outcome(result: Callable[[], str]) -> str:
    """What came of one file."""
    try:
        return result()
    except cloister.DomainCrashed as crash:
        return f"crashed: {crash.report.cause}"
    except cloister.CallTimeout:
        return "took too long"
    except ValueError as error:
        return f"refused: {error}"


if __name__ == "__main__":
    names = ["ada.png", "broken.png", "bob.png", "endless.gif", "empty.jpg", "cleo.png"]
    with cloister.DomainPoolExecutor(2, task_timeout=1.0, max_tasks_per_worker=100) as pool:
        futures = {pool.submit(thumbnail, name): name for name in names}
        found = {futures[future]: outcome(future.result) for future in as_completed(futures)}
    for name in names:
        print(f"{name:12} {found[name]}")
