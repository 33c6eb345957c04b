"""One decode: the hooks that MessagePack calls, with the state that belongs to them.

Here is `Decoding`, which the readers of all types get. It looks up who reads what, counts what could flood a dict, and
keeps the first value that can't be had until the whole message was seen.

A decoding belongs to one decode at a time, and to one thread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cloister.errors import CloisterError, MarshalError, ProtocolError
from cloister.wire import containers, scalars
from cloister.wire.flood import guarded_dict
from cloister.wire.handlers import reader_of_code, reader_of_marker
from cloister.wire.records import Record
from cloister.wire.reference import Reference

if TYPE_CHECKING:
    from cloister.wire.values import Codec

__all__ = ["GUARDED_BYTES", "Decoding", "TooManyLeaves", "refuse"]

_STRAY: Final = "bad value: a marker stands elsewhere than at the beginning of an array"

_MARKER: Final = scalars.MARKER_CODE
_TUPLE: Final = containers.MARKERS[bytes((containers.TUPLE,))]
_HOLDERS: Final = frozenset((containers.ARRAY, containers.TABLE, containers.POLARS))
"""Where the data of an array may stand that lies in shared memory."""
_PREDICTABLE: Final = 1024
GUARDED_BYTES: Final = 16 * 1024
"""A shorter message has no room for two thousand keys that would be slow."""
_LONG_MAP: Final = re.compile(rb"[\xde\xdf]")
_READERS: Final = dict(scalars.READERS)
"""The readers by extension code; those of `handlers` are added with their first value."""


class Decoding:
    """The state of one decode, with the hooks that the unpacker calls; used again by the next one unless it failed.

    Dicts are built by the unpacker itself, which is quicker, or checked by `flood` while they are built: where the
    codec has a clock and the message may hold a long map, and from the 1,025th value on that passes `_leaf`. Until then
    there are not enough values with a predictable hash, apart from numbers of 64 bits, of which at most some dozens
    have the same one. At the 1,025th the decode starts again.
    """

    __slots__ = (
        "_codec", "_received", "_replay", "_segments", "array", "buffers", "clock", "copied", "failure", "leaf",
        "leaves", "limits", "open", "parts", "slots", "used",
    )  # fmt: skip

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._received: list[object] = []
        self._replay: list[object] = []
        self.limits = codec.limits
        self.clock = codec.clock
        self.buffers: Sequence[memoryview] = ()
        self.leaves = 0
        self.open = 0
        self.failure: MarshalError | None = None
        self.parts: dict[bytes, memoryview] = {}
        self.used: set[int] = set()
        """The buffers that were given. A message names each once: a short one could copy a long one often else."""
        self.slots: set[int] = set()
        """The same for loans, by their slots."""
        self._segments: dict[int, tuple[int, int]] = {}
        """The number and the length of the segment of each part, by the identity of what its view rests on."""
        self.copied: dict[int, int] = {}
        """How many bytes of each segment were copied; see `scalars.admit`."""
        self.leaf = self._leaf  # bound once: this is done for every message otherwise
        self.array = self._array

    def drop(self) -> None:
        """It is not used again: it and its hooks hold each other."""
        del self.leaf, self.array

    def reset(self) -> None:
        """Forget what belonged to one value."""
        self.buffers = ()
        self.leaves = 0
        if self.parts:
            self.parts = {}
            self.slots.clear()
            self._segments.clear()
            self.copied.clear()
        if self.used:
            self.used.clear()
        if self._received:
            self._received = []
            self._replay = []

    def needs_guard(self, data: bytes | memoryview) -> bool:
        """Say whether `data` may hold a map that is long enough for an attack: that begins with one of two bytes."""
        return self.clock is not None and _LONG_MAP.search(data) is not None

    def guarded(self, data: bytes | memoryview) -> object:
        """Decode with a check of the keys of each dict. Raises as `Codec.decode`."""
        self.leaves = -(1 << 62)
        self.open = 0
        self.failure = None
        self._replay = self._received[::-1]
        self._received = []
        self.used.clear()
        self.slots.clear()
        self.copied.clear()
        try:
            value = self._codec.packing.unpackb(
                data, strict_map_key=False, unicode_errors="surrogatepass", timestamp=1, ext_hook=self.leaf,
                list_hook=self.array, object_pairs_hook=self._map,
            )  # fmt: skip
        except Exception as error:
            refuse(error)
        self.finish()
        return value

    def finish(self) -> None:
        """End a decode that came through. Raises what was found on the way; else this can be used again."""
        if self.open:
            raise ProtocolError(_STRAY)
        if self.failure is not None:
            raise self.failure
        self.reset()

    def _leaf(self, code: int, payload: bytes) -> object:
        self.leaves += 1
        if self.leaves > _PREDICTABLE:
            raise TooManyLeaves
        if code == _MARKER:
            marker = containers.MARKERS.get(payload)
            if marker is None:
                raise ProtocolError(f"bad value: marker {payload.hex()} does not exist")
            self.open += 1
            return marker
        reader = _READERS.get(code)
        if reader is None:
            reader = _READERS[code] = reader_of_code(code)
        try:
            return reader(payload, self)
        except MarshalError as error:
            return self._defer(error)

    def _array(self, items: list[Any]) -> object:
        if not items or items[0].__class__ is not containers.Marker:
            return items
        self.open -= 1
        marker = items[0]
        if self.parts and marker.number in _HOLDERS:  # also where it is not read in the end
            self.open -= sum(type(item) is scalars.Lent for item in items)
        if marker is _TUPLE:
            del items[0]
            return tuple(items)
        if self.failure is not None and marker.number != containers.REFERENCE:
            return None
        try:
            reader = marker.read
            if reader is None:
                reader = reader_of_marker(marker)
            return reader(items, self)
        except MarshalError as error:
            return self._defer(error)

    def _defer(self, error: MarshalError) -> object:
        """Keep the first error for the end of the message. Until then nothing but references is made."""
        if self.failure is None:
            self.failure = error
        return None

    def _map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        return guarded_dict(pairs, self)

    def receive(self, reference: Reference) -> object:
        """Give the object of a reference, once for each time that it stands in the message."""
        if self._replay:
            value = self._replay.pop()
        else:
            inbound = self._codec.inbound
            try:
                value = reference if inbound is None else inbound(reference)
            except MarshalError as error:
                value = self._defer(error)
        self._received.append(value)
        return value

    def fetch(self, payload: bytes, fields: tuple[int, int, int, int, int, bool]) -> memoryview:
        """Give a view of a loan. Raises ProtocolError where the message has named its slot already.

        It is taken up once: where the decode starts again, the same view is given.
        """
        slot = fields[3]
        if slot in self.slots:
            raise ProtocolError(f"bad value: it names loan {slot} twice")
        self.slots.add(slot)
        view = self.parts.get(payload)
        if view is None:
            fetch = self._codec.fetch
            if fetch is None:
                raise ProtocolError("bad value: a buffer lies in shared memory, and none was agreed on")
            view, size = fetch(*fields)
            self.parts[payload] = view
            self._segments[id(view.obj)] = fields[0], size
        return view

    def copies(self, holder: object, length: int) -> None:
        """Note that so many bytes of what rests on `holder` are about to be copied. Nothing is, beside a segment.

        Raises ProtocolError where the message has more copied out of a segment than that holds.
        """
        number, size = self._segments.get(id(holder), (0, 0))
        if number and not scalars.admit(self.copied, number, length, size):
            raise ProtocolError(
                f"bad value: it has more copied out of segment {number} than the {size:,} bytes which that holds"
            )

    def record_of(self, name: object) -> Record:
        """See `Codec.record_of`."""
        return self._codec.record_of(name)

    @property
    def imports(self) -> bool:
        """Whether what arrives may cause an import here: never in a host."""
        return self._codec.resolve is not None


def refuse(error: Exception) -> NoReturn:
    """Raise the documented error for one that the unpacker has raised."""
    if isinstance(error, CloisterError):
        raise error
    text = str(error)
    if isinstance(error, RecursionError) or type(error).__name__ == "StackError":
        text = "it is nested too deeply"
    elif type(error).__name__ == "ExtraData":
        text = "bytes follow it"
    raise ProtocolError(f"bad value: {text or type(error).__name__}") from error


class TooManyLeaves(Exception):
    """So many values with a predictable hash that dicts have to be guarded."""
