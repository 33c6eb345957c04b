"""The work of a pool's worker: single tasks, and chunks of a map, of which it notes what runs and what is done.

A worker that dies must not take more with it than it has to. So what begins, call and item, is written into the
page that both sides share, where it outlives any death, and results are told while later items still run: whenever an
item ends and `FLUSH_NS` have passed since the last time. What the host makes of it is in `cloister.executor`.

These are functions of target 0; they run on the thread that serves the call.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError
from cloister.guest.coroutines import is_coroutine
from cloister.guest.interrupts import Interrupted, StopRequested
from cloister.objects import targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        begun, index, first = self._notes()
        begun[index] = first
        return targets.from_plain(target)(*args, **kwargs)

    def chunk(self, target: list[Any], columns: list[list[Any]]) -> Any:
        """Run a function once for each row of the columns; tell [first place, results, exceptions by their places]."""
        function = targets.from_plain(target)
        begun, index, first = self._notes()
        # Where nothing can be noted, each result is told at once.
        told = _Told(self.peer.teller(), self.peer.describe, FLUSH_NS if index else -1)
        items_left = iter(columns[0]) if len(columns) == 1 else zip(*columns, strict=True)
        call = function if len(columns) == 1 else partial(_spread, function)
        item, add, results = first, told.results.append, told.results
        me = self.peer.runs_here()
        clock, due = time.monotonic_ns, time.monotonic_ns() + told.patience
        while True:
            try:
                for args in items_left:
                    begun[index] = item
                    add(call(args))
                    if item == first and is_coroutine(results[0]):
                        return _on_the_loop(results.pop(), call, enumerate(items_left, first + 1), begun, index, told)
                    item += 1
                    if clock() > due:
                        told.flush()
                        if me is not None and me.unwanted == me.number:
                            raise Interrupted  # who looks at this thread may see it in `flush` alone, again and again
                        due = clock() + told.patience
                break
            except (Interrupted, StopRequested):
                raise
            except BaseException as error:  # the rest goes on behind it
                told.failed(error)
                item += 1
        told.flush(last=True)
        return None

    def _notes(self) -> tuple[Any, int, int]:
        """Where to note the item that begins, the index there, 0 where it is for nothing, and what the first one is."""
        page, (lane, number) = self.peer.page, self.peer.serving_here
        first = (number & 0xFFFFFFFF) << 32 | 1
        if page is None or not 0 < lane < page.slots:
            return [0], 0, first
        return page.begun, 2 * lane + 1, first


class _Told:
    """The results of a chunk that were not told yet."""

    def __init__(
        self, tell: Callable[[Any, bool], None], describe: Callable[[BaseException], Any], patience: int
    ) -> None:
        self._tell, self._describe, self.patience = tell, describe, patience
        self._first = 0
        self.results: list[Any] = []
        """Those that follow; always the same list."""
        self._failures: dict[int, Any] = {}
        self._since = time.monotonic_ns()

    def failed(self, error: BaseException) -> None:
        """The next item has raised."""
        self._failures[len(self.results)] = self._describe(error)
        self.add(None)

    def add(self, value: Any) -> None:
        """The next item has this result."""
        self.results.append(value)
        if time.monotonic_ns() - self._since > self.patience:
            self.flush()

    def flush(self, last: bool = False) -> None:
        """Tell all that was not; with `last`, the answer is told next, and takes it along."""
        first, results, failures = self._first, self.results[:], self._failures
        if not results:
            return
        self.results.clear()
        self._first, self._failures = first + len(results), {}
        try:
            self._tell([first, results, failures], last)
        except MarshalError:
            for place, result in enumerate(results):
                failed = {0: failures[place]} if place in failures else {}
                try:
                    self._tell([first + place, [result], failed], last)
                except MarshalError as error:
                    self._tell([first + place, [None], {0: self._describe(error)}], last)
        self._since = time.monotonic_ns()


def _spread(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return function(*args)


async def _on_the_loop(
    value: Any,
    function: Callable[..., Any],
    rows: Iterator[tuple[int, Any]],
    begun: Any,
    index: int,
    told: _Told,
) -> None:
    """Go on with a chunk whose function is an ``async def``: its items run one after the other."""
    import asyncio  # not before it is needed: it would double the start of a domain

    while True:
        try:
            told.add(await value)
        except (asyncio.CancelledError, Interrupted, StopRequested):
            raise
        except BaseException as error:
            told.failed(error)
        for item, args in rows:
            begun[index] = item
            value = function(args)
            break
        else:
            told.flush(last=True)
            return
