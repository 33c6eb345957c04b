"""Containers that MessagePack does not have: arrays whose first element is a marker.

======  =========  ==================================================================================================
marker  container  the elements after the marker
======  =========  ==================================================================================================
1       tuple      its items
2       set        its items, in any order
3       frozenset  its items, in any order
4       range      start, stop, step
5       slice      start, stop, step
6       reference  the fields, as the objects layer defines them
7       record     name of the type, its parts (`records`)
8       enum       name of the type, name of the member; or name of the type, nil, value of a flag
16      array      numpy array (`arrays`)
17      scalar     numpy scalar (`arrays`)
20      table      pyarrow table, record batch, array (`tables`)
21      pandas     pandas frame or series (`pandas_frames`)
22      polars     polars frame or series (`tables`)
======  =========  ==================================================================================================

A marker stands nowhere but at the beginning of an array. A dict is MessagePack's map, whatever its keys.

Here are the readers and writers of 1 to 6; a reader takes the whole array and the decoding. Pure; the tables never
change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import ProtocolError
from cloister.wire.flood import guarded_set
from cloister.wire.packing import Packing
from cloister.wire.reference import Reference
from cloister.wire.scalars import MARKER_CODE

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = [
    "ARRAY", "ENUM", "MARKERS", "PANDAS", "POLARS", "RECORD", "REFERENCE", "SCALAR", "TABLE", "TUPLE", "WRITERS",
    "Marker", "markers",
]  # fmt: skip

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
RANGE: Final = 4
SLICE: Final = 5
REFERENCE: Final = 6
RECORD: Final = 7
ENUM: Final = 8
ARRAY: Final = 16
SCALAR: Final = 17
TABLE: Final = 20
PANDAS: Final = 21
POLARS: Final = 22

Reader = Callable[[list[Any], "Decoding"], object]


class Marker:
    """The first element of an array that is another container. `read` is None until the reader has been loaded."""

    __slots__ = ("number", "read")

    def __init__(self, number: int, read: Reader | None = None) -> None:
        self.number = number
        self.read = read


def _read_tuple(items: list[Any], decoding: Decoding) -> tuple[Any, ...]:
    return tuple(items[1:])


def _read_set(items: list[Any], decoding: Decoding) -> set[Any]:
    del items[0]
    made = guarded_set(items, decoding)
    if len(made) != len(items):
        raise ProtocolError("bad value: a set holds an item twice")
    return made


def _read_frozenset(items: list[Any], decoding: Decoding) -> frozenset[Any]:
    return frozenset(_read_set(items, decoding))


def _read_range(items: list[Any], decoding: Decoding) -> range:
    _, start, stop, step = items
    if not type(start) is type(stop) is type(step) is int:
        raise ProtocolError("bad value: a range is not of integers")
    return range(start, stop, step)


def _read_slice(items: list[Any], decoding: Decoding) -> slice:
    _, start, stop, step = items
    return slice(start, stop, step)


def _read_reference(items: list[Any], decoding: Decoding) -> object:
    return decoding.receive(Reference(tuple(items[1:])))


MARKERS: Final[dict[bytes, Marker]] = {
    bytes((number,)): Marker(number, read)
    for number, read in {
        TUPLE: _read_tuple,
        SET: _read_set,
        FROZENSET: _read_frozenset,
        RANGE: _read_range,
        SLICE: _read_slice,
        REFERENCE: _read_reference,
        RECORD: None,
        ENUM: None,
        ARRAY: None,
        SCALAR: None,
        TABLE: None,
        PANDAS: None,
        POLARS: None,
    }.items()
}


def markers(packing: Packing) -> dict[int, Any]:
    """Give the markers as `packing` writes them, by number. They are made once for each implementation."""
    made = _written.get(packing.ext_type)
    if made is None:
        made = {marker.number: packing.ext_type(MARKER_CODE, code) for code, marker in MARKERS.items()}
        _written[packing.ext_type] = made
    return made


_written: dict[object, dict[int, Any]] = {}


def _write_tuple(value: tuple[Any, ...], encoding: Encoding) -> object:
    return [encoding.markers[TUPLE], *value]


def _write_set(value: set[Any], encoding: Encoding) -> object:
    return [encoding.markers[SET], *value]


def _write_frozenset(value: frozenset[Any], encoding: Encoding) -> object:
    return [encoding.markers[FROZENSET], *value]


def _write_range(value: range, encoding: Encoding) -> object:
    return [encoding.markers[RANGE], value.start, value.stop, value.step]


def _write_slice(value: slice, encoding: Encoding) -> object:
    return [encoding.markers[SLICE], value.start, value.stop, value.step]


WRITERS: Final[dict[type, Callable[[Any, Encoding], object]]] = {
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_frozenset,
    range: _write_range,
    slice: _write_slice,
}
