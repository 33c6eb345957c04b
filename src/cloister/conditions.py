"""`Condition`: as that of `threading`, but Ctrl-C can't leave its lock taken.

The one of the standard library takes its lock in a function of Python's. Where a KeyboardInterrupt comes when that
function is about to return, nobody gives the lock back: other threads wait for ever, and with them whoever waits for
those. Another moment, in `wait`, gives a RuntimeError instead of the KeyboardInterrupt. Here each of these steps is one
of the interpreter's own, which is over, and known to be over, before a signal is looked at. Any thread may enter.
"""

from __future__ import annotations

import threading
from itertools import starmap
from operator import attrgetter
from typing import Any

__all__ = ["Condition"]


class Condition(threading.Condition):
    """A condition over a re-entrant lock, the one that is given or its own."""

    # What `with` finds here are the methods of the lock itself, which are written in C.
    __enter__: Any = property(attrgetter("_lock.__enter__"))
    __exit__: Any = property(attrgetter("_lock.__exit__"))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until somebody notifies; False where that takes longer than `timeout` seconds. The lock is held.

        Whoever has left, by Ctrl-C too, is not told any more: `notify` goes to one that waits. A thread that was told
        may be interrupted before it returns, or its time may be up that moment. Then the `notify` was its own, and
        nobody else hears of it, as in `threading`; so whoever needs that one goes on tells all.
        """
        inside: Any = self  # what the standard library keeps to itself
        if not inside._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = threading.Lock()
        waiter.acquire()
        saved: list[Any] = []
        told = False
        try:
            inside._waiters.append(waiter)
            saved.extend(starmap(inside._release_save, ((),)))  # given back and noted in one step
            told = waiter.acquire(True, -1 if timeout is None else max(0.0, timeout))
        finally:
            try:
                if saved:
                    inside._acquire_restore(saved[0])
            finally:  # Ctrl-C may come as soon as the lock is taken
                if not told and waiter in inside._waiters:
                    inside._waiters.remove(waiter)
        return told
