"""A look into an Arrow stream before a library reads it: nothing in it may be compressed.

The readers of Arrow data are robust against lies but for one: a compressed buffer says itself how long it becomes, and
that much is reserved. No encoder here compresses. The layout is that of the Arrow columnar format: messages, each a
length, a flatbuffer table that describes it, and a body. Only the few fields that lead to the compression are read.

Pure; any thread may enter.
"""

from __future__ import annotations

import struct
from typing import Final

from cloister.errors import ProtocolError

__all__ = ["refuse_compression"]

_U16: Final = struct.Struct("<H")
_I32: Final = struct.Struct("<i")
_U32: Final = struct.Struct("<I")
_I64: Final = struct.Struct("<q")
_CONTINUES: Final = 0xFFFFFFFF
_DICTIONARY_BATCH: Final = 2
_RECORD_BATCH: Final = 3
# Places of fields in their tables: of Message, of DictionaryBatch, of RecordBatch.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DATA: Final = 1
_COMPRESSION: Final = 3


def refuse_compression(data: bytes | memoryview) -> None:
    """Raise `ProtocolError` where a stream holds a compressed batch, or is no stream of whole messages."""
    try:
        at = 0
        while at < len(data):
            size = _U32.unpack_from(data, at)[0]
            at += 4
            if size == _CONTINUES:
                size = _U32.unpack_from(data, at)[0]
                at += 4
            if size == 0:
                return
            body = _body_length(data, at, at + size)
            at += size + body
            if body < 0 or at > len(data):
                break
    except struct.error as error:
        raise ProtocolError("bad value: an Arrow stream is damaged") from error
    if at != len(data):
        raise ProtocolError("bad value: an Arrow stream is damaged")


def _body_length(data: bytes | memoryview, start: int, end: int) -> int:
    """Give the length of the body of the message whose table lies from `start` to `end`."""
    message = start + _U32.unpack_from(data, start)[0]
    kind_at = _field(data, message, _HEADER_TYPE)
    header_at = _field(data, message, _HEADER)
    length_at = _field(data, message, _BODY_LENGTH)
    kind = data[kind_at] if 0 < kind_at < end else 0
    if header_at and kind in (_DICTIONARY_BATCH, _RECORD_BATCH):
        batch = header_at + _U32.unpack_from(data, header_at)[0]
        if kind == _DICTIONARY_BATCH:
            inner_at = _field(data, batch, _DATA)
            batch = inner_at + _U32.unpack_from(data, inner_at)[0] if inner_at else 0
        if batch and _field(data, batch, _COMPRESSION):
            raise ProtocolError("bad value: an Arrow stream is compressed")
    length: int = _I64.unpack_from(data, length_at)[0] if length_at else 0
    return length


def _field(data: bytes | memoryview, table: int, index: int) -> int:
    """Give where a field of a flatbuffer table lies, or 0 where the table does not have it."""
    vtable = table - _I32.unpack_from(data, table)[0]
    if vtable < 0:
        raise ProtocolError("bad value: an Arrow stream is damaged")
    slot = 4 + 2 * index
    if slot >= _U16.unpack_from(data, vtable)[0]:
        return 0
    offset = _U16.unpack_from(data, vtable + slot)[0]
    return table + offset if offset else 0
