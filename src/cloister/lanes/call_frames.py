"""Calls and answers: what they are, and the bytes of their frames. For every kind of lane.

Which of them may be said when is in `conversation` for a call lane, in `ledger` for a shared one; several in one frame
are in `rows`. Pure; any thread may enter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from cloister.errors import MarshalError, ProtocolError
from cloister.wire import frames
from cloister.wire.messages import COPY, Kind

if TYPE_CHECKING:
    from cloister.wire.frames import Buffer, Frame
    from cloister.wire.values import Codec

__all__ = [
    "ANSWERS",
    "CALL_NAMES",
    "REPLY_NAMES",
    "SERVICE_NAMES",
    "Answer",
    "Call",
    "Unreadable",
    "answer_message",
    "call_frame",
    "call_message",
    "number_of",
    "part_frame",
    "raise_frame",
    "read_answer",
    "read_call",
    "read_call_body",
    "reply_frame",
    "reply_message",
]

CALL_NAMES: Final = ("", "", "", "args", "kwargs", "options")
SERVICE_NAMES: Final = ("", "", "", ("code", "args", "kwargs"), "kwargs", "options")
REPLY_NAMES: Final = ("", "result")
"""What the parts of a message are called in the path of an error."""

ANSWERS: Final = frozenset((int(Kind.REPLY), int(Kind.RAISE)))
"""The kinds of frames that answer a call."""

_new_tuple = tuple.__new__
"""Half the time of a named tuple's own constructor, four times on the way of each call."""

_CALL, _REPLY, _RAISE, _ONE_WAY = int(Kind.CALL), int(Kind.REPLY), int(Kind.RAISE), int(Kind.ONE_WAY)
_PART = int(Kind.PART)


@final
class Call(NamedTuple):
    """A call of the peer, to be served."""

    number: int
    """0 for a call that wants no answer."""
    target: int
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    copy: bool
    """The result must travel by value."""


@final
class Answer(NamedTuple):
    """The answer to a call of this side."""

    number: int
    value: Any
    """The result, or the described exception."""
    raised: bool


@final
class Unreadable(NamedTuple):
    """A call or an answer with something in it that can't be rebuilt here. The call fails with the error."""

    number: int
    error: MarshalError


def call_frame(
    codec: Codec,
    number: int,
    target: int,
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any] | None,
    options: dict[str, Any] | None = None,
    flags: int = 0,
) -> list[Buffer]:
    """The bytes of a call; the number 0 makes one that wants no answer. Raises MarshalError."""
    buffers: list[Any] = []
    names = CALL_NAMES if target else SERVICE_NAMES
    body = codec.encode([number, target, name, [*args], kwargs or None, options], buffers, names=names)
    return frames.serialize(_CALL if number else _ONE_WAY, body, buffers, flags)


def call_message(
    codec: Codec,
    number: int,
    target: int,
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any] | None,
    options: dict[str, Any] | None,
    flags: int,
) -> bytes | list[Buffer]:
    """The message of a call where it may stand in a row (see `rows`), else the pieces of its frame.

    Raises MarshalError.
    """
    buffers: list[Any] = []
    before = codec.elaborate
    names = CALL_NAMES if target else SERVICE_NAMES
    body = codec.encode([number, target, name, [*args], kwargs or None, options], buffers, names)
    if codec.elaborate == before and not flags:
        return body
    return frames.serialize(_CALL, body, buffers, flags)


def reply_frame(codec: Codec, number: int, value: Any) -> list[Buffer]:
    """The bytes of an answer. Raises MarshalError where the value can't travel."""
    message = reply_message(codec, number, value)
    return frames.serialize(_REPLY, message) if isinstance(message, bytes) else message


def reply_message(codec: Codec, number: int, value: Any) -> bytes | list[Buffer]:
    """The message of an answer where it may stand in a row, else the pieces of its frame. Raises MarshalError."""
    buffers: list[Any] = []
    before = codec.elaborate
    body = codec.encode([number, value], buffers, REPLY_NAMES)
    return body if codec.elaborate == before else frames.serialize(_REPLY, body, buffers)


def part_frame(codec: Codec, number: int, value: Any) -> list[Buffer]:
    """The bytes of what a call on a shared lane tells before its answer. Raises MarshalError as `reply_frame`."""
    buffers: list[Any] = []
    body = codec.encode([number, value], buffers, names=REPLY_NAMES)
    return frames.serialize(_PART, body, buffers)


def raise_frame(codec: Codec, number: int, described: Any) -> list[Buffer]:
    """The bytes of an answer that is an exception, as `exceptions.describe` made it."""
    return frames.serialize(_RAISE, codec.encode([number, described]))


def number_of(body: bytes | memoryview) -> int:
    """The number of a call or an answer, read without decoding the rest. Raises ProtocolError where there is none."""
    if len(body) > 1 and body[0] & 0xF0 == 0x90:  # MessagePack: a short array, then an unsigned integer
        first = body[1]
        if first < 0x80:
            return first
        size = 1 << (first - 0xCC) if 0xCC <= first <= 0xCF else 0
        if size and len(body) >= 2 + size:
            return int.from_bytes(body[2 : 2 + size], "big")
    raise ProtocolError("a call or an answer begins with its number")


def answer_message(
    codecs: tuple[Codec, Codec],
    number: int,
    value: Any,
    error: BaseException | None,
    copy: bool,
    describe: Callable[[BaseException], Any],
) -> bytes | list[Buffer]:
    """The bytes of an answer, whichever it is: of the error where there is one, or where the value can't travel.

    They are a message that may stand in a row, or the pieces of a frame.
    `codecs` are one for saying, and one for what was asked for as a copy.
    """
    saying, copying = codecs
    if error is None:
        try:
            return reply_message(copying if copy else saying, number, value)
        except MarshalError as refused:
            error = refused
    return raise_frame(saying, number, describe(error))


def read_call(codec: Codec, frame: Frame, expected: int) -> Call | Unreadable:
    """Read a call that must have this number, or 0. Raises ProtocolError where the frame is no such call."""
    return read_call_body(codec, frame[2], frame[3], bool(frame[1] & COPY), expected)


def read_call_body(
    codec: Codec, body: bytes | memoryview, buffers: Sequence[memoryview], copy: bool, expected: int
) -> Call | Unreadable:
    """As `read_call`, of the parts of a frame."""
    try:
        message = codec.decode(body, buffers)
    except MarshalError as error:
        return Unreadable(number_of(body), error)
    try:
        if type(message) is not list:
            raise TypeError
        number, target, name, args, kwargs, options = message
    except (TypeError, ValueError):
        raise ProtocolError("a call is a list of six: number, target, name, args, kwargs, options") from None
    # First the type of each: a proxy may stand anywhere, and to compare, unpack or show one calls the other side.
    if type(number) is not int:
        raise ProtocolError("a call begins with its number")
    if number != expected or type(target) is not int or type(name) is not str or type(args) is not list:
        raise ProtocolError(f"call {number} is malformed, or out of turn: expected number {expected}")
    if kwargs is None:
        kwargs = {}
    elif type(kwargs) is not dict or not all(type(key) is str for key in kwargs):
        raise ProtocolError("the keyword arguments of a call are a map with strings as keys")
    if options is None:
        options = {}
    elif type(options) is not dict:
        raise ProtocolError("the options of a call are a map")
    return _new_tuple(Call, (number, target, name, args, kwargs, options, copy))


def read_answer(codec: Codec, frame: Frame) -> Answer | Unreadable:
    """Read an answer. Raises ProtocolError where the frame is none."""
    try:
        message = codec.decode(frame[2], frame[3])
    except MarshalError as error:
        return Unreadable(number_of(frame.body), error)
    try:
        if type(message) is not list:
            raise TypeError
        number, value = message
    except (TypeError, ValueError):
        raise ProtocolError("an answer is a list of two: number, value") from None
    if type(number) is not int:
        raise ProtocolError("an answer begins with its number")
    return _new_tuple(Answer, (number, value, frame[0] == _RAISE))
