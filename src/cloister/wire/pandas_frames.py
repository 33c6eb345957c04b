"""Frames and series of pandas, column by column, as a container behind a marker.

The elements after the marker are ``"frame"``, the columns (an index), the rows (an index), the list of columns, and the
attributes; or ``"series"``, the name, the rows, the column, and the attributes. An index is a list as well:

==============  =====================================================================================================
index           the elements after its name
==============  =====================================================================================================
``"range"``     start, stop, step, name
``"plain"``     column, name, frequency or None
``"multi"``     list of levels (indexes), list of codes (arrays), list of names
==============  =====================================================================================================

==============  =====================================================================================================
column          the elements after its name
==============  =====================================================================================================
``"array"``     a numpy array
``"objects"``   list of values, each copied as what it is
``"category"``  codes (array), categories (index), ordered
``"zone"``      UTC time stamps (array of datetime64), key of the time zone
``"masked"``    dtype, data (array), mask (array)
``"text"``      dtype, list of texts and None
==============  =====================================================================================================

Any other extension type is a `MarshalError` that names the column. pandas is never imported for a sender. Pure; any
thread may enter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.arrays import write_copied
from cloister.wire.containers import PANDAS
from cloister.wire.tables import library

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = ["MARKER_READERS", "writer_of"]

_MASKED: Final = frozenset(
    ("boolean", *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)), "Float32", "Float64")
)
_TEXTS: Final = frozenset(("str", "string"))
_ZONE_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/:")


def _column_to_plain(encoding: Encoding, array: Any, name: object) -> list[object]:
    """Take the array of a column or of an index apart."""
    pandas: Any = sys.modules["pandas"]
    dtype = array.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        codes, categories = write_copied(array.codes, encoding), _index_to_plain(encoding, array.categories)
        return ["category", codes, categories, bool(array.ordered)]
    if isinstance(dtype, pandas.DatetimeTZDtype):
        key = str(dtype.tz)
        if not _ZONE_CHARACTERS.issuperset(key):
            raise MarshalError(f"column {name!r} has a time zone without a key: {key}. Use tz_convert('UTC')")
        return ["zone", write_copied(array.tz_convert("UTC").tz_localize(None).to_numpy(), encoding), key]
    if str(dtype) in _MASKED:
        return ["masked", str(dtype), write_copied(array._data, encoding), write_copied(array._mask, encoding)]
    if isinstance(dtype, pandas.StringDtype):
        return ["text", "str" if str(dtype) == "str" else "string", array.to_numpy(object, na_value=None).tolist()]
    arrays = pandas.arrays
    if isinstance(array, (arrays.NumpyExtensionArray, arrays.DatetimeArray, arrays.TimedeltaArray)):
        held = array.to_numpy()
        return ["objects", held.tolist()] if held.dtype.hasobject else ["array", write_copied(held, encoding)]
    raise MarshalError(f"column {name!r} is of type {dtype}, which has no copy. Use astype() with a type of numpy's")


def _column_from_plain(decoding: Decoding, plain: Any) -> Any:
    pandas: Any = sys.modules["pandas"]
    numpy: Any = sys.modules["numpy"]
    match plain:
        case ["array", array] if type(array) is numpy.ndarray and array.dtype.kind in "biufcmM" and array.ndim == 1:
            array = _own(array, decoding)
            return pandas.array(array, dtype=array.dtype, copy=False) if array.dtype.kind in "mM" else array
        case ["objects", list(values)]:
            made = numpy.empty(len(values), object)
            for at, value in enumerate(values):
                made[at] = value
            return made
        case ["category", codes, categories, bool(ordered)] if type(codes) is numpy.ndarray:
            dtype = pandas.CategoricalDtype(_index_from_plain(decoding, categories), ordered)
            return pandas.Categorical.from_codes(_own(codes, decoding), dtype=dtype)
        case ["zone", array, str(key)] if type(array) is numpy.ndarray and array.dtype.kind == "M":
            if not _ZONE_CHARACTERS.issuperset(key) or len(key) > 64 or key.startswith(("/", "dateutil")):
                raise ProtocolError("bad value: no such time zone")
            return pandas.DatetimeIndex(_own(array, decoding)).tz_localize("UTC").tz_convert(key).array
        case ["masked", str(dtype), data, mask] if dtype in _MASKED and type(data) is type(mask) is numpy.ndarray:
            if data.dtype != pandas.api.types.pandas_dtype(dtype).numpy_dtype:
                raise ProtocolError("bad value: no such column")
            made = pandas.array(_own(data, decoding), dtype=dtype, copy=False)
            made[_counted(mask, decoding)] = pandas.NA
            return made
        case ["text", str(dtype), list(values)] if dtype in _TEXTS:
            if not all(value is None or type(value) is str for value in values):
                raise ProtocolError("bad value: a column of text holds something else")
            return pandas.array(values, dtype=dtype)
        case _:
            raise ProtocolError("bad value: no such column")


def _own(array: Any, decoding: Decoding) -> Any:
    """A large array arrives read-only; a column of a frame can be changed. Raises ProtocolError as `_counted`."""
    return array if array.flags.writeable else _counted(array, decoding).copy()


def _counted(array: Any, decoding: Decoding) -> Any:
    """An array that is about to be copied. Raises ProtocolError as `Decoding.copies`."""
    holder, numpy = array, sys.modules["numpy"]
    while isinstance(holder, numpy.ndarray):
        holder = holder.base
    if type(holder) is memoryview:
        decoding.copies(holder.obj, array.nbytes)
    return array


def _index_to_plain(encoding: Encoding, index: Any) -> list[object]:
    pandas: Any = sys.modules["pandas"]
    if type(index) is pandas.RangeIndex:
        return ["range", index.start, index.stop, index.step, index.name]
    if isinstance(index, pandas.MultiIndex):
        levels = [_index_to_plain(encoding, level) for level in index.levels]
        codes = [write_copied(code.astype("i8"), encoding) for code in index.codes]
        return ["multi", levels, codes, list(index.names)]
    frequency = getattr(index, "freqstr", None)
    return ["plain", _column_to_plain(encoding, index.array, index.name), index.name, frequency]


def _index_from_plain(decoding: Decoding, plain: Any) -> Any:
    pandas: Any = sys.modules["pandas"]
    match plain:
        case ["range", int(start), int(stop), int(step), name]:
            return pandas.RangeIndex(start, stop, step, name=name)
        case ["multi", list(levels), list(codes), list(names)]:
            held = [_index_from_plain(decoding, level) for level in levels]
            counted = [_counted(code, decoding) for code in codes]
            return pandas.MultiIndex(held, counted, names=names, verify_integrity=True)
        case ["plain", column, name, frequency] if frequency is None or type(frequency) is str:
            made = pandas.Index(_column_from_plain(decoding, column), name=name)
            if frequency is not None:
                made.freq = frequency
            return made
        case _:
            raise ProtocolError("bad value: no such index")


def _write_frame(value: Any, encoding: Encoding) -> object:
    columns = [_column_to_plain(encoding, value.iloc[:, at].array, value.columns[at]) for at in range(value.shape[1])]
    rows, names = _index_to_plain(encoding, value.index), _index_to_plain(encoding, value.columns)
    return [encoding.markers[PANDAS], "frame", names, rows, columns, dict(value.attrs)]


def _write_series(value: Any, encoding: Encoding) -> object:
    column = _column_to_plain(encoding, value.array, value.name)
    rows = _index_to_plain(encoding, value.index)
    return [encoding.markers[PANDAS], "series", value.name, rows, column, dict(value.attrs)]


def _read_pandas(items: list[Any], decoding: Decoding) -> object:
    _, kind, first, rows, held, attributes = items
    pandas = library("pandas", decoding)
    if type(attributes) is not dict or type(held) is not list:
        raise ProtocolError("bad value: no such frame")
    index = _index_from_plain(decoding, rows)
    columns = [_column_from_plain(decoding, column) for column in ([held] if kind == "series" else held)]
    if kind not in ("series", "frame") or any(len(column) != len(index) for column in columns):
        raise ProtocolError("bad value: no such frame")
    if kind == "series":
        made = pandas.Series(columns[0], index, name=first)
    else:
        made = pandas.DataFrame(dict(enumerate(columns)), index)
        made.columns = _index_from_plain(decoding, first)
    made.attrs = attributes
    return made


def writer_of(kind: type) -> Callable[[Any, Encoding], object] | None:
    """Give the writer of `pandas.DataFrame` or `pandas.Series`, or None."""
    pandas: Any = sys.modules["pandas"]
    return _write_frame if kind is pandas.DataFrame else _write_series if kind is pandas.Series else None


MARKER_READERS: Final = {PANDAS: _read_pandas}
