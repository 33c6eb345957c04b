"""Rows: short calls, or short answers, of a shared lane that travel in one frame.

Here are the bytes of a row, both ways, and how what was collected is cut into frames; who collects it and when it
leaves is in `sending`, `loop_shared` and `outgoing`. A row is an array of what would be the messages of single frames,
one after the other as they were encoded. So it costs one header, one look and one decode, and a message is encoded when
it is made: what an argument becomes later does not matter.

Invariant: a row holds MessagePack's own types alone, see `Codec.elaborate`. Nothing in it can be refused by itself, so
one bad message never harms the others of its row. Whatever else arrives is a ProtocolError. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import ProtocolError
from cloister.lanes.call_frames import Call
from cloister.wire import frames
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.wire.frames import Buffer, Frame
    from cloister.wire.values import Codec

__all__ = ["CALLS", "REPLIES", "ROW_BYTES", "calls_frame", "framed", "read_calls", "read_replies", "replies_frame"]

ROW_BYTES: Final = 8 * 1024
"""A row that has so many bytes takes no more."""

CALLS, REPLIES = int(Kind.CALLS), int(Kind.REPLIES)
_CALL, _REPLY = int(Kind.CALL), int(Kind.REPLY)
_CALL_HEADS, _REPLY_HEADS = frames.short_heads(_CALL), frames.short_heads(_REPLY)
_SHORT_ROW: Final = 16
"""An array of fewer items says how many in its first byte."""
_long_row = struct.Struct(">BH").pack

_first = itemgetter(0)
_LISTS: Final = {list}
_INTS: Final = {int}
_TEXTS: Final = {str}
_DICTS: Final = {dict}
_NOTHING: Final = {type(None)}
_PAIRS: Final = {2}
_SIXES: Final = {6}

_new_tuple = tuple.__new__
_ONLY_SHORT: Final = frozenset((bytes,))


def framed(
    row: Sequence[bytes | list[Buffer]], frame: Callable[[Sequence[bytes]], bytes]
) -> Iterator[tuple[int, bytes | list[Buffer]]]:
    """Give the frames of what was collected, in its order, each with how many of the row are in it.

    A short message is collected as its bytes; as many as fit go into one frame, which `frame` makes. Anything else is
    collected in the pieces of its frame, and given as it is.
    """
    if not row:
        return
    if _ONLY_SHORT.issuperset(map(type, row)) and sum(map(len, row)) < ROW_BYTES:
        yield len(row), frame(row)  # type: ignore[arg-type]  # all of it is bytes
        return
    bodies: list[bytes] = []
    size = 0
    for each in row:
        if isinstance(each, bytes):
            bodies.append(each)
            size += len(each)
            if size < ROW_BYTES:
                continue
        if bodies:
            yield len(bodies), frame(bodies)
            bodies, size = [], 0
        if not isinstance(each, bytes):
            yield 1, each
    if bodies:
        yield len(bodies), frame(bodies)


def calls_frame(bodies: Sequence[bytes]) -> bytes:
    """The frame of these encoded calls: a row, or a CALL where it is one."""
    return _frame(bodies, CALLS, _CALL, _CALL_HEADS)


def replies_frame(bodies: Sequence[bytes]) -> bytes:
    """The frame of these encoded answers: a row, or a REPLY where it is one."""
    return _frame(bodies, REPLIES, _REPLY, _REPLY_HEADS)


def _frame(bodies: Sequence[bytes], row: int, one: int, heads: Sequence[bytes]) -> bytes:
    count = len(bodies)
    if count == 1:
        body = bodies[0]
        length = len(body)
        return heads[length] + body if length < frames.SHORT_BYTES else b"".join(frames.serialize(one, body))
    beginning = bytes((0x90 | count,)) if count < _SHORT_ROW else _long_row(0xDC, count)
    return b"".join(frames.serialize(row, b"".join((beginning, *bodies))))


def read_calls(codec: Codec, frame: Frame, first: int) -> list[Call]:
    """Read a row of calls whose numbers begin with `first`. Raises ProtocolError where the frame is none."""
    messages = _messages(codec, frame)
    # All at once, as below; what is not the usual is looked at one by one, which also tells what is wrong.
    if {*map(type, messages)} == _LISTS and {*map(len, messages)} == _SIXES:
        numbers, targets, names, args, kwargs, options = zip(*messages, strict=True)
        if (
            numbers == (*range(first, first + len(numbers)),)
            and {*map(type, numbers), *map(type, targets)} == _INTS
            and {*map(type, names)} == _TEXTS
            and {*map(type, args)} == _LISTS
            and {*map(type, kwargs)} == _NOTHING
            and {*map(type, options)} == _DICTS
        ):
            rest = zip(numbers, targets, names, args, options, strict=True)
            return [_new_tuple(Call, (said, to, name, given, {}, left, False)) for said, to, name, given, left in rest]
    return [_read_one(message, number) for number, message in enumerate(messages, first)]


def _read_one(message: Any, number: int) -> Call:
    """Read a call of a row that has this number. Raises ProtocolError."""
    try:
        said, target, name, args, kwargs, options = message
    except (TypeError, ValueError):
        raise ProtocolError("a call is a list of six: number, target, name, args, kwargs, options") from None
    if (
        type(message) is not list
        or type(said) is not int
        or said != number
        or type(target) is not int
        or type(name) is not str
        or type(args) is not list
        or (options is not None and type(options) is not dict)
    ):
        raise ProtocolError(f"call {number} of a row is malformed, or out of turn")
    if kwargs is None:
        kwargs = {}
    elif type(kwargs) is not dict or not all(type(key) is str for key in kwargs):
        raise ProtocolError("the keyword arguments of a call are a map with strings as keys")
    return _new_tuple(Call, (number, target, name, args, kwargs, options or {}, False))


def read_replies(codec: Codec, frame: Frame, said: int) -> list[list[Any]]:
    """Read a row of answers, [number, value] each, to calls of which the last has the number `said`.

    Raises ProtocolError where the frame is none, or answers a call that was never made.
    """
    replies = _messages(codec, frame)
    # All at once: a step of Python for each of them takes longer than its decoding.
    if {*map(type, replies)} != _LISTS or {*map(len, replies)} != _PAIRS:
        raise ProtocolError("an answer is a list of two: number, value")
    numbers = list(map(_first, replies))
    if {*map(type, numbers)} != _INTS or min(numbers) < 1 or max(numbers) > said:
        raise ProtocolError("an answer of a row names a call that was never made")
    return replies


def _messages(codec: Codec, frame: Frame) -> list[Any]:
    if frame[1] or frame[3]:
        raise ProtocolError("a row has no flags, and no buffers beside it")
    messages = codec.decode_plain(frame[2])
    if type(messages) is not list or not messages:
        raise ProtocolError("a row is a list of messages")
    return messages
