"""The calls of a caller's end of a shared lane: their numbers, who waits for them, and until when.

Here is what every way to wait has in common: `shared_lane` keeps a ledger under its lock, `loop_shared` on its loop.
Nothing here reads, writes, waits or looks at a clock. One thread at a time may enter; but any thread may take a call
out of `waiting` at any moment, and what an argument runs while it is encoded may open calls of its own in the middle
of `encode`; a finalizer may do so anywhere.

Invariants: numbers rise by one, in the order in which calls are sent; a call leaves the ledger exactly once, with its
answer, at its deadline, when it is given up, or with the lane; an answer to a call that has left is late, and dropped.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cloister.errors import ProtocolError
from cloister.lanes.call_frames import ANSWERS, Unreadable, call_message, read_answer

if TYPE_CHECKING:
    from cloister.wire.frames import Buffer, Frame
    from cloister.wire.values import Codec

__all__ = ["Ledger"]

F = TypeVar("F")

SLACK: Final = 64
"""Deadlines of calls that are over are thrown out when there are this many more of them than of open calls."""


class Ledger(Generic[F]):
    """The calls that have no answer yet, each with whatever waits for it."""

    __slots__ = ("_deadlines", "_noted", "said", "waiting")

    def __init__(self) -> None:
        self.said = 0
        """The number of the last call."""
        self.waiting: dict[int, F] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._noted = 0
        """How many deadlines were noted."""

    def encode(
        self,
        codec: Codec,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None,
        flags: int = 0,
    ) -> tuple[int, bytes | list[Buffer]]:
        """The number and the bytes of the next call, which the caller notes as `said` at once. Raises MarshalError.

        The bytes are a message that may stand in a row, or the pieces of a frame.
        """
        number = self.said + 1
        data = call_message(codec, number, target, name, args, kwargs, options, flags)
        while self.said >= number:  # a `__getstate__` among the arguments has made a call of its own
            number = self.said + 1
            data = call_message(codec, number, target, name, args, kwargs, options, flags)
        return number, data

    def until(self, number: int, deadline: float) -> None:
        """Note the deadline of an open call."""
        entry = (deadline, number)
        noted = self._noted
        if len(self._deadlines) > 2 * len(self.waiting) + SLACK:
            kept = [each for each in self._deadlines if each[1] in self.waiting]
            heapq.heapify(kept)
            if self._noted == noted:  # else a finalizer has called in the middle, and its deadline is not in here
                self._deadlines = kept
        self._noted += 1
        heapq.heappush(self._deadlines, entry)

    @property
    def timed(self) -> bool:
        """Whether any call has, or had, a deadline that is still to be looked at."""
        return bool(self._deadlines)

    def expire(self, now: float) -> tuple[list[F], float | None]:
        """Take out the calls whose time is up; also tell when the next one's is, None for never."""
        late: list[F] = []
        deadlines, waiting = self._deadlines, self.waiting
        while deadlines:
            deadline, number = deadlines[0]
            if number in waiting:
                if deadline > now:
                    return late, deadline
                call = waiting.pop(number, None)
                if call is not None:  # else it was given up this moment
                    late.append(call)
            heapq.heappop(deadlines)
        return late, None

    def read(
        self, codec: Codec, frame: Frame, rebuild: Callable[[Any], BaseException]
    ) -> tuple[int, Any, BaseException | None]:
        """The number of an answer, its value, and the exception that came instead, if one did.

        The call is still open then: where the answer is malformed, it fails with the lane. Raises ProtocolError.
        """
        if frame[0] not in ANSWERS:
            raise ProtocolError(f"a frame of kind {frame[0]} has no place on a shared lane")
        heard = read_answer(codec, frame)
        number = heard[0]
        if not 0 < number <= self.said:
            raise ProtocolError(f"an answer to call {number} arrived, which was never made")
        if type(heard) is Unreadable:
            return number, None, heard.error
        if heard.raised:
            return number, None, rebuild(heard.value)
        return number, heard.value, None

    def read_part(self, codec: Codec, frame: Frame) -> tuple[int, Any]:
        """The number of a call that tells something before its answer, and what it tells. Raises ProtocolError."""
        heard = read_answer(codec, frame)
        if type(heard) is Unreadable or not 0 < heard.number <= self.said:
            raise ProtocolError(f"what call {heard.number} told before its answer can't be read, or belongs to no call")
        return heard.number, heard.value
