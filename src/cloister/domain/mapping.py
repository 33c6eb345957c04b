"""`Domain.map`: a function over many items, in chunks, in order, with a bounded look ahead."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cloister.errors import ProtocolError
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloister.domain.guest_peer import GuestPeer

__all__ = ["map_chunks"]


def map_chunks(
    peer: GuestPeer, target: list[Any], iterables: tuple[Any, ...], size: int, ahead: int, return_exceptions: bool
) -> Iterator[Any]:
    """Give the results in order; see `Domain.map`. The first chunks are sent before this returns.

    Raises ValueError for a size below 1, TypeError for what can't be iterated, and what the iterables raise.
    """
    if size < 1 or ahead < 1:
        raise ValueError(f"chunksize and buffersize are numbers from 1 up, not {size!r} and {ahead!r}")
    chunks = _Chunks(peer, target, zip(*iterables, strict=False), size, ahead)
    chunks.send()
    return chunks.results(return_exceptions)


class _Chunks:
    """The chunks of one map that have been sent and not yet been given out, and those to come."""

    def __init__(
        self, peer: GuestPeer, target: list[Any], rows: Iterator[tuple[Any, ...]], size: int, ahead: int
    ) -> None:
        self._peer, self._target = peer, target
        self._rows, self._size, self._ahead = rows, size, ahead
        self._sent: deque[tuple[Future[Any], int]] = deque()

    def send(self) -> None:
        """Take items from the iterables until there are enough chunks on their way."""
        try:
            while len(self._sent) < self._ahead and (chunk := list(itertools.islice(self._rows, self._size))):
                columns = [list(column) for column in zip(*chunk, strict=True)]
                self._sent.append((self._peer.submit(SERVICE, "map", (self._target, columns), None), len(chunk)))
        except BaseException:
            self.cancel()
            raise

    def results(self, return_exceptions: bool) -> Iterator[Any]:
        """Give the results; when this is closed early, what has not been given is cancelled."""
        try:
            while self._sent:
                future, count = self._sent.popleft()
                results, failures = self._outcome(future, count)
                for place in sorted(failures):
                    results[place] = error = self._rebuilt(failures[place])
                    if not return_exceptions:
                        yield from results[:place]
                        raise error
                yield from results
                self.send()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Give up every chunk that is on its way."""
        while self._sent:
            self._sent.popleft()[0].cancel()

    def _outcome(self, future: Future[Any], count: int) -> tuple[list[Any], dict[Any, Any]]:
        """The results of a chunk, and the exceptions by their places. Where the whole chunk failed, that is raised."""
        try:
            outcome = future.result()
        except BaseException:
            future.cancel()
            raise
        match outcome:
            case [list(results), dict(failures)] if len(results) == count and failures.keys() <= set(range(count)):
                return results, failures
        raise self._peer.life.bad_message(ProtocolError("a chunk did not come back with as many results"), "map")

    def _rebuilt(self, described: Any) -> BaseException:
        try:
            return self._peer.rebuild(described)
        except ProtocolError as error:
            raise self._peer.life.bad_message(error, "map") from None
