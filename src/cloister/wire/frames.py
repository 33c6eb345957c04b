"""Frames: how messages are told apart in a stream of bytes. One frame carries one message and its large buffers.

Here are the bytes of a frame, both ways, and nothing else. What a kind means is in `messages`, how a value becomes
bytes in `values`; reading and writing is the business of lanes and pipes.

=======  ======  ========  ==========================================================================================
offset   struct  field     meaning
=======  ======  ========  ==========================================================================================
0        ``I``   length    bytes that follow the header, little-endian like all of the header
4        ``B``   kind      1 to 255; which ones there are is not decided here
5        ``B``   flags     bits of `KNOWN_FLAGS`; any other is an error, so that no flag is ever ignored by accident
6        ``H``   buffers   how many buffers follow the message, n
8                          the header ends here: `HEADER_SIZE`
8        ``nI``  table     the length of each buffer; absent when n is 0
8 + 4n                     the message: what is left of ``length``
…                          the buffers, one after the other, without gaps
=======  ======  ========  ==========================================================================================

Invariants: a header is judged as soon as it is complete, before anything is reserved for what it promises; the memory
held is what has arrived, never what was announced; a byte is copied a bounded number of times, whatever the pieces in
which it arrives; after the first error a decoder gives nothing but that error.

This module is pure: no I/O, no clock, no lock. A decoder belongs to one thread at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.limits import DEFAULT_LIMITS, WireLimits

__all__ = [
    "BODY",
    "HEADER_SIZE",
    "KNOWN_FLAGS",
    "SHORT_BYTES",
    "Buffer",
    "Frame",
    "FrameDecoder",
    "head_number",
    "parse",
    "serialize",
    "short_heads",
    "whole_mark",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

_HEADER: Final = struct.Struct("<IBBH")
_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from

HEADER_SIZE: Final = _HEADER.size
"""8 bytes."""

KNOWN_FLAGS: Final = 0x01
"""The flags that this version of the protocol knows; `messages` says what each one means."""

SHORT_BYTES: Final = 256
"""A frame whose message is shorter than this has its header in a table: nearly every call, and its answer."""

BODY: Final = slice(HEADER_SIZE, None)
"""The message in the bytes of a whole frame without buffers."""

_UNKNOWN_FLAGS: Final = 0xFF & ~KNOWN_FLAGS

_JOIN_BELOW: Final = 64 * 1024
"""A longer body is not copied behind its header but handed over beside it, for one gathering write."""

_COPY_BELOW: Final = 64 * 1024
"""Consumed bytes at the front of a decoder's buffer are dropped when there are this many, and more than half."""

_new_tuple = tuple.__new__


class Frame(NamedTuple):
    """One frame as it was received. The memoryviews are read-only and keep the bytes that they show alive."""

    kind: int
    flags: int
    body: bytes | memoryview
    buffers: tuple[memoryview, ...] = ()


def serialize(
    kind: int, body: Buffer, buffers: Sequence[Buffer] = (), flags: int = 0, limits: WireLimits = DEFAULT_LIMITS
) -> list[Buffer]:
    """Give the pieces of a frame, to be written one after the other. A small frame is one piece.

    `buffers` are C-contiguous; they are not copied, and must not change until they have been written.

    Raises `MarshalError` where the frame would exceed `limits`: the peer would refuse it. `ValueError` for a kind or
    flags that have no place in a header.
    """
    length = len(body)
    if not buffers and length <= _JOIN_BELOW and length <= limits.message_bytes:
        try:
            return [_pack_header(length, kind, flags, 0) + body]
        except struct.error as error:
            raise _misfit(kind, flags) from error
    if length > limits.message_bytes:
        raise MarshalError(
            f"a message of {length:,} bytes exceeds the limit of {limits.message_bytes:,}. "
            "Send it in parts, as bytes or as an array, or raise the limit message_bytes"
        )
    if len(buffers) > limits.buffers:
        raise MarshalError(
            f"a message with {len(buffers):,} large buffers exceeds the limit of {limits.buffers:,}. "
            "Send it in parts, or raise the limit buffers"
        )
    sizes = [memoryview(buffer).nbytes for buffer in buffers]
    length += 4 * len(sizes) + sum(sizes)
    if length > limits.frame_bytes:
        raise MarshalError(
            f"a frame of {length:,} bytes exceeds the limit of {limits.frame_bytes:,}. "
            "Send it in parts, put it into shared memory, or raise the limit frame_bytes"
        )
    try:
        head = _pack_header(length, kind, flags, len(sizes)) + struct.pack(f"<{len(sizes)}I", *sizes)
    except struct.error as error:
        raise _misfit(kind, flags) from error
    if length <= _JOIN_BELOW:
        return [b"".join((head, body, *buffers))]
    return [head, body, *buffers]


def short_heads(kind: int) -> tuple[bytes, ...]:
    """Give the headers of frames of a kind without flags and buffers, by the length of a message of `SHORT_BYTES`.

    To look one up and put it in front takes half the time of packing it.
    """
    return tuple(_pack_header(length, kind, 0, 0) for length in range(SHORT_BYTES))


def whole_mark(kind: int) -> int:
    """Give what `head_number` exceeds the length of the bytes by, where these are one whole frame of a kind.

    That is without flags and buffers. One comparison tells what takes five with the parts of the header, so a lane
    first tries whether it has read what it waits for: ``head_number(data)[0] == len(data) + whole_mark(kind)``.
    """
    return (kind << 32) - HEADER_SIZE


head_number = struct.Struct("<Q").unpack_from
"""Read a header as one number, in a tuple. The bytes are at least `HEADER_SIZE` long, else struct.error."""


def _misfit(kind: int, flags: int) -> ValueError:
    return ValueError(f"kind {kind} or flags {flags:#x} do not fit into a byte")


def parse(data: bytes, limits: WireLimits = DEFAULT_LIMITS) -> Frame | None:
    """Give the frame that `data` is, or None where `data` is anything but one whole, small, plain frame.

    This is the short way for a read that returned exactly one message, which is nearly every read of a call. None is
    not an error: feed the same bytes to a `FrameDecoder`, which also finds out what is wrong with them.
    """
    length = len(data) - HEADER_SIZE
    if length < 0:
        return None
    said, kind, flags, count = _unpack_header(data)
    if said != length or count or not kind or flags & _UNKNOWN_FLAGS:
        return None
    if length > _JOIN_BELOW or length > limits.message_bytes:
        return None
    return _new_tuple(Frame, (kind, flags, data[HEADER_SIZE:], ()))


class FrameDecoder:
    """Frames out of bytes that arrive in any pieces.

    Feed what arrived, then take frames until there is none. The decoder holds what was fed and not yet taken; how much
    is fed at a time is the caller's choice (`wanted` is a good one).
    """

    __slots__ = ("_data", "_error", "_limits", "_short", "_start")

    def __init__(self, limits: WireLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._short = min(_JOIN_BELOW, limits.message_bytes, limits.frame_bytes)
        self._data = bytearray()
        self._start = 0
        self._error: ProtocolError | None = None

    def feed(self, data: Buffer) -> None:
        """Add what arrived. An empty `data` adds nothing; the end of the stream is told by `finish`.

        After an error nothing is held any more.
        """
        if self._error is None:
            self._data += data

    def take(self, data: bytes) -> Frame | None:
        """As `feed`, and then `next_frame`: quicker where one read has given one whole frame."""
        if not self._data and self._error is None:
            frame = parse(data, self._limits)
            if frame is not None:
                return frame
        self.feed(data)
        return self.next_frame()

    @property
    def wanted(self) -> int:
        """How many bytes complete the header or the frame that has begun; 0 when a frame is ready, or after an error.

        Never more than `limits.frame_bytes` and a header. More may be fed.
        """
        have = len(self._data) - self._start
        if have < HEADER_SIZE:
            return HEADER_SIZE - have
        length: int = _unpack_header(self._data, self._start)[0]
        return max(0, length + HEADER_SIZE - have) if length <= self._limits.frame_bytes else 0

    def next_frame(self) -> Frame | None:
        """Take the next frame, or None until more has been fed.

        Raises `ProtocolError` where the stream is not a stream of frames, or a limit is exceeded; then always again,
        because nobody knows where the next frame would begin.
        """
        if self._error is not None:
            raise self._error
        data, start = self._data, self._start
        have = len(data) - start - HEADER_SIZE
        if have < 0:
            return None
        length, kind, flags, count = _unpack_header(data, start)
        if not count and length <= have and length <= self._short and kind and not flags & _UNKNOWN_FLAGS:
            # A short message alone, and all of it: nearly every frame.
            first = start + HEADER_SIZE
            end = first + length
            body: bytes | memoryview = bytes(memoryview(data)[first:end])
            if end == len(data):
                data.clear()
                self._start = 0
            else:
                self._consume(end)
            return _new_tuple(Frame, (kind, flags, body, ()))
        if length > self._limits.frame_bytes or not kind or flags & _UNKNOWN_FLAGS or count > self._limits.buffers:
            raise self._refuse(length, kind, flags, count)
        if 4 * count > length or (not count and length > self._limits.message_bytes):
            raise self._refuse(length, kind, flags, count)
        sizes: tuple[int, ...] = ()
        message = length
        if count and have >= 4 * count:
            # The table is judged before the rest of the frame has arrived.
            sizes = struct.unpack_from(f"<{count}I", data, start + HEADER_SIZE)
            message = length - 4 * count - sum(sizes)
            if message < 0 or message > self._limits.message_bytes:
                raise self._refuse(length, kind, flags, count)
        if have < length:
            return None
        end = start + HEADER_SIZE + length
        first = start + HEADER_SIZE
        if end == len(data):
            # The usual case of a large frame: its bytes are handed over as they lie, and not copied again.
            view = memoryview(data).toreadonly()[first:]
            self._data, self._start = bytearray(), 0
        else:
            view = memoryview(bytes(memoryview(data)[first:end]))
            self._consume(end)
        if not count:
            return Frame(kind, flags, view, ())
        at = 4 * count
        body = view[at : at + message]
        at += message
        buffers = []
        for size in sizes:
            buffers.append(view[at : at + size])
            at += size
        return Frame(kind, flags, body, tuple(buffers))

    def finish(self) -> None:
        """Tell that the stream has ended.

        Raises `ProtocolError` where it ended inside a frame, or where an error was found before.
        """
        if self._error is not None:
            raise self._error
        have = len(self._data) - self._start
        if have:
            self._error = ProtocolError(f"the stream ended inside a frame, {have:,} bytes after its beginning")
            raise self._error

    def _consume(self, end: int) -> None:
        if end == len(self._data):
            self._data.clear()
            self._start = 0
        elif end > _COPY_BELOW and 2 * end > len(self._data):
            del self._data[:end]
            self._start = 0
        else:
            self._start = end

    def _refuse(self, length: int, kind: int, flags: int, count: int) -> ProtocolError:
        """Make the error for a header that is not acceptable, drop what was fed, and stay broken."""
        limits = self._limits
        if not kind:
            reason = "kind 0 does not exist"
        elif flags & _UNKNOWN_FLAGS:
            reason = f"flags {flags:#04x} are unknown, this side knows {KNOWN_FLAGS:#04x}"
        elif length > limits.frame_bytes:
            reason = f"its length of {length:,} bytes exceeds the limit of {limits.frame_bytes:,}"
        elif count > limits.buffers:
            reason = f"its {count:,} buffers exceed the limit of {limits.buffers:,}"
        elif not count:
            reason = f"its message of {length:,} bytes exceeds the limit of {limits.message_bytes:,}"
        else:
            reason = (
                f"its {count:,} buffers do not fit into its {length:,} bytes, or leave a message of more than "
                f"{limits.message_bytes:,}"
            )
        self._error = ProtocolError(f"bad frame of kind {kind}: {reason}")
        self._data, self._start = bytearray(), 0
        return self._error
