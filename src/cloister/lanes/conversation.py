"""The core of a call lane, without input or output: strictly nested calls, in both directions.

Here is what a lane may say and expect in each state; the bytes of a call are in `call_frames`, and `call_lane` moves
them. One thread at a time may enter. Pure.

The state is one stack for each direction:

- ``waiting``: the numbers of the calls that this side has sent and that have no answer yet, outermost first;
- ``serving``: the numbers of the peer's calls that this side serves now.

Invariants:

1. A side sends a call only while it is the one to speak: it is idle, or it serves a call of its peer.
2. An answer belongs to the last number in ``waiting``. A number in ``abandoned`` was given up by its caller; its late
   answer is thrown away, and never given to anybody else.
3. The peer's calls are numbered 1, 2, 3 …
4. The number stands first in a body, so it is known even where the rest can't be rebuilt here.
5. Whatever else arrives is a `ProtocolError`, and the lane is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.lanes.call_frames import (
    ANSWERS,
    CALL_NAMES,
    REPLY_NAMES,
    SERVICE_NAMES,
    Answer,
    Call,
    Unreadable,
    call_frame,
    number_of,
    raise_frame,
    read_answer,
    read_call,
    read_call_body,
)
from cloister.wire import frames
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.wire.frames import Buffer, Frame
    from cloister.wire.values import Codec

__all__ = ["OTHER", "Conversation"]

_CALL, _REPLY, _RAISE, _ONE_WAY = int(Kind.CALL), int(Kind.REPLY), int(Kind.RAISE), int(Kind.ONE_WAY)
_CALL_HEADS, _REPLY_HEADS = frames.short_heads(_CALL), frames.short_heads(_REPLY)
_CALL_MARK, _REPLY_MARK = frames.whole_mark(_CALL), frames.whole_mark(_REPLY)

# Names of this module, because a look-up less counts on the way of each call.
_head_number, _BODY, _SHORT_BYTES, _HEADER_SIZE = (
    frames.head_number,
    frames.BODY,
    frames.SHORT_BYTES,
    frames.HEADER_SIZE,
)

OTHER: Final = object()
"""What `Conversation.result_in` gives for anything but the result that is waited for."""


def _unasked(number: int) -> ProtocolError:
    return ProtocolError(f"an answer to call {number!r} arrived that nobody waits for")


class Conversation:
    """The state of one end of a call lane."""

    __slots__ = ("_codec", "_copier", "_heard", "_said", "abandoned", "serving", "waiting")

    def __init__(self, codec: Codec, copier: Codec | None = None) -> None:
        """Start a conversation. `copier` encodes the results that were asked for with `COPY`, else `codec` does."""
        self._codec = codec
        self._copier = copier or codec
        self._said = 0
        self._heard = 0
        self.waiting: list[int] = []
        self.serving: list[int] = []
        self.abandoned: set[int] = set()

    def let_go(self) -> None:
        """Nobody has the lane any more: its codecs are not needed."""
        self._codec.let_go()
        self._copier.let_go()

    @property
    def next_number(self) -> int:
        """The number that the next call of this side gets."""
        return self._said + 1

    def ask(
        self,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None = None,
        flags: int = 0,
    ) -> list[Buffer]:
        """Open a call; return the bytes to send.

        Raises MarshalError where an argument can't travel; the call is not open then, and nothing has changed.
        """
        number = self._said + 1
        buffers: list[Any] = []
        names = CALL_NAMES if target else SERVICE_NAMES
        # As `call_frame` does it, without the way there.
        body = self._codec.encode([number, target, name, [*args], kwargs or None, options], buffers, names)
        length = len(body)
        if length < _SHORT_BYTES and not buffers and not flags:
            data: list[Buffer] = [_CALL_HEADS[length] + body]
        else:
            data = frames.serialize(_CALL, body, buffers, flags)
        while self._said >= number:  # a `__getstate__` among the arguments has made a call of its own on this lane
            number = self._said + 1
            data = call_frame(self._codec, number, target, name, args, kwargs, options, flags)
        self._said = number
        self.waiting.append(number)
        return data

    def tell(
        self,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None = None,
    ) -> list[Buffer]:
        """Return the bytes of a call that wants no answer. Raises MarshalError as `ask`."""
        return call_frame(self._codec, 0, target, name, args, kwargs, options)

    # -- the short way: a read gave the bytes of one whole frame, and it is the one that is waited for ----------------

    def result_in(self, data: bytes) -> Any:
        """Give the result of the last call where `data` is its answer, else `OTHER`; then nothing has happened.

        Raises as `hear`.
        """
        size = len(data)
        if size <= _HEADER_SIZE or _head_number(data)[0] != size + _REPLY_MARK or self.abandoned:
            return OTHER
        try:
            message = self._codec.decode(data[_BODY])
            if type(message) is not list:
                raise TypeError
            number, value = message
        except MarshalError:
            self._settle(number_of(data[_BODY]))
            raise
        except (TypeError, ValueError):
            raise ProtocolError("an answer is a list of two: number, value") from None
        waiting = self.waiting
        if type(number) is not int:
            raise ProtocolError("an answer begins with its number")
        if not waiting or waiting[-1] != number:
            raise _unasked(number)
        waiting.pop()
        return value

    def call_in(self, data: bytes) -> Call | Unreadable | None:
        """Give the call that `data` is, or None where it is anything else; then nothing has happened.

        Raises as `hear`.
        """
        size = len(data)
        if size <= _HEADER_SIZE or _head_number(data)[0] != size + _CALL_MARK:
            return None
        self._heard = number = self._heard + 1
        return read_call_body(self._codec, data[_BODY], (), False, number)

    # -- any way -----------------------------------------------------------------------------------------------------

    def hear(self, frame: Frame) -> Call | Answer | Unreadable | None:
        """Take a frame of the peer; None for a late answer, which is thrown away.

        An `Unreadable` is a call. Raises ProtocolError where the frame is not one that the peer may send now, and
        MarshalError where the answer to the last call can't be rebuilt here: that call is over then.
        """
        kind = frame[0]
        if kind == _CALL:
            self._heard += 1
            return read_call(self._codec, frame, self._heard)
        if kind in ANSWERS:
            heard = read_answer(self._codec, frame)
            if not self._settle(heard[0]):
                return None
            if type(heard) is Unreadable:
                raise heard.error
            return heard
        if kind == _ONE_WAY:
            return read_call(self._codec, frame, 0)
        raise ProtocolError(f"a frame of kind {kind} has no place on a lane")

    def _settle(self, number: int) -> bool:
        """The answer to a call has come; False where it was abandoned. Raises ProtocolError where nobody waits."""
        waiting = self.waiting
        if waiting and number == waiting[-1]:
            waiting.pop()
            return True
        if number in self.abandoned:
            self.abandoned.discard(number)
            return False
        raise _unasked(number)

    def abandon(self) -> None:
        """Give up the last call: its answer, whenever it comes, is thrown away."""
        self.abandoned.add(self.waiting.pop())

    def reply(self, number: int, value: Any, copy: bool = False) -> list[Buffer]:
        """Return the bytes that answer a call. Raises MarshalError where the value can't travel."""
        buffers: list[Any] = []
        body = (self._copier if copy else self._codec).encode([number, value], buffers, REPLY_NAMES)
        length = len(body)
        if length < _SHORT_BYTES and not buffers:
            return [_REPLY_HEADS[length] + body]
        return frames.serialize(_REPLY, body, buffers)

    def refuse(self, number: int, described: Any) -> list[Buffer]:
        """Return the bytes that answer a call with an exception."""
        return raise_frame(self._codec, number, described)
