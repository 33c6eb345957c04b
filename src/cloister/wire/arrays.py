"""numpy arrays and scalars, as containers behind a marker.

=======  ============================================================================================================
marker   the elements after it
=======  ============================================================================================================
array    dtype, shape (list of integers), order (``"C"`` or ``"F"``), data (bytes, or the number of a buffer)
scalar   dtype, data (bytes; a text for a ``numpy.str_``)
=======  ============================================================================================================

A dtype is its text as in ``numpy.dtype.str`` (``"<f8"``, ``"<M8[ns]"``, ``"|S3"``), or a list for a structured one,
``[names, dtypes, offsets, itemsize]``, or ``[dtype, shape]`` for a subarray. Types whose text does not give them back
(object, variable-length text, those of other libraries) have no copy.

An array arrives contiguous, aligned, and with the memory order of the original where that was C or Fortran; any other
layout is copied into C order. One of 64 KiB or more whose data came beside the message or in shared memory is
read-only, a shorter one is not. Exactly `numpy.ndarray` is copied: a masked array or a matrix is not.
``longlong`` arrives as the type of its size with a fixed name.

numpy is never imported for a sender. Pure; any thread may enter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.containers import ARRAY, SCALAR
from cloister.wire.limits import LASTING_BYTES
from cloister.wire.scalars import Lent, place_gathered, put_data, take_data

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = ["MARKER_READERS", "why_no_numpy", "write_copied", "writer_of"]

_KINDS: Final = frozenset("biufcmMSUV")
_TEXT_CHARS: Final = frozenset("0123456789[]abcdefghijklmnopqrstuvwxyzYMWDh")
_DTYPE_CHARS: Final = 32
_DTYPE_DEPTH: Final = 16
_EMPTY_ITEMS: Final = 1 << 16
"""Items without a size (``V0``) cost nothing to send, and could be as many as a number can say."""


def why_no_numpy(error: ImportError) -> str:
    """Why numpy could not be imported, and what to do: the end of a sentence."""
    if isinstance(error, ModuleNotFoundError) and error.name == "numpy":
        return "which is not installed here: pip install numpy"
    first: BaseException = error  # numpy says a page of advice, and keeps what has happened behind it
    while (earlier := first.__cause__ or first.__context__) is not None:
        first = earlier
    words = f"which can't be imported here: {str(first).strip()}"
    return f"{words}. A domain of the level 'process' can" if "subinterpreter" in words else words


def _numpy(decoding: Decoding) -> Any:
    """Give numpy to a receiver. Raises `MarshalError` where it was not imported and may not be."""
    numpy = sys.modules.get("numpy")
    if numpy is None and decoding.imports:
        try:
            numpy = import_module("numpy")
        except ImportError as error:
            raise MarshalError(
                f"a numpy array arrived; where it is received numpy is needed, {why_no_numpy(error)}. Or send tolist()"
            ) from error
    if numpy is None:
        raise MarshalError("a numpy array arrived, and numpy is not imported here. Import numpy before the call")
    return numpy


def _dtype_to_plain(dtype: Any) -> object:
    if dtype.subdtype is not None:
        inner, shape = dtype.subdtype
        return [_dtype_to_plain(inner), list(shape)]
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        return [
            list(dtype.names),
            [_dtype_to_plain(field[0]) for field in fields],
            [field[1] for field in fields],
            dtype.itemsize,
        ]
    text: str = dtype.str
    if dtype.hasobject or text[1] not in _KINDS or sys.modules["numpy"].dtype(text) != dtype:
        raise MarshalError(
            f"an array of dtype {dtype} is not copied. Send tolist(), or use astype() for a type of fixed size"
        )
    return text


def _dtype_from_plain(plain: Any, numpy: Any, depth: int = 0) -> Any:
    if type(plain) is str:
        # numpy reads more than one language in such a text; this is the one that is spoken here.
        if not 3 <= len(plain) <= _DTYPE_CHARS or plain[0] not in "<>|" or plain[1] not in _KINDS:
            raise ProtocolError("bad value: no such dtype")
        if not _TEXT_CHARS.issuperset(plain[2:]):
            raise ProtocolError("bad value: no such dtype")
        return numpy.dtype(plain)
    if type(plain) is not list or depth > _DTYPE_DEPTH:
        raise ProtocolError("bad value: no such dtype")
    if len(plain) == 2:
        inner, shape = plain
        return numpy.dtype((_dtype_from_plain(inner, numpy, depth + 1), _shape(shape)))
    names, dtypes, offsets, itemsize = plain
    if any(type(name) is not str for name in names) or any(type(number) is not int for number in (itemsize, *offsets)):
        raise ProtocolError("bad value: no such dtype")
    formats = [_dtype_from_plain(each, numpy, depth + 1) for each in dtypes]
    return numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})


def _shape(plain: Any) -> tuple[int, ...]:
    if type(plain) is not list or len(plain) > 64 or any(type(size) is not int or size < 0 for size in plain):
        raise ProtocolError("bad value: no such shape")
    return tuple(plain)


class _Gathered:
    """An array in no order of memory, whose elements are put one behind the other where it is placed."""

    __slots__ = ("_array", "nbytes")

    def __init__(self, array: Any) -> None:
        self._array = array
        self.nbytes: int = array.nbytes

    def write_to(self, target: memoryview) -> None:
        """Write the elements in C order."""
        array, numpy = self._array, sys.modules["numpy"]
        numpy.copyto(numpy.ndarray(array.shape, array.dtype, target), array)


def write_copied(value: Any, encoding: Encoding) -> object:
    """Encode an array that is copied where it arrives, because what it belongs to can be changed there."""
    return _write_array(value, encoding, copied=True)


def _write_array(value: Any, encoding: Encoding, *, copied: bool = False) -> object:
    plain = _dtype_to_plain(value.dtype)
    if value.dtype.itemsize == 0:
        if value.size > _EMPTY_ITEMS:
            raise MarshalError(f"an array of {value.size:,} items without a size is not copied")
        return [encoding.markers[ARRAY], plain, list(value.shape), "C", b""]
    sizes = list(value.shape)
    order = "C"
    if not value.flags.c_contiguous:
        if value.flags.f_contiguous:
            order = "F"
        else:
            placed = place_gathered(_Gathered(value), encoding)
            if placed is not None:
                return [encoding.markers[ARRAY], plain, sizes, order, placed]
            value = value.copy("C")
    # One flat view of bytes: for what is contiguous in either order nothing is copied here.
    data = memoryview(value.reshape(-1, order=order).view("u1")) if value.size else memoryview(b"")
    return [encoding.markers[ARRAY], plain, sizes, order, put_data(data, encoding, copied=copied)]


def _read_array(items: list[Any], decoding: Decoding) -> object:
    _, plain, sizes, order, part = items
    numpy = _numpy(decoding)
    dtype, shape = _dtype_from_plain(plain, numpy), _shape(sizes)
    data = take_data(part, decoding)
    if order not in ("C", "F") or prod(shape) * dtype.itemsize != len(data):
        raise ProtocolError("bad value: the data of an array has not the size that its shape says")
    if dtype.itemsize == 0 or not data:
        if dtype.itemsize == 0 and prod(shape) > _EMPTY_ITEMS:
            raise ProtocolError("bad value: an array of too many items without a size")
        return numpy.empty(shape, dtype, order)
    array = numpy.frombuffer(data, dtype)
    lasting = len(data) >= LASTING_BYTES
    if lasting and type(part) is Lent:
        return array.reshape(shape, order=order)
    array = array.copy()
    if lasting and type(part) is not bytes:
        array.flags.writeable = False
    return array.reshape(shape, order=order)


def _write_scalar(value: Any, encoding: Encoding) -> object:
    # numpy's own ways drop the NULs at the end of a text.
    if value.dtype.kind == "U":
        return [encoding.markers[SCALAR], "<U1", str.__str__(value)]
    if value.dtype.kind == "S":
        return [encoding.markers[SCALAR], "|S1", bytes.__getitem__(value, slice(None))]
    return [encoding.markers[SCALAR], _dtype_to_plain(value.dtype), value.tobytes()]


def _read_scalar(items: list[Any], decoding: Decoding) -> object:
    _, plain, data = items
    numpy = _numpy(decoding)
    if type(data) is str:
        return numpy.str_(data)
    dtype = _dtype_from_plain(plain, numpy)
    if type(data) is bytes and dtype.kind == "S":
        return numpy.bytes_(data)
    if type(data) is not bytes or len(data) != dtype.itemsize or not data:
        raise ProtocolError("bad value: the data of a numpy scalar has not the size that its dtype says")
    return numpy.frombuffer(data, dtype).copy()[0]


def writer_of(kind: type) -> Callable[[Any, Encoding], object] | None:
    """Give the writer of `numpy.ndarray` or of a numpy scalar type, or None."""
    numpy: Any = sys.modules["numpy"]
    if kind is numpy.ndarray:
        return _write_array
    if issubclass(kind, numpy.generic) and kind not in (numpy.object_, getattr(numpy, "record", None)):
        return _write_scalar
    return None


MARKER_READERS: Final = {ARRAY: _read_array, SCALAR: _read_scalar}
