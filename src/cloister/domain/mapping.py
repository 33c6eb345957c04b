"""A function over many items: cut into chunks, sent with a bounded look ahead, given out in order.

Here is what `Domain.map` and the map of a pool share; a chunk is sent and read by the function that each of them
brings. One envelope carries a chunk in either direction. The results belong to the thread that iterates; the items are
taken from the iterables there, too.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cloister.domain import broken_lanes
from cloister.errors import CallTimeout, ProtocolError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloister.domain.guest_peer import GuestPeer

__all__ = ["Chunks", "Outcome", "Progress", "Results", "check_sizes", "known_length", "outcome_of_guest"]

Outcome: TypeAlias = tuple[list[Any], dict[int, BaseException]]
"""The results of one chunk, and its exceptions by their places, where the list holds None."""
Progress: TypeAlias = Callable[[int, int | None], object]
"""Told how many items have come back, of how many in all; None where the iterables don't say."""


_FEW: Final = 16
"""Of a chunk of so many results each is let go of when it is given out: it may be large, and the next one far away."""


class Results(Iterator[Any]):
    """The results of a map, in order. `close` gives up what is still on its way, and so does forgetting it."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._lists = chunks.lists()
        self._flat = itertools.chain.from_iterable(map(_given, self._lists))

    def __iter__(self) -> Iterator[Any]:
        return self._flat  # a list of ten thousand results is not to pass through Python code one by one

    def __next__(self) -> Any:
        return next(self._flat)

    def close(self) -> None:
        """Give nothing more, and cancel the chunks that were sent."""
        self._lists.close()
        self._chunks.close()


def _given(results: list[Any]) -> Iterable[Any]:
    """What gives out the results of a chunk."""
    return results if len(results) > _FEW else _let_go(results)


def _let_go(results: list[Any]) -> Iterator[Any]:
    results.reverse()
    while results:
        yield results.pop()


class Chunks:
    """The chunks of one map that have been sent and not yet been given out, and those to come."""

    def __init__(
        self,
        send: Callable[[list[list[Any]], int], Future[Any]],
        read: Callable[[Any, int], Outcome],
        iterables: tuple[Any, ...],
        size: int,
        ahead: int | None,
        *,
        return_exceptions: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Prepare a map. `send` sends the columns of a chunk of so many items, `read` reads what its future gave.

        `size` items are a chunk, `ahead` chunks are sent beforehand (None: all there are). `timeout` is seconds from
        now until the last result must be there. Raises as `check_sizes`, and TypeError for what can't be iterated.
        """
        check_sizes(size, ahead)
        self._send, self._read = send, read
        self._items: list[Any] | None = None
        """The only iterable, where it is a list that has not come to its end: a part of it is cut out at once."""
        self._taken = 0
        if len(iterables) == 1 and type(iterables[0]) is list:
            self._items = iterables[0]
        self._iterators = [iter(iterable) for iterable in iterables]
        self._size, self._ahead = size, ahead
        self._return_exceptions, self._progress = return_exceptions, progress
        self._end = None if timeout is None else time.monotonic() + timeout
        self._total = known_length(iterables) if progress is not None else None
        self._done = 0
        self._sent: deque[tuple[Future[Any], int]] = deque()
        self._current: list[Any] = []

    def start(self) -> Results:
        """Send the first chunks and return the results. Raises what the iterables raise; nothing is on its way then."""
        self._fill()
        return Results(self)

    def lists(self) -> Generator[list[Any], None, None]:
        """Give the results chunk by chunk; when this is closed early, what has not been given is cancelled."""
        try:
            while self._sent:
                future, count = self._sent[0]
                answer = future.result() if self._end is None else self._wait(future, self._end)
                results, failures = self._read(answer, count)
                self._sent.popleft()
                self._fill()
                if self._progress is not None:
                    self._done += count
                    self._progress(self._done, self._total)
                error: BaseException | None = None
                if failures:
                    for place in sorted(failures):
                        if not self._return_exceptions:
                            error = failures[place]
                            del results[place:]
                            break
                        results[place] = failures[place]
                self._current = results
                del answer, failures
                yield results
                if error is not None:
                    raise error
        finally:
            self.cancel()

    def close(self) -> None:
        """Give nothing more of the chunk that is being given out, and cancel the others."""
        self._current.clear()
        self.cancel()

    def cancel(self) -> None:
        """Give up every chunk that is on its way, the last one first, so that none of them begins now."""
        while self._sent:
            self._sent.pop()[0].cancel()

    def _fill(self) -> None:
        """Take items from the iterables until there are enough chunks on their way."""
        try:
            while self._ahead is None or len(self._sent) < self._ahead:
                columns = self._columns()
                count = len(columns[0]) if columns else 0
                if not count:
                    return
                self._sent.append((self._send(columns, count), count))
        except BaseException:
            self.cancel()
            raise

    def _columns(self) -> list[list[Any]]:
        """The items of the next chunk, a list for each of the iterables."""
        items = self._items
        if items is not None:
            first = self._taken
            self._taken = last = first + self._size
            chunk = items[first:last]
            if len(chunk) < self._size:  # as with its iterator: what is added after that does not come
                self._items = None
                self._iterators = [iter(())]
            return [chunk]
        iterators = self._iterators
        if len(iterators) == 1:
            return [list(itertools.islice(iterators[0], self._size))]
        rows = itertools.islice(zip(*iterators, strict=False), self._size)
        flat = list(itertools.chain.from_iterable(rows))
        return [flat[start :: len(iterators)] for start in range(len(iterators))]

    def _wait(self, future: Future[Any], end: float) -> Any:
        try:
            return future.result(max(0.0, end - time.monotonic()))
        except TimeoutError:
            if future.done():
                raise
            raise CallTimeout("the time for the map was up before all its results were there") from None


def outcome_of_guest(peer: GuestPeer, value: Any, count: int) -> Outcome:
    """Read what a guest says of a chunk of `count` items. What is malformed ends the domain."""
    try:
        if type(value) is list and len(value) == 2:
            results, failures = value
            if type(results) is list and type(failures) is dict and len(results) == count:
                if not failures:
                    return results, failures
                if failures.keys() <= set(range(count)):
                    return results, {place: peer.rebuild(described) for place, described in failures.items()}
        raise ProtocolError("a chunk did not come back with as many results")
    except ProtocolError as error:
        ended = broken_lanes.bad_message(peer.life, error, "map")
        raise ended from ended.__cause__


def check_sizes(size: Any, ahead: Any) -> None:
    """Raise TypeError or ValueError for what is no size of a chunk or no number of chunks; `ahead` may be None."""
    for option, number in (("chunksize", size), ("buffersize", ahead)):
        if number is None and option == "buffersize":
            continue
        if not hasattr(number, "__index__"):
            raise TypeError(f"{option} is a whole number, not {number!r}")
        if number < 1:
            raise ValueError(f"{option} is a number from 1 up, not {number!r}")


def known_length(iterables: tuple[Any, ...]) -> int | None:
    """How many items there will be, where every iterable knows its length."""
    try:
        return min(len(iterable) for iterable in iterables)
    except (TypeError, ValueError):
        return None
