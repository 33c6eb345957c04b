"""Messages in a stream of bytes: four framings, each way, without any input or output.

A `Framing` belongs to one pipe. Going out, `frame` makes the bytes of one message. Coming in, `feed` takes the bytes as
they arrive, in pieces of any size, and `next_message` gives the messages. Not here: reading and writing (`pipe`,
`asynchronous`), and what is in a message.

==================  ============================================================================  ====================
framing             a message on the wire                                                         limits
==================  ============================================================================  ====================
``length``          u32, little endian: the number of bytes; the bytes                            4 GiB - 1
``line``            the text, then a newline in the same encoding. A carriage return before the   holds no CR and no LF
                    newline is taken off, and so is a byte order mark at the start of the stream
``raw``             none: a message is what one read finds                                        never empty
``stream-string``   u16, big endian: the number of bytes; the bytes (.NET's StreamString sample,  65,535 bytes
                    with the encoding ``utf-16-le``)
==================  ============================================================================  ====================

Invariants:

1. A message is given whole, once, in order, however the bytes were cut.
2. `max_message` counts the encoded bytes of a message, without header or newline. One that is longer raises
   `MessageTooLarge`: going out before a byte is made, coming in before it is stored. Coming in it is passed over, so
   the next message is whole.
3. A header that lies allocates nothing: memory grows only with what has arrived, and never beyond one message of the
   limit and one read.

Pure, and not safe for threads: one thread at a time feeds and takes. `frame` keeps no state.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

from cloister.errors import MessageTooLarge

__all__ = ["DEFAULT_MAX_MESSAGE", "Framing", "FramingName", "make_framing"]

FramingName: TypeAlias = Literal["length", "line", "raw", "stream-string"]

Buffer: TypeAlias = bytes | bytearray | memoryview

DEFAULT_MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes. Large enough for what people send as one message, small enough that a hostile peer can't fill the memory."""

_LARGE = 64 * 1024
"""Bytes. A longer message is not copied whole before it is sent, nor gathered in one buffer when it is received."""

_CRUMB = 4096
"""Bytes. Pieces below it are gathered, so that a peer that sends single bytes can't fill the memory with objects."""


class Framing(ABC):
    """One way to cut a stream into messages, with the bytes that wait to be a message."""

    counts_ahead = False
    """Whether a message says its size first, so that a reader can stop exactly at its end."""

    def __init__(self, max_message: int) -> None:
        self.max_message = max_message
        self._buffer = bytearray()

    @abstractmethod
    def frame(self, message: Buffer) -> bytes:
        """The bytes of one message on the wire.

        Raises `MessageTooLarge`, and ValueError for a message that this framing can't carry.
        """

    def frame_parts(self, message: Buffer) -> tuple[bytes, memoryview | None]:
        """As `frame`, in two parts: the second, where there is one, is a view of `message`, which is not copied."""
        return self.frame(message), None

    def feed(self, data: bytes) -> None:
        """Take in bytes that arrived."""
        self._buffer += data

    def next_after(self, data: bytes) -> bytes | None:
        """As `feed` and then `next_message`, quicker where the data is exactly one message."""
        self.feed(data)
        return self.next_message()

    @abstractmethod
    def next_message(self) -> bytes | None:
        """The next message, or None when more bytes are needed.

        Raises `MessageTooLarge` once for a message that is longer than the limit; the call after it goes on.
        """

    @property
    def wanted(self) -> int:
        """How many bytes are certainly needed before `next_message` can give the next message; at least 1."""
        return 1

    @property
    def held(self) -> int:
        """How many bytes have come and have not been given; 0 when nothing would be lost with this framing."""
        return len(self._buffer)

    @property
    def unfinished(self) -> int:
        """How many bytes of a message have come whose end has not."""
        return self.held

    def take_bytes(self, limit: int) -> bytes:
        """Up to `limit` bytes as they came, without looking for messages; b"" when there are none."""
        return self._take(min(limit, len(self._buffer)))

    def _take(self, count: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[:count])
        del self._buffer[:count]  # only moves the start; the bytes behind are not copied each time
        return taken

    def _refuse(self, size: int, direction: str) -> MessageTooLarge:
        return MessageTooLarge(
            f"a message of {size} bytes {direction}: at most {self.max_message} are allowed (max_message=)"
        )

    def _check_size(self, message: Buffer) -> int:
        size = len(message) if isinstance(message, bytes) else memoryview(message).nbytes  # bytes, never items
        if size > self.max_message:
            raise self._refuse(size, "was to be sent")
        return size


class _Prefixed(Framing):
    """The number of bytes, then the bytes.

    Small messages are cut out of the buffer. The body of a large one is kept as the pieces in which it comes, and
    joined once: a copy less.
    """

    counts_ahead = True
    _prefix: struct.Struct
    _most: int

    def __init__(self, max_message: int) -> None:
        super().__init__(min(max_message, self._most))
        self._skip = 0  # bytes of a refused message that are still to come
        self._pieces: list[bytes | bytearray] = []
        self._missing = 0  # bytes of a large message that are still to come; its header is taken off already

    def frame(self, message: Buffer) -> bytes:
        return self._prefix.pack(self._check_size(message)) + message

    def frame_parts(self, message: Buffer) -> tuple[bytes, memoryview | None]:
        size = self._check_size(message)
        if size <= _LARGE:
            return self._prefix.pack(size) + message, None
        view = memoryview(message).cast("B")
        return self._prefix.pack(size) + view[:_LARGE], view[_LARGE:]

    def feed(self, data: bytes) -> None:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        elif self._missing:
            piece = data[: self._missing]
            self._missing -= len(piece)
            self._add_piece(piece)
            data = data[len(piece) :]
        self._buffer += data

    def _add_piece(self, piece: bytes) -> None:
        # Objects cost memory of their own: what comes in crumbs is put into one.
        if len(piece) >= _CRUMB:
            self._pieces.append(piece)
        elif isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += piece
        else:
            self._pieces.append(bytearray(piece))

    def next_after(self, data: bytes) -> bytes | None:
        if not self._buffer and not self._pieces and not self._skip:
            header = self._prefix.size
            if len(data) >= header:
                size: int = self._prefix.unpack_from(data)[0]
                if header + size == len(data) and size <= self.max_message:
                    return data[header:]
        self.feed(data)
        return self.next_message()

    def next_message(self) -> bytes | None:
        if self._pieces:
            if self._missing:
                return None
            message = b"".join(self._pieces)
            self._pieces = []
            return message
        buffer = self._buffer
        header = self._prefix.size
        if len(buffer) < header:
            return None
        size: int = self._prefix.unpack_from(buffer)[0]
        end = header + size
        if size > self.max_message:
            self._skip = max(0, end - len(buffer))
            del buffer[:end]
            raise self._refuse(size, "was announced by the peer")
        if len(buffer) < end:
            if size > _LARGE:
                self._pieces = [buffer[header:]]
                self._missing = end - len(buffer)
                buffer.clear()
            return None
        with memoryview(buffer) as view:
            message = bytes(view[header:end])
        del buffer[:end]
        return message

    @property
    def wanted(self) -> int:
        if self._skip or self._missing:
            return self._skip or self._missing
        have = len(self._buffer)
        header = self._prefix.size
        if have < header:
            return header - have
        size: int = self._prefix.unpack_from(self._buffer)[0]
        return max(1, header + size - have)

    @property
    def held(self) -> int:
        return self._skip or len(self._buffer) + sum(map(len, self._pieces))

    def take_bytes(self, limit: int) -> bytes:
        if self._pieces:  # back to bytes as they came
            body = b"".join(self._pieces)
            self._buffer[:0] = self._prefix.pack(len(body) + self._missing) + body
            self._pieces, self._missing = [], 0
        return super().take_bytes(limit)


class LengthFraming(_Prefixed):
    """``length``: ours."""

    _prefix = struct.Struct("<I")
    _most = 2**32 - 1


class StreamStringFraming(_Prefixed):
    """``stream-string``: what the sample for named pipes in .NET's documentation writes."""

    _prefix = struct.Struct(">H")
    _most = 2**16 - 1


class LineFraming(Framing):
    """``line``: text with a newline after it, as ReadLine and WriteLine know it."""

    def __init__(self, max_message: int, encoding: str) -> None:
        super().__init__(max_message)
        newline = "\n".encode(encoding)
        if "\n\n".encode(encoding) != newline * 2:
            raise ValueError(
                f"framing 'line' can't use the encoding {encoding!r}, which begins every text with a mark or has "
                "states: give the byte order, as in 'utf-16-le'"
            )
        self._newline = newline
        self._return = "\r".encode(encoding)
        self._unit = len(newline)  # bytes per code unit; an end of line starts at a multiple of it
        self._searched = 0  # up to here there is no newline
        self._dropping = False
        try:
            self._mark = "\ufeff".encode(encoding)
        except UnicodeEncodeError:
            self._mark = b""
        self._at_start = True

    def frame(self, message: Buffer) -> bytes:
        self._check_size(message)
        data = bytes(message)
        if self._find(data, self._newline) >= 0 or self._find(data, self._return) >= 0:
            raise ValueError(
                "framing 'line' can't carry a message with a line break in it: use framing='length', or send each "
                "line by itself"
            )
        if len(data) % self._unit:
            raise ValueError(f"a line in this encoding has a multiple of {self._unit} bytes, not {len(data)}")
        return data + self._newline

    def next_message(self) -> bytes | None:
        end = self._find(self._buffer, self._newline, self._searched)
        # The limit is for the text alone; its carriage return and its newline may come on top.
        if end < 0:
            if self._dropping:
                self._drop_all_but_the_cut_unit()
            elif len(self._buffer) >= self.max_message + len(self._mark) + 2 * self._unit:
                size = len(self._buffer)
                self._drop_all_but_the_cut_unit()
                self._dropping = True
                self._at_start = False
                raise self._refuse(size, "or more came without a line break")
            self._searched = len(self._buffer) - len(self._buffer) % self._unit
            return None
        line = self._take(end)
        del self._buffer[: self._unit]
        self._searched = 0
        if self._dropping:
            self._dropping = False
            return self.next_message()
        if self._at_start:
            self._at_start = False
            if self._mark:
                line = line.removeprefix(self._mark)
        if len(line) % self._unit == 0:
            line = line.removesuffix(self._return)
        if len(line) > self.max_message:
            raise self._refuse(len(line), "came as one line")
        return line

    def take_bytes(self, limit: int) -> bytes:
        self._searched = 0
        return super().take_bytes(limit)

    def _drop_all_but_the_cut_unit(self) -> None:
        del self._buffer[: len(self._buffer) - len(self._buffer) % self._unit]
        self._searched = 0

    def _find(self, data: bytes | bytearray, sought: bytes, start: int = 0) -> int:
        """Where `sought` lies in `data` at a whole code unit; -1 if nowhere."""
        at = data.find(sought, start)
        while at >= 0 and at % self._unit:
            at = data.find(sought, at + 1)
        return at


class RawFraming(Framing):
    """``raw``: a stream without messages."""

    def frame(self, message: Buffer) -> bytes:
        if not self._check_size(message):
            raise ValueError("framing 'raw' can't carry an empty message: nothing would be sent")
        return bytes(message)

    def next_message(self) -> bytes | None:
        return self._take(min(len(self._buffer), self.max_message)) if self._buffer else None

    @property
    def unfinished(self) -> int:
        return 0


def make_framing(name: FramingName, *, encoding: str, max_message: int) -> Framing:
    """A new framing for one pipe, with nothing in it.

    `encoding` matters for ``line`` alone. `max_message` is in bytes, at least 1; above what the framing can count, it
    is that. Raises ValueError for an unknown framing, an impossible limit, or an encoding that has no lines, and
    LookupError for an encoding of text that Python does not know.
    """
    "a".encode(encoding)
    if max_message < 1:
        raise ValueError(f"max_message is {max_message}: it is a number of bytes, at least 1")
    if name == "length":
        return LengthFraming(max_message)
    if name == "line":
        return LineFraming(max_message, encoding)
    if name == "raw":
        return RawFraming(max_message)
    if name == "stream-string":
        return StreamStringFraming(max_message)
    raise ValueError(f"framing is 'length', 'line', 'raw' or 'stream-string', not {name!r}")
