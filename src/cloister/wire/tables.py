"""Tables of pyarrow and polars, as containers behind a marker.

=======  ============================================================================================================
marker   the elements after it
=======  ============================================================================================================
table    ``"table"``, ``"batch"``, ``"array"`` or ``"chunked"`` (pyarrow), data
polars   ``"frame"`` or ``"series"``, data
=======  ============================================================================================================

The data is an uncompressed Arrow stream: bytes, or the number of a buffer. An array or a series is the only column of
its stream. What arrives is checked in full before anybody gets it (`arrow_stream`, then the library's own validation).

The libraries are never imported for a sender. Pure; any thread may enter.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.arrow_stream import refuse_compression
from cloister.wire.containers import POLARS, TABLE
from cloister.wire.limits import LASTING_BYTES
from cloister.wire.scalars import Lent, put_data, take_data

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = ["MARKER_READERS", "library", "writer_of"]

_OLDEST_PYARROW: Final = 15
"""Earlier ones unpickle what the metadata of a stream tells them to (before 14.0.1)."""


def library(name: str, decoding: Decoding) -> Any:
    """Give a library to a receiver. Raises `MarshalError` where it was not imported and may not be."""
    found = sys.modules.get(name)
    if found is None and decoding.imports:
        try:
            found = import_module(name)
        except ImportError as error:
            raise MarshalError(f"a value of {name} arrived; install {name} where it is received") from error
    if found is None:
        raise MarshalError(f"a value of {name} arrived, and {name} is not imported here. Import {name} before the call")
    return found


def _data_of(part: object, decoding: Decoding) -> bytes | memoryview:
    """The data of a stream, which is about to be copied. Raises `ProtocolError` as `Decoding.copies`."""
    data = take_data(part, decoding)
    if type(data) is memoryview:
        decoding.copies(data.obj, data.nbytes)
    return data


# -- pyarrow ---------------------------------------------------------------------------------------------------------


def _write_arrow(value: Any, encoding: Encoding) -> object:
    pyarrow: Any = sys.modules["pyarrow"]
    kind = "table"
    if isinstance(value, pyarrow.RecordBatch):
        kind, held = "batch", value
    elif isinstance(value, pyarrow.Array):
        kind, held = "array", pyarrow.record_batch([value], names=[""])
    elif isinstance(value, pyarrow.ChunkedArray):
        kind, held = "chunked", pyarrow.table([value], names=[""])
    else:
        held = value
    sink = pyarrow.BufferOutputStream()
    with import_module("pyarrow.ipc").new_stream(sink, held.schema) as writer:
        writer.write(held)
    return [encoding.markers[TABLE], kind, put_data(memoryview(sink.getvalue()), encoding, copied=True)]


def _read_arrow(items: list[Any], decoding: Decoding) -> object:
    _, kind, part = items
    pyarrow = library("pyarrow", decoding)
    if int(pyarrow.__version__.split(".")[0]) < _OLDEST_PYARROW:
        raise MarshalError(f"pyarrow {pyarrow.__version__} can't be trusted with data of others; upgrade it")
    # A copy of its own is aligned, as the library wants it; and what a guest could still change can't be checked.
    data: Any = _data_of(part, decoding)
    if type(part) is not Lent or not decoding.imports or len(data) < LASTING_BYTES:
        data = bytes(data)
    refuse_compression(data)
    with import_module("pyarrow.ipc").open_stream(pyarrow.py_buffer(data)) as reader:
        batches = list(reader)
        table = pyarrow.Table.from_batches(batches, reader.schema)
    table.validate(full=True)
    if kind == "table":
        return table
    if kind == "chunked" and table.num_columns == 1:
        return table.column(0)
    if kind not in ("batch", "array") or len(batches) != 1 or (kind == "array" and table.num_columns != 1):
        raise ProtocolError("bad value: an Arrow stream does not hold what it should")
    return batches[0] if kind == "batch" else batches[0].column(0)


# -- polars ----------------------------------------------------------------------------------------------------------


def _write_polars(value: Any, encoding: Encoding) -> object:
    polars: Any = sys.modules["polars"]
    kind = "series" if isinstance(value, polars.Series) else "frame"
    frame = value.to_frame() if kind == "series" else value
    for name, dtype in frame.schema.items():
        if dtype == polars.Object:
            raise MarshalError(f"column {name!r} holds Python objects, which have no copy. Cast it to a type of polars")
    sink = io.BytesIO()
    frame.write_ipc_stream(sink, compression="uncompressed")
    return [encoding.markers[POLARS], kind, put_data(sink.getbuffer(), encoding, copied=True)]


def _read_polars(items: list[Any], decoding: Decoding) -> object:
    _, kind, part = items
    polars = library("polars", decoding)
    data = bytes(_data_of(part, decoding))
    refuse_compression(data)
    try:
        frame = polars.read_ipc_stream(io.BytesIO(data))
    except BaseException as error:  # its own panics are no Exceptions
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ProtocolError(f"bad value: polars does not read it: {error}") from error
        raise
    if kind == "frame":
        return frame
    if kind != "series" or frame.width != 1:
        raise ProtocolError("bad value: an Arrow stream does not hold what it should")
    return frame.to_series()


def writer_of(kind: type) -> Callable[[Any, Encoding], object] | None:
    """Give the writer of a type of pyarrow or polars, or None."""
    root = kind.__module__.partition(".")[0]
    held: Any = sys.modules[root]
    if root == "polars":
        return _write_polars if kind in (held.DataFrame, held.Series) else None
    if kind in (held.Table, held.RecordBatch, held.ChunkedArray) or issubclass(kind, held.Array):
        return _write_arrow
    return None


MARKER_READERS: Final = {TABLE: _read_arrow, POLARS: _read_polars}
