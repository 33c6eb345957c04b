"""The side that reads a stream: what has arrived of it, and how much is asked for next.

A proxy of an iterator has one `Reading`, from its first item on. It reads ahead, so that an item costs a hundredth of a
round trip: item by item at first, then in batches that grow while the other side fills them quickly, and shrink where
it does not. What is read ahead is held here until it is asked for, and bounded by one batch; a stream that nobody reads
pulls nothing. What is a batch, and how nothing of one is lost, is told in `streams`.

A stream that is dropped before its end is let go over there soon, so that its `finally` clauses run; another object can
wait for the next beat.

Any thread may read. One at a time pulls: of a generator the others get Python's own ValueError, of another iterator
they wait. Two coroutines get Python's RuntimeError. A batch that breaks the rules ends the domain that sent it.
"""

from __future__ import annotations

import inspect
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

from cloister.calling import deadline
from cloister.errors import CallTimeout, MarshalError, ProtocolError
from cloister.objects.streams import END, MORE, MOST_BYTES, MOST_ITEMS, RAISED

__all__ = ["Reading", "Source", "limit_reading", "reading_of"]

QUICK_S: Final = 0.05
"""A pull of one item that takes longer is none of a quick stream."""
SINGLE: Final = 16
"""Items that are pulled one by one before the first batch: a short burst of a slow producer is not held back."""

_making = threading.RLock()
_numbers = itertools.count(1, 1 << 32)
"""Where each reading begins to count its answers: no two of them ever have the same number."""


class _Peer(Protocol):
    """The other side, as a stream needs it."""

    def call(self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Call a method of an object over there."""

    def rebuild(self, described: Any) -> BaseException:
        """Turn plain values into an exception."""

    def broken(self, error: ProtocolError, name: str) -> BaseException:
        """End a peer that breaks the rules; return what to raise."""


class Source(Protocol):
    """A proxy of an iterator."""

    _cloister_id: int
    _cloister_peer: _Peer
    _cloister_pull: str
    """What its iterator is pulled with: ``__next__`` or ``__anext__``."""
    _cloister_generator: bool


class Reading:
    """What has arrived of one stream."""

    __slots__ = (
        "_had", "_hurry", "_limit", "_lock", "_lost", "_over", "_owner", "_quick", "closed", "end", "items", "most"
    )  # fmt: skip

    def __init__(self, hurry: Callable[[], object] | None = None) -> None:
        """`hurry` tells the other side soon what was dropped here; it is called where nobody has read to the end."""
        self._hurry, self._over = hurry, False
        self.items: deque[Any] = deque()
        self.end: tuple[int, Any] | None = None
        """How the stream ends after these items, where that is known: END and a value, or RAISED and an exception."""
        self.most = MOST_ITEMS
        self.closed = False
        self._limit = 1
        self._quick = 0
        self._had = next(_numbers)
        self._lost = False
        self._lock = threading.Lock()
        self._owner = 0

    def __del__(self) -> None:
        """The proxy has gone, and the note of its end is in the queue by now."""
        if self._hurry is not None and not self._over:
            self._hurry()

    # -- reading -----------------------------------------------------------------------------------------------------

    def next(self, source: Source) -> Any:
        """The next item, when none has arrived already. Raises what ends the stream, and the errors of calls."""
        self._enter(source)
        try:
            while True:
                try:
                    return self.items.popleft()
                except IndexError:
                    pass
                if self.end is not None:
                    self._finish(StopIteration)
                begun = time.monotonic()
                try:
                    answer = source._cloister_peer.call(source._cloister_id, source._cloister_pull, self._ask(), None)
                except MarshalError:
                    if not self._shrink():
                        raise
                else:
                    if type(answer) is not list and inspect.isawaitable(answer):
                        self._refuse(answer, source)
                    self._take(answer, source, begun)
        finally:
            self._owner = 0
            self._lock.release()

    async def next_async(self, source: Source) -> Any:
        """The same where calls are awaited; where they are not, it waits for them."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("anext(): the stream is being read by another coroutine or thread")
        self._owner = threading.get_ident()
        try:
            while True:
                try:
                    return self.items.popleft()
                except IndexError:
                    pass
                if self.end is not None:
                    self._finish(StopAsyncIteration)
                begun = time.monotonic()
                try:
                    answer = source._cloister_peer.call(source._cloister_id, source._cloister_pull, self._ask(), None)
                    if type(answer) is not list and inspect.isawaitable(answer):
                        answer = await answer
                except MarshalError:
                    if not self._shrink():
                        raise
                else:
                    self._take(answer, source, begun)
        finally:
            self._owner = 0
            self._lock.release()

    def _enter(self, source: Source) -> None:
        me = threading.get_ident()
        if not self._lock.acquire(blocking=False):
            if source._cloister_generator or self._owner == me:
                raise ValueError("generator already executing: it is read by two at once")
            limit = deadline.get()
            left = -1.0 if limit is None else max(0.0, limit - time.monotonic())
            if not self._lock.acquire(timeout=min(left, threading.TIMEOUT_MAX)):
                raise CallTimeout("the time was up while another thread waited for the next item of the stream")
        self._owner = me

    def _ask(self) -> tuple[int, int, int]:
        self._lost = True  # until an answer has been had
        return self._limit, MOST_BYTES, self._had

    def _shrink(self) -> bool:
        """Something in the answer could not travel: have it again, item by item. False where it was one item alone."""
        single = self._limit == 1
        self._limit, self._quick = 1, 0
        if single:
            self._had, self._lost = self._had + 1, False  # there is no more of it to be had
        return not single

    def _take(self, answer: Any, source: Source, begun: float) -> None:
        peer = source._cloister_peer
        try:
            items, self.end = _checked(answer, self._limit, peer)
        except ProtocolError as error:
            raise peer.broken(error, source._cloister_pull) from None
        self._had, self._lost, self._over = self._had + 1, False, self.end is not None
        if self._limit == 1:
            self._quick = self._quick + 1 if time.monotonic() - begun < QUICK_S else 0
        elif len(items) < 2:
            self._quick = 0
        self._limit = max(1, min(2 * len(items), self.most)) if self._quick > SINGLE else 1
        self.items.extend(items)

    def _finish(self, stop: type[StopIteration | StopAsyncIteration]) -> NoReturn:
        ended, self.end = self.end, None
        if ended is not None and ended[0] == RAISED:
            raise ended[1]
        if ended is not None and ended[1] is not None and stop is StopIteration:
            raise StopIteration(ended[1])
        raise stop

    def _refuse(self, answer: Any, source: Source) -> NoReturn:
        cancel = getattr(answer, "cancel", None) or getattr(answer, "close", None)
        if cancel is not None:
            cancel()
        raise TypeError(f"{source!r} is read from a coroutine: use `async for`, or await anext()")

    # -- a generator's own methods -----------------------------------------------------------------------------------

    def step(self, source: Source, name: str, args: tuple[Any, ...]) -> Any:
        """Call `send` or `throw`, or their async kin; give the item, or the awaitable of it.

        From then on the generator is read item by item, because what is sent belongs to the item before it.
        Raises RuntimeError for a `send` to a generator that has run ahead of its reader.
        """
        if name in ("throw", "athrow"):
            self.drop()
        elif self.items or self.end is not None or self._lost:
            raise RuntimeError(
                f"{name}() would reach the generator {len(self.items)} items further on than it was read here; let it"
                " be read without reading ahead: cloister.stream(generator, ahead=1)"
            )
        self.most = self._limit = 1
        answer = source._cloister_peer.call(source._cloister_id, name, args, None)
        if type(answer) is not list and inspect.isawaitable(answer):
            return self._step_async(answer, source, name)
        return self._stepped(answer, source, name, StopIteration if name in ("send", "throw") else StopAsyncIteration)

    async def _step_async(self, answer: Any, source: Source, name: str) -> Any:
        return self._stepped(await answer, source, name, StopAsyncIteration)

    def _stepped(self, answer: Any, source: Source, name: str, stop: Any) -> Any:
        try:
            items, self.end = _checked(answer, 1, source._cloister_peer)
        except ProtocolError as error:
            raise source._cloister_peer.broken(error, name) from None
        self._over = self.end is not None
        if not items:
            self._finish(stop)
        return items[0]

    def close(self) -> None:
        """Keep nothing of what was read ahead: the stream is being closed."""
        self._over = True
        self.drop()

    def drop(self) -> None:
        """Keep nothing of what was read ahead."""
        self.items.clear()
        self.end = None


def _checked(answer: Any, most: int, peer: _Peer) -> tuple[list[Any], tuple[int, Any] | None]:
    """The items of an answer, and the end. Raises ProtocolError where the answer is none."""
    if type(answer) is not list or len(answer) != 3:
        what = f"a list of {len(answer)}" if type(answer) is list else f"a {type(answer).__name__}"
        raise ProtocolError(f"a stream answers a list of three - items, state, more - and not {what}")
    items, state, more = answer
    if type(items) is not list or type(state) is not int or not MORE <= state <= RAISED:
        given = f"{type(items).__name__} and {type(state).__name__}"
        raise ProtocolError(f"a stream answers a list of items and a state from {MORE} to {RAISED}, not {given}")
    if len(items) > most:
        raise ProtocolError(f"a stream answered {len(items)} items where {most} were asked for")
    if state == MORE:
        if not items or more is not None:
            raise ProtocolError("a stream that has not ended answers one item or more, and nothing else")
        return items, None
    return items, (END, more) if state == END else (RAISED, peer.rebuild(more))


def reading_of(source: Any) -> Reading:
    """The reading of a proxy; made where it has none yet."""
    try:
        found: Reading = source._cloister_reading
    except AttributeError:
        with _making:
            try:
                found = source._cloister_reading
            except AttributeError:
                found = Reading(source._cloister_peer.imports.hurry)
                object.__setattr__(source, "_cloister_reading", found)
    return found


def limit_reading(source: Any, ahead: int) -> None:
    """Let a stream be read at most so many items at a time from now on."""
    reading = reading_of(source)
    reading.most = min(ahead, MOST_ITEMS)
    reading._limit = min(reading._limit, reading.most)
