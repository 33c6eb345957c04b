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


def _column_to_plain(pandas: Any, array: Any, name: object) -> list[object]:
    """Take the array of a column or of an index apart."""
    dtype = array.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        return ["category", array.codes, _index_to_plain(pandas, array.categories), bool(array.ordered)]
    if isinstance(dtype, pandas.DatetimeTZDtype):
        key = str(dtype.tz)
        if not _ZONE_CHARACTERS.issuperset(key):
            raise MarshalError(f"column {name!r} has a time zone without a key: {key}. Use tz_convert('UTC')")
        return ["zone", array.tz_convert("UTC").tz_localize(None).to_numpy(), key]
    if str(dtype) in _MASKED:
        return ["masked", str(dtype), array._data, array._mask]
    if isinstance(dtype, pandas.StringDtype):
        return ["text", "str" if str(dtype) == "str" else "string", array.to_numpy(object, na_value=None).tolist()]
    arrays = pandas.arrays
    if isinstance(array, (arrays.NumpyExtensionArray, arrays.DatetimeArray, arrays.TimedeltaArray)):
        held = array.to_numpy()
        return ["objects", held.tolist()] if held.dtype.hasobject else ["array", held]
    raise MarshalError(f"column {name!r} is of type {dtype}, which has no copy. Use astype() with a type of numpy's")


def _column_from_plain(pandas: Any, plain: Any) -> Any:
    numpy: Any = sys.modules["numpy"]
    match plain:
        case ["array", array] if type(array) is numpy.ndarray and array.dtype.kind in "biufcmM" and array.ndim == 1:
            return pandas.array(array, dtype=array.dtype) if array.dtype.kind in "mM" else _own(array)
        case ["objects", list(values)]:
            made = numpy.empty(len(values), object)
            for at, value in enumerate(values):
                made[at] = value
            return made
        case ["category", codes, categories, bool(ordered)] if type(codes) is numpy.ndarray:
            dtype = pandas.CategoricalDtype(_index_from_plain(pandas, categories), ordered)
            return pandas.Categorical.from_codes(_own(codes), dtype=dtype)
        case ["zone", array, str(key)] if type(array) is numpy.ndarray and array.dtype.kind == "M":
            if not _ZONE_CHARACTERS.issuperset(key) or len(key) > 64 or key.startswith(("/", "dateutil")):
                raise ProtocolError("bad value: no such time zone")
            return pandas.DatetimeIndex(_own(array)).tz_localize("UTC").tz_convert(key).array
        case ["masked", str(dtype), data, mask] if dtype in _MASKED:
            made = pandas.array(data, dtype=dtype)
            made[mask] = pandas.NA
            return made
        case ["text", str(dtype), list(values)] if dtype in _TEXTS:
            if not all(value is None or type(value) is str for value in values):
                raise ProtocolError("bad value: a column of text holds something else")
            return pandas.array(values, dtype=dtype)
        case _:
            raise ProtocolError("bad value: no such column")


def _own(array: Any) -> Any:
    """A large array arrives read-only; a column of a frame can be changed."""
    return array if array.flags.writeable else array.copy()


def _index_to_plain(pandas: Any, index: Any) -> list[object]:
    if type(index) is pandas.RangeIndex:
        return ["range", index.start, index.stop, index.step, index.name]
    if isinstance(index, pandas.MultiIndex):
        levels = [_index_to_plain(pandas, level) for level in index.levels]
        return ["multi", levels, [code.astype("i8") for code in index.codes], list(index.names)]
    frequency = getattr(index, "freqstr", None)
    return ["plain", _column_to_plain(pandas, index.array, index.name), index.name, frequency]


def _index_from_plain(pandas: Any, plain: Any) -> Any:
    match plain:
        case ["range", int(start), int(stop), int(step), name]:
            return pandas.RangeIndex(start, stop, step, name=name)
        case ["multi", list(levels), list(codes), list(names)]:
            held = [_index_from_plain(pandas, level) for level in levels]
            return pandas.MultiIndex(held, codes, names=names, verify_integrity=True)
        case ["plain", column, name, frequency] if frequency is None or type(frequency) is str:
            made = pandas.Index(_column_from_plain(pandas, column), name=name)
            if frequency is not None:
                made.freq = frequency
            return made
        case _:
            raise ProtocolError("bad value: no such index")


def _write_frame(value: Any, encoding: Encoding) -> object:
    pandas: Any = sys.modules["pandas"]
    columns = [_column_to_plain(pandas, value.iloc[:, at].array, value.columns[at]) for at in range(value.shape[1])]
    rows, names = _index_to_plain(pandas, value.index), _index_to_plain(pandas, value.columns)
    return [encoding.markers[PANDAS], "frame", names, rows, columns, dict(value.attrs)]


def _write_series(value: Any, encoding: Encoding) -> object:
    pandas: Any = sys.modules["pandas"]
    column = _column_to_plain(pandas, value.array, value.name)
    rows = _index_to_plain(pandas, value.index)
    return [encoding.markers[PANDAS], "series", value.name, rows, column, dict(value.attrs)]


def _read_pandas(items: list[Any], decoding: Decoding) -> object:
    _, kind, first, rows, held, attributes = items
    pandas = library("pandas", decoding)
    if type(attributes) is not dict or type(held) is not list:
        raise ProtocolError("bad value: no such frame")
    index = _index_from_plain(pandas, rows)
    columns = [_column_from_plain(pandas, column) for column in ([held] if kind == "series" else held)]
    if kind not in ("series", "frame") or any(len(column) != len(index) for column in columns):
        raise ProtocolError("bad value: no such frame")
    if kind == "series":
        made = pandas.Series(columns[0], index, name=first)
    else:
        made = pandas.DataFrame(dict(enumerate(columns)), index)
        made.columns = _index_from_plain(pandas, first)
    made.attrs = attributes
    return made


def writer_of(kind: type) -> Callable[[Any, Encoding], object] | None:
    """Give the writer of `pandas.DataFrame` or `pandas.Series`, or None."""
    pandas: Any = sys.modules["pandas"]
    return _write_frame if kind is pandas.DataFrame else _write_series if kind is pandas.Series else None


MARKER_READERS: Final = {PANDAS: _read_pandas}
