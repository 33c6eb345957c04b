"""Streams: what an iterator, a generator or their async kin say over a wall, and the end that has the iterator.

A stream is an object like any other, pulled by calls: ``__next__`` (``__anext__`` of an async one) with [most items,
most bytes, had] answers [items, state, more]. `state` is `MORE`, `END` (`more` is the value that a generator returned)
or `RAISED` (`more` is the described exception, which came after the items). `had` counts the answers that the reader
has had, from any number. A pull with the same count as the one before it says that the last answer was not had, because
its call was given up or something in it could not travel: then its items come once more, before any new one. So nothing
is lost or doubled, and an item that can't travel is an error at its own place.

Here the side that has the iterator makes batches; the side that reads is in `reading`. A batch ends early where its
iterator is slow, so nobody waits for a full one. Whoever serves the calls runs the iterator: one thread at a time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from cloister.objects.misaimed import Misaimed
from cloister.wire import exceptions

__all__ = [
    "ASYNC_GENERATOR",
    "END",
    "GENERATOR",
    "MORE",
    "MOST_BYTES",
    "MOST_ITEMS",
    "RAISED",
    "SLOW_S",
    "STREAM_METHODS",
    "Puller",
]

MORE: Final = 0
END: Final = 1
RAISED: Final = 2

MOST_ITEMS: Final = 1024
"""Items of one batch. Past some hundreds the round trip costs nothing any more."""
MOST_BYTES: Final = 1024 * 1024
"""About how large a batch may be. A single item may be larger."""
SLOW_S: Final = 0.005
"""A batch that has an item is sent after this time, before the iterator is asked for another one."""

GENERATOR: Final = "builtins:generator"
ASYNC_GENERATOR: Final = "builtins:async_generator"
STREAM_METHODS: Final = frozenset(("__next__", "__anext__", "send", "throw", "close", "asend", "athrow", "aclose"))
"""The methods that a stream answers in its own way; those without underscores only where it is a generator."""

_SMALL: Final = frozenset((int, float, bool, type(None), complex))
_PLAIN: Final = frozenset((str, bytes, bytearray))
_LOOKS: Final = 10_000
"""How many parts of one item are looked at to see how large it is; the others are taken to be like those."""


class Puller:
    """The state of one stream, on the side that has the iterator."""

    __slots__ = ("_busy", "_end", "_given", "_queue", "_sent", "ahead")

    def __init__(self) -> None:
        self.ahead = MOST_ITEMS
        """The most items that a batch may have, as the owner of the iterator wants it."""
        self._busy = threading.Lock()
        self._given = 0
        self._sent: list[Any] = []
        self._end: tuple[int, Any] | None = None
        """How the stream ended, where the last answer said so."""
        self._queue: deque[Any] = deque()
        """What was sent and not had; comes before anything new."""

    def pull(self, iterator: Any, args: list[Any]) -> list[Any]:
        """Answer a pull of an iterator. Raises ValueError where another thread pulls, Misaimed for wrong arguments."""
        batch = self._begin(args)
        try:
            advance = type(iterator).__next__
            while batch.open:
                batch.add(advance(iterator))
            return self._answer(batch, MORE, None)
        except StopIteration as stop:
            return self._answer(batch, END, stop.value)
        except (Exception, SystemExit) as error:
            return self._answer(batch, RAISED, exceptions.describe(error))
        finally:
            self._busy.release()

    async def pull_async(self, iterator: Any, args: list[Any]) -> list[Any]:
        """Answer a pull of an async iterator. Raises as `pull`."""
        batch = self._begin(args)
        try:
            advance = type(iterator).__anext__
            while batch.open:
                batch.add(await advance(iterator))
            return self._answer(batch, MORE, None)
        except StopAsyncIteration:
            return self._answer(batch, END, None)
        except (Exception, SystemExit) as error:
            return self._answer(batch, RAISED, exceptions.describe(error))
        finally:
            self._busy.release()

    def step(self, name: str, advance: Callable[[], Any], drop: bool = False) -> list[Any]:
        """Answer a `send` or `throw` of a generator with the one item that it yields. `drop`: nothing is kept."""
        batch = self._alone(name, drop)
        try:
            batch.add(advance())
            return self._answer(batch, MORE, None)
        except StopIteration as stop:
            return self._answer(batch, END, stop.value)
        except (Exception, SystemExit) as error:
            return self._answer(batch, RAISED, exceptions.describe(error))
        finally:
            self._busy.release()

    async def step_async(self, name: str, advance: Callable[[], Any], drop: bool = False) -> list[Any]:
        """The same for an async generator."""
        batch = self._alone(name, drop)
        try:
            batch.add(await advance())
            return self._answer(batch, MORE, None)
        except StopAsyncIteration:
            return self._answer(batch, END, None)
        except (Exception, SystemExit) as error:
            return self._answer(batch, RAISED, exceptions.describe(error))
        finally:
            self._busy.release()

    def forget(self) -> None:
        """Keep nothing of what was sent: the stream is closed."""
        self._queue.clear()
        self._sent, self._end = [], None

    def _begin(self, args: list[Any]) -> _Batch:
        try:
            most, room, had = args
        except ValueError:
            raise Misaimed("a stream is pulled with three arguments: most items, most bytes, had") from None
        if any(type(one) is not int for one in args) or most < 1 or room < 1:
            raise Misaimed("a stream is pulled for one item and one byte or more")
        self._enter()
        if had == self._given - 1:
            self._queue.extendleft(reversed(self._sent))
        else:
            self._end = None
        self._given = had + 1
        batch = _Batch(min(most, self.ahead), room)
        self._sent = batch.items
        queue = self._queue
        while queue and batch.open:
            batch.add(queue.popleft())
        if not queue and self._end is not None and batch.open:
            batch.end, batch.open = self._end, False
        return batch

    def _alone(self, name: str, drop: bool) -> _Batch:
        self._enter()
        if drop:
            self._queue.clear()
        if self._queue:
            self._busy.release()
            raise RuntimeError(
                f"{name}() would reach the generator further on than its reader is: read its items first"
            )
        batch = _Batch(1, 1)
        self._sent, self._end = batch.items, None
        return batch

    def _enter(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise ValueError("generator already executing: it is read by two at once")

    def _answer(self, batch: _Batch, state: int, more: Any) -> list[Any]:
        if batch.end is not None:
            state, more = batch.end
        if state != MORE:
            self._end = state, more
        return [batch.items, state, more]


class _Batch:
    """The items of one answer, while they are collected."""

    __slots__ = ("_most", "_room", "_until", "end", "items", "open")

    def __init__(self, most: int, room: int) -> None:
        self._most, self._room = most, room
        self._until = time.monotonic() + SLOW_S if most > 1 else 0.0
        self.items: list[Any] = []
        self.open = True
        """Another item may be added."""
        self.end: tuple[int, Any] | None = None

    def add(self, item: Any) -> None:
        items = self.items
        items.append(item)
        if len(items) >= self._most:
            self.open = False
            return
        self._room -= 9 if type(item) in _SMALL else weigh(item, self._room)
        self.open = self._room > 0 and time.monotonic() < self._until


def weigh(item: Any, enough: int) -> int:
    """About how many bytes a value takes on its way; not more exactly than needed to see that it has `enough`."""
    weight = looks = 0
    waiting = [item]
    while waiting and weight < enough:
        item = waiting.pop()
        kind = type(item)
        looks += 1
        if looks > _LOOKS:
            return weight * 2  # it is large, whatever it is
        if kind in _SMALL:
            weight += 9
        elif kind in _PLAIN:
            weight += 9 + len(item)
        elif kind in (list, tuple, set, frozenset):
            weight += 9 + len(item)
            waiting.extend(islice(item, _LOOKS))
        elif kind is dict:
            weight += 9 + len(item)
            waiting.extend(islice(item, _LOOKS))
            waiting.extend(islice(item.values(), _LOOKS))
        elif hasattr(kind, "_cloister_peer"):
            weight += 32  # a proxy; asking it for anything would be a call
        else:
            weight += _weigh_object(item, waiting)
    return weight


def _weigh_object(item: Any, waiting: list[Any]) -> int:
    try:
        size = getattr(item, "nbytes", None)  # arrays and tables
        if type(size) is int:
            return size
        fields = getattr(item, "__dict__", None)
        if type(fields) is dict:
            waiting.extend(fields.values())
        return sys.getsizeof(item)
    except Exception:  # what an attribute of the user's raises
        return 1024
