"""The work of a pool's worker: single tasks, and chunks of a map, of which it notes what runs and what is done.

A worker that dies must not take more with it than it has to. So the number of the item that begins is written into the
page that both sides share, where it outlives any death, and results are told while later items still run: whenever an
item ends and `FLUSH_NS` have passed since the last time. What the host makes of it is in `cloister.executor`.

These are functions of target 0; they run on the thread that serves the call.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError
from cloister.guest.interrupts import Interrupted, StopRequested
from cloister.objects import targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.host import HostPeer

__all__ = ["Tasks"]

FLUSH_NS: Final = 200_000
"""Results older than this are told when the next item ends. Telling costs a tenth of it."""


class Tasks:
    """The functions."""

    def __init__(self) -> None:
        self.peer: HostPeer
        self.functions: dict[str, Callable[..., Any]] = {"task": self.task, "chunk": self.chunk}

    def task(self, target: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run one task."""
        items, index = self._notes()
        items[index] = 1
        return targets.from_plain(target)(*args, **kwargs)

    def chunk(self, target: list[Any], columns: list[list[Any]]) -> None:
        """Run a function once for each row of the columns; tell [first place, results, exceptions by their places]."""
        function = targets.from_plain(target)
        items, index = self._notes()
        patience = FLUSH_NS if index else -1  # where nothing can be noted, each result is told at once
        clock = time.monotonic_ns
        first, told = 0, clock()
        results: list[Any] = []
        failures: dict[int, Any] = {}
        for item, args in enumerate(zip(*columns, strict=True), 1):
            items[index] = item
            try:
                results.append(function(*args))
            except (Interrupted, StopRequested):
                raise
            except BaseException as error:
                failures[len(results)] = self.peer.describe(error)
                results.append(None)
            if clock() - told > patience:
                self._tell(first, results, failures)
                first, told = item, clock()
                results, failures = [], {}
        if results:
            self._tell(first, results, failures)

    def _notes(self) -> tuple[Any, int]:
        """Where to note the item that begins: something to write to, and the index there; 0 where it is for nothing."""
        page, lane = self.peer.page, self.peer.serving_lane
        if page is None or not 0 < lane < page.slots:
            return [0], 0
        return page.items, 4 * lane + 1

    def _tell(self, first: int, results: list[Any], failures: dict[int, Any]) -> None:
        try:
            self.peer.tell_part([first, results, failures])
        except MarshalError:
            for place, result in enumerate(results):
                failed = {0: failures[place]} if place in failures else {}
                try:
                    self.peer.tell_part([first + place, [result], failed])
                except MarshalError as error:
                    self.peer.tell_part([first + place, [None], {0: self.peer.describe(error)}])
