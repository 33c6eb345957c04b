"""Leaves that MessagePack does not have: extension types with a payload of their own.

Here are the leaves that need no module of the standard library; `times`, `precise` and `paths` hold the others, and are
loaded with their first value.

====  ==================  ===========================================================================================
code  leaf                payload
====  ==================  ===========================================================================================
1     marker              one byte: which container the array that it begins is (`containers`)
2     int                 two's complement, big-endian, as few bytes as possible; only for what does not fit in 64 bits
3     complex             two float64, big-endian: real, imaginary
4     bytearray           its bytes
5     buffer              kind (u8: 0 bytes, 1 bytearray), index (u16, big-endian): the data is buffer number *index*
6     singleton           one byte: 0 Ellipsis, 1 NotImplemented, 2 a field that has no value (records only)
7     segment             kind (u8: 0 bytes, 1 bytearray, 2 data of an array; 4 more where the segment is one that the
                          receiver writes), segment (u32), offset (u64), length (u64), slot (u16), generation (u32),
                          big-endian: the data lies in shared memory
8     Decimal             its text: ``-1.50E+3``, ``NaN``, ``-Infinity``
9     Fraction            length of the numerator (u32, big-endian), numerator, denominator, as in int
10    UUID                16 bytes
16    date                year (u16), month (u8), day (u8), big-endian
17    time                hour, minute, second (u8), microsecond (u32), fold (u8), zone
18    datetime            date, then time
19    timedelta           days (i32), seconds (u32), microseconds (u32)
20    timezone, ZoneInfo  zone: nothing for none; 0, offset in microseconds (i64), name; 1, key of the zone
24    path                flavour (u8: 0 pure POSIX, 1 pure Windows, 2 POSIX, 3 Windows), then the text in UTF-8
====  ==================  ===========================================================================================

Text is UTF-8, in which lone surrogates stand as three bytes each (``surrogatepass``). A memoryview arrives as bytes.
MessagePack's own extension, -1 (timestamp), is never sent and arrives as a float.

A writer takes the value and the encoding, and returns what MessagePack knows. A reader takes the payload and the
decoding; whatever it raises becomes a `ProtocolError`. Pure; the tables never change.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import EllipsisType, NoneType, NotImplementedType
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.limits import OUT_OF_BAND_BYTES

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding, Gathered

__all__ = [
    "LEAVES", "MARKER_CODE", "READERS", "SIMPLE", "UNSET", "WRITERS",
    "Lent", "Mutable", "admit", "int_from_bytes", "int_to_bytes", "place_gathered", "put_data", "take_buffer",
    "take_data", "write_binary",
]  # fmt: skip

MARKER_CODE: Final = 1
INT_CODE: Final = 2
COMPLEX_CODE: Final = 3
BYTEARRAY_CODE: Final = 4
BUFFER_CODE: Final = 5
SINGLETON_CODE: Final = 6
SEGMENT_CODE: Final = 7

_COMPLEX: Final = struct.Struct(">dd")
_BUFFER: Final = struct.Struct(">BH")
_SEGMENT: Final = struct.Struct(">BIQQHI")
_HOME: Final = 4


class _Unset:
    """The type of `UNSET`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


class Lent:
    """The data of an array in shared memory, on its way from the leaf to the array that it belongs to."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view


class _Apart:
    """Data that is to be placed in a segment of its own, also where it lies in one already."""

    __slots__ = ("_data", "nbytes")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.nbytes = data.nbytes

    def write_to(self, target: memoryview) -> None:
        """Write the data."""
        target[:] = self._data


class Mutable:
    """Bytes of something that arrive as a bytearray."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view


UNSET: Final = _Unset()
"""A field of a record that has no value, such as a slot that was never assigned."""

_SINGLETONS: Final[dict[bytes, object]] = {b"\0": Ellipsis, b"\1": NotImplemented, b"\2": UNSET}


def int_to_bytes(value: int) -> bytes:
    """Give two's complement, big-endian, in as few bytes as possible; zero takes one."""
    return value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)


def int_from_bytes(data: bytes) -> int:
    """Undo `int_to_bytes`. Raises `ProtocolError` for nothing at all, and for more bytes than are needed."""
    value = int.from_bytes(data, "big", signed=True)
    if not data or len(data) != (value if value >= 0 else ~value).bit_length() // 8 + 1:
        raise ProtocolError("bad value: an integer is not as short as it could be")
    return value


def _write_int(value: int, encoding: Encoding) -> object:
    data = int_to_bytes(value)
    if len(data) > encoding.limits.integer_bytes:
        raise MarshalError(
            f"an integer of {len(data):,} bytes exceeds the limit of {encoding.limits.integer_bytes:,}. "
            "Send its bytes, or raise the limit integer_bytes"
        )
    return encoding.ext(INT_CODE, data)


def _read_int(payload: bytes, decoding: Decoding) -> int:
    if len(payload) > decoding.limits.integer_bytes:
        raise ProtocolError(f"bad value: an integer of {len(payload):,} bytes exceeds the limit")
    value = int_from_bytes(payload)
    if -(1 << 63) <= value < 1 << 64:
        raise ProtocolError("bad value: an integer of 64 bits came as a large one")
    return value


def _write_complex(value: complex, encoding: Encoding) -> object:
    return encoding.ext(COMPLEX_CODE, _COMPLEX.pack(value.real, value.imag))


def _read_complex(payload: bytes, decoding: Decoding) -> complex:
    return complex(*_COMPLEX.unpack(payload))


def write_binary(value: bytes | bytearray | memoryview, encoding: Encoding) -> object:
    """Encode binary data: beside the message where it is large, else in it with its exact type."""
    kind = type(value)
    # A view of our own: another thread may release the sender's at any moment, or resize its bytearray.
    data: Any = value if type(value) is bytes else _flat(memoryview(value))
    if encoding.buffers is not None and len(data) >= OUT_OF_BAND_BYTES:
        placed = _put_into_segment(memoryview(data), encoding, int(kind is bytearray), copied=True)
        if placed is not None:
            return placed
        # Who has a bytearray may resize it while this waits to be written; a view would forbid that for as long.
        encoding.buffers.append(bytes(data) if kind is bytearray else data)
        return encoding.ext(BUFFER_CODE, _BUFFER.pack(kind is bytearray, len(encoding.buffers) - 1))
    return encoding.ext(BYTEARRAY_CODE, bytes(data)) if kind is bytearray else bytes(data)


def _flat(view: memoryview) -> memoryview | bytes:
    """The content of a view in C order, which is what travels: a view may show anything in any order."""
    if view.c_contiguous:
        try:
            return view.cast("B")
        except TypeError:  # it has zeros in its shape or its strides
            pass
    return view.tobytes()


def _write_mutable(value: Mutable, encoding: Encoding) -> object:
    data = value.view
    if encoding.buffers is None or data.nbytes < OUT_OF_BAND_BYTES:
        return encoding.ext(BYTEARRAY_CODE, bytes(data))
    placed = _put_into_segment(data, encoding, 1, copied=True)
    if placed is not None:
        return placed
    encoding.buffers.append(data)
    return encoding.ext(BUFFER_CODE, _BUFFER.pack(1, len(encoding.buffers) - 1))


def put_data(data: memoryview, encoding: Encoding, *, copied: bool = False) -> object:
    """Give the element that stands for the data of an array: its bytes, or the number of a buffer.

    `copied` says that it is copied where it arrives, also where it is long.
    """
    if encoding.buffers is None or data.nbytes < OUT_OF_BAND_BYTES:
        return bytes(data)
    placed = _put_into_segment(data, encoding, 2, copied=copied)
    if placed is not None:
        return placed
    encoding.buffers.append(data)
    return len(encoding.buffers) - 1


def place_gathered(data: Gathered, encoding: Encoding) -> object:
    """The same for what does not lie in one piece yet; None where there is no shared memory for it."""
    if encoding.buffers is None or data.nbytes < OUT_OF_BAND_BYTES:
        return None
    return _put_into_segment(data, encoding, 2, copied=False)  # a segment of its own, which is all that it may copy


def _put_into_segment(data: memoryview | Gathered, encoding: Encoding, kind: int, *, copied: bool) -> object:
    """Give the leaf of a buffer that lies in shared memory; None where it does not."""
    place = encoding.place
    loan = None if place is None else place(data)
    if loan is None:
        return None
    encoding.placed.append(loan)
    if copied and not admit(encoding.copied, loan.fields[0], data.nbytes, loan.size):
        encoding.unplace(encoding.placed.pop())
        assert isinstance(data, memoryview)  # anything else has a segment of its own, which is large enough
        return _put_into_segment(_Apart(data), encoding, kind, copied=False)
    return encoding.ext(SEGMENT_CODE, _SEGMENT.pack(kind | _HOME if loan.home else kind, *loan.fields))


def admit(copied: dict[int, int], segment: int, length: int, size: int) -> bool:
    """Note that a message has so many bytes more copied out of a segment; False where they are more than it holds.

    `copied` holds what it was for each segment so far. Nothing is noted then. A loan is a few bytes, and there may be a
    thousand of one segment in a message; the receiver is not to need a thousand times its memory for them.
    """
    total = copied.get(segment, 0) + length
    if total > size:
        return False
    copied[segment] = total
    return True


def take_data(part: object, decoding: Decoding) -> bytes | memoryview:
    """Undo `put_data`. Raises `ProtocolError` for what it never gives."""
    if type(part) is Lent:
        return part.view
    return part if type(part) is bytes else take_buffer(part, decoding)


def take_buffer(index: object, decoding: Decoding) -> memoryview:
    """Give buffer number `index`. Raises `ProtocolError` where there is none, or where it was given already."""
    if type(index) is not int or not 0 <= index < len(decoding.buffers):
        raise ProtocolError(f"bad value: it names buffer {index!r} of {len(decoding.buffers)}")
    if index in decoding.used:
        raise ProtocolError(f"bad value: it names buffer {index} twice")
    decoding.used.add(index)
    return decoding.buffers[index]


def _read_bytearray(payload: bytes, decoding: Decoding) -> bytearray:
    return bytearray(payload)


def _read_buffer(payload: bytes, decoding: Decoding) -> bytes | bytearray:
    kind, index = _BUFFER.unpack(payload)
    if kind > 1:
        raise ProtocolError(f"bad value: buffer kind {kind} does not exist")
    data = take_buffer(index, decoding)
    return bytearray(data) if kind else bytes(data)


def _read_segment(payload: bytes, decoding: Decoding) -> bytes | bytearray | Lent:
    kind, number, offset, length, slot, generation = _SEGMENT.unpack(payload)
    home, kind = bool(kind & _HOME), kind & ~_HOME
    if kind > 2:
        raise ProtocolError(f"bad value: buffer kind {kind} does not exist")
    view = decoding.fetch(payload, (number, offset, length, slot, generation, home))
    if kind == 2:
        decoding.open += 1  # it stands in an array or a table, and nowhere else
        return Lent(view)
    decoding.copies(view.obj, length)
    return bytearray(view) if kind else bytes(view)


def _write_singleton(value: object, encoding: Encoding) -> object:
    return encoding.ext(SINGLETON_CODE, next(code for code, single in _SINGLETONS.items() if single is value))


def _read_singleton(payload: bytes, decoding: Decoding) -> object:
    return _SINGLETONS[payload]


WRITERS: Final[dict[type, Callable[[Any, Encoding], object]]] = {
    int: _write_int,
    complex: _write_complex,
    bytearray: write_binary,
    memoryview: write_binary,
    EllipsisType: _write_singleton,
    NotImplementedType: _write_singleton,
    _Unset: _write_singleton,
    Mutable: _write_mutable,
}

READERS: Final[dict[int, Callable[[bytes, Decoding], object]]] = {
    INT_CODE: _read_int,
    COMPLEX_CODE: _read_complex,
    BYTEARRAY_CODE: _read_bytearray,
    BUFFER_CODE: _read_buffer,
    SINGLETON_CODE: _read_singleton,
    SEGMENT_CODE: _read_segment,
}

SIMPLE: Final = frozenset((NoneType, bool, int, float, str))
"""What MessagePack copies exactly, and what holds nothing."""

LEAVES: Final = SIMPLE | {bytes, complex, EllipsisType, NotImplementedType, _Unset}
"""What holds no other value and is not changed by the packer."""
