"""`Condition`, with an interrupt at each place of a wait."""

from __future__ import annotations

import threading
from typing import Any

from cloister.conditions import Condition
from tests.stepping import each_interrupt, stepped

JOIN_S = 30.0


@stepped
def test_who_was_interrupted_waits_no_more() -> None:
    """At each place: nobody has the lock, and a `notify` goes to one that waits."""
    condition: Any = Condition(threading.RLock())

    def wait() -> None:
        with condition:
            condition.wait(0.0)

    places = []
    for stepper in each_interrupt(wait, "/cloister/conditions.py"):
        places.append(stepper.where)
        assert not condition._waiters, stepper.where
        assert not condition._is_owned(), stepper.where
    assert len(places) > 5


def test_interrupt_as_the_lock_is_taken_again() -> None:
    """A Ctrl-C that comes as soon as the wait has its lock again: who waits beside it is told by the next `notify`."""

    class Lock:
        """A lock that is taken again as Ctrl-C is pressed."""

        def __init__(self) -> None:
            self.inner: Any = threading.RLock()
            self.pressed = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def _acquire_restore(self, saved: Any) -> None:
            self.inner._acquire_restore(saved)
            if self.pressed:
                self.pressed = False
                raise KeyboardInterrupt

    lock: Any = Lock()
    condition: Any = Condition(lock)
    interrupted, told = [], []
    with condition:
        lock.pressed = True
        try:
            condition.wait(0.0)
        except KeyboardInterrupt:
            interrupted.append(1)
    assert interrupted
    begun = threading.Event()

    def wait() -> None:
        with condition:
            begun.set()
            told.append(condition.wait(JOIN_S))

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(JOIN_S)
    with condition:
        condition.notify()
    thread.join(JOIN_S)
    assert told == [True]
