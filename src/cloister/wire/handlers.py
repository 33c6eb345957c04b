"""Which file handles a type or a wire code that is loaded with its first value.

Here is the table, and nothing of the types. A guest that never sees a date does not import datetime; numpy, pyarrow,
pandas and polars are never imported for a value that goes out (it could not exist without them), and for one that
comes in only where the receiver may import at all.

Each file listed here has `writer_of(type)`, `READERS` by extension code, and `MARKER_READERS` by marker.
Any thread may enter: loading twice gives the same tables.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from cloister.errors import ProtocolError
from cloister.wire.containers import ARRAY, ENUM, PANDAS, POLARS, RECORD, SCALAR, TABLE, Marker

__all__ = ["reader_of_code", "reader_of_marker", "writer_of"]

_BY_LIBRARY: Final = {
    "datetime": "times",
    "zoneinfo": "times",
    "decimal": "precise",
    "fractions": "precise",
    "uuid": "precise",
    "pathlib": "paths",
    "numpy": "arrays",
    "pyarrow": "tables",
    "pandas": "pandas_frames",
    "polars": "tables",
}
_BY_MARKER: Final = {
    RECORD: "records", ENUM: "records", ARRAY: "arrays", SCALAR: "arrays", TABLE: "tables",
    PANDAS: "pandas_frames", POLARS: "tables",
}  # fmt: skip
_BY_CODE: Final = {8: "precise", 9: "precise", 10: "precise", **dict.fromkeys(range(16, 21), "times"), 24: "paths"}


def writer_of(kind: type) -> tuple[Any, bool]:
    """Give the writer of a type of a library that is handled, or None; and whether it is a leaf, which holds no values.

    A frame of pandas is none: its columns can hold anything.
    """
    module: object = kind.__module__  # a class may put anything there
    name = _BY_LIBRARY.get(module.partition(".")[0]) if isinstance(module, str) else None
    if name is None:
        return None, False
    return import_module(f"cloister.wire.{name}").writer_of(kind), name != "pandas_frames"


def reader_of_code(code: int) -> Any:
    """Give the reader of an extension code. Raises `ProtocolError` for a code that does not exist."""
    name = _BY_CODE.get(code)
    if name is None:
        raise ProtocolError(f"bad value: extension type {code} does not exist")
    return import_module(f"cloister.wire.{name}").READERS[code]


def reader_of_marker(marker: Marker) -> Any:
    """Give the reader of a marker that was loaded late, and keep it there."""
    marker.read = import_module(f"cloister.wire.{_BY_MARKER[marker.number]}").MARKER_READERS[marker.number]
    return marker.read
