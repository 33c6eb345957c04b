"""Many threads at one synchronized object, and what each of them came to."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.patience import wait_until

__all__ = ["JOIN_S", "enter_all", "run_all"]

JOIN_S = 30.0


def run_all(works: list[Callable[[], object]]) -> list[Any]:
    """Run each on a thread of its own; return what each returned or raised."""
    outcomes: list[Any] = [None] * len(works)

    def run(number: int) -> None:
        try:
            outcomes[number] = works[number]()
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
        assert not thread.is_alive()
    return outcomes


def enter_all(broker: Any, waiting: Callable[[], int], reentrant: bool, count: int = 8) -> list[Any]:
    """Let so many threads into one object, which calls out with each; they meet there for certain.

    Re-entrant: nobody comes back before all are out there. Else: whoever is out there comes back only when all who have
    not been inside wait for their turn, of which `waiting` tells how many. Returns what each call came to.
    """
    meeting = threading.Barrier(count)
    entered = itertools.count(1)

    def call_out() -> bool:
        if reentrant:
            meeting.wait(JOIN_S)
            return True
        left = count - next(entered)
        wait_until(lambda: waiting() == left, JOIN_S)
        return True

    return run_all([partial(broker.call, call_out)] * count)
