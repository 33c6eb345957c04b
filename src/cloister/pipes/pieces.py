"""Long work on memory, done piece by piece by this thread and a helper: two of them copy or clear quicker than one.

The work must let other threads run (as that of numpy and ctypes does), and may be done in any order. The helper is
started for one piece of work and gone after it, so nothing is left behind; where none can be started, or this process
has one processor, this thread does all of it. Any thread may enter.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Iterator

__all__ = ["LONG", "do"]

LONG = 8 * 1024 * 1024
"""From so many bytes on a helper is worth its start, which takes 0.1 ms."""
PIECE = 1024 * 1024


def do(work: Callable[[int, int], None], size: int) -> None:
    """Do `work(begin, end)` for all parts of `size` bytes; return when all is done.

    Raises what the work raises, here or in the helper; not all is done then, but nobody is at it any more.
    """
    if size < LONG or _processors() < 2:
        work(0, size)
        return
    starts = iter(range(0, size, PIECE))  # two threads may take from it, each start goes to one of them
    failed: list[BaseException] = []
    ended: list[None] = []
    """One item as soon as the helper has ended, before it releases the lock."""
    done = _thread.allocate_lock()
    done.acquire()
    try:
        _thread.start_new_thread(_help, (work, starts, size, failed, ended, done))
    except RuntimeError:
        ended.append(None)
    try:
        _take(work, starts, size)
    finally:
        _wait(starts, ended, done)
    if failed:
        raise failed[0]


def _take(work: Callable[[int, int], None], starts: Iterator[int], size: int) -> None:
    for start in starts:
        work(start, min(start + PIECE, size))


def _help(
    work: Callable[[int, int], None],
    starts: Iterator[int],
    size: int,
    failed: list[BaseException],
    ended: list[None],
    done: _thread.LockType,
) -> None:
    try:
        _take(work, starts, size)
    except BaseException as error:  # whoever asked for help raises it
        failed.append(error)
        for _ in starts:
            pass
    finally:
        ended.append(None)
        done.release()


def _wait(starts: Iterator[int], ended: list[None], done: _thread.LockType) -> None:
    """Wait for the helper, which is at its last piece; an interruption waits too.

    It may come when the lock was just acquired, so what counts is that the helper has ended.
    """
    interruption: BaseException | None = None
    while True:
        try:
            for _ in starts:  # after a failure the helper takes no more
                pass
            while not ended:
                done.acquire()
            break
        except BaseException as error:
            interruption = error
    if interruption is not None:
        raise interruption


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))
