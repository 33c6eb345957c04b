"""Values to bytes and back: the codec.

Here is `Codec`; the state of one encode is in `encoding`, that of one decode in `decoding`. What a type looks like on
the wire is in `scalars` (leaves), `containers`, `records` (registered types), and in the files that `handlers` names.
Who decides that an object has no copy is the objects layer, asked through `outbound` and `inbound`.

A value is one MessagePack object. None, bool, 64-bit integers, float, str, bytes, list and dict are MessagePack's own.
Any other leaf is an extension type with a payload of its own format. Any other container is an *array whose first
element is a marker*, an extension type of one byte that says which container the rest of the array is.

Invariants:

- One pass. No hook decodes bytes of its own accord, so that the depth of nesting is the library's to limit: a hook that
  calls the decoder again ends the process at 200 levels.
- Nothing that arrives chooses code: no pickle, no import, no attribute looked up by a name that the peer sent, no
  constructor but those of the tables in this package.
- A length that a peer states is not believed beyond the bytes of its message.
- MessagePack takes a bytearray and a memoryview for bytes and copies bytes of any size without asking. Whether that
  happened is found out after the fact, from the bytes that were made, and the value is then encoded again with care:
  an ordinary message pays for one search for a byte.
- A dict that a peer sends can't stall its receiver: keys with a predictable hash are counted, see `Decoding`.

A codec belongs to one thread at a time. It may be entered again from within (a ``__getstate__`` that makes a call).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Final, NoReturn, TypeAlias

from cloister.errors import CloisterError, MarshalError, ProtocolError
from cloister.wire.culprit import find_path, find_trap
from cloister.wire.decoding import GUARDED_BYTES, Decoding, TooManyLeaves, refuse
from cloister.wire.encoding import NOTHING, Encoding, Gathered, Placed, has_binary
from cloister.wire.limits import DEFAULT_LIMITS, OUT_OF_BAND_BYTES, WireLimits
from cloister.wire.packing import Packing, default_packing
from cloister.wire.records import Record, record_for
from cloister.wire.reference import Reference
from cloister.wire.registry import DEFAULT_REGISTRY, Registry

__all__ = ["Codec", "Reference", "decode_once", "encode_once"]

Outbound: TypeAlias = Callable[[object], Reference]
Inbound: TypeAlias = Callable[[Reference], object]
Withdraw: TypeAlias = Callable[[Reference], None]
Resolve: TypeAlias = Callable[[str], type | None]
Place: TypeAlias = Callable[["memoryview | Gathered"], "Placed | None"]
Fetch: TypeAlias = Callable[[int, int, int, int, int, bool], tuple[memoryview, int]]
Names: TypeAlias = Sequence[str | tuple[str, ...]]

_KEPT_BYTES: Final = 1024 * 1024
"""A packer keeps room for the longest message that it ever made; one that made a longer one than this is let go."""

_PLAIN_BYTES: Final = 1024 * 1024
"""The text of a longer message is not joined only to see that it is text."""

_SCANNED_BYTES: Final = 256
"""A message up to this length is searched for a marker before it is decoded: where there is none, the hook that every
list would pass is left out. It costs 20 ns, and the hook 60 ns a list, more where the caches are cold."""

_PLAIN_LEAVES: Final = frozenset((type(None), bool, int, float, str, bytes))


class Codec:
    """Encodes and decodes the values of one conversation.

    `outbound` is asked for the `Reference` of an object that is not copied; it raises `MarshalError` where the object
    may not travel at all. None refuses all of them. Where an encode fails, what `outbound` has handed out was not sent:
    `withdraw` is told of each such reference, the last one first.
    `inbound` gives the object that a reference stands for. None leaves the reference as it is. It is called for every
    reference of a well made message, also where another part of it can't be had here, so that both sides count alike.
    `resolve` gives the type of a name that the registry does not know, or None; it may import, so only a guest has one.
    `place` puts a large buffer into shared memory and gives the loan of it, or None where it is to travel beside the
    message; it is asked only where buffers may. `unplace` is told of each loan that will not be sent after all.
    `fetch` gives a view of a loan that arrived, and how long all of its segment is; it raises `ProtocolError` before it
    touches what does not exist.
    `packing` is the implementation of MessagePack; None takes the best one of this interpreter.
    `clock` gives this thread's own CPU time in nanoseconds (`time.thread_time_ns`), for the guard against keys that
    were chosen to be slow (`flood`). A host has one; None trusts the peer not to do that.
    """

    __slots__ = (
        "_careful", "_decoding", "_encoding", "_expects_binary", "_unpackb",
        "clock", "elaborate", "fetch", "inbound", "limits", "outbound", "packing", "place", "registry", "resolve",
        "unplace", "withdraw",
    )  # fmt: skip

    def __init__(
        self,
        limits: WireLimits = DEFAULT_LIMITS,
        *,
        registry: Registry = DEFAULT_REGISTRY,
        outbound: Outbound | None = None,
        withdraw: Withdraw | None = None,
        inbound: Inbound | None = None,
        resolve: Resolve | None = None,
        packing: Packing | None = None,
        clock: Callable[[], int] | None = None,
        place: Place | None = None,
        unplace: Callable[[Placed], None] | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self.limits = limits
        self.registry = registry
        self.outbound = outbound
        self.withdraw = withdraw
        self.inbound = inbound
        self.resolve = resolve
        self.packing = default_packing() if packing is None else packing
        self.clock = clock
        self.place, self.unplace, self.fetch = place, unplace, fetch
        self._unpackb = self.packing.unpackb
        # The spare states; None while one is in use, so that a nested encode makes its own. Making a packer takes
        # longer than using it.
        self._encoding: Encoding | None = None
        self._careful: Encoding | None = None
        self._decoding: Decoding | None = None
        self._expects_binary = 0
        self.elaborate = 0
        """How many encodes have met what MessagePack does not know, or made more than 258 bytes. One that has left this
        as it was has made bytes that `decode_plain` reads."""

    def let_go(self) -> None:
        """It is not needed any more. It and its spare states hold each other, and would wait for the collector."""
        encoding, careful, decoding = self._encoding, self._careful, self._decoding
        self._encoding = self._careful = self._decoding = None
        for state in (encoding, careful, decoding):
            if state is not None:
                state.drop()

    def encode(self, value: object, buffers: list[Any] | None = None, names: Names = ()) -> bytes:
        """Give the bytes of `value`.

        `buffers` is an empty list that receives what travels beside the message: binary data from `OUT_OF_BAND_BYTES`,
        not copied, so it must not change until it was written. None keeps all of it in the message.
        `names` are those of the items of a list `value`, for errors: with ``("number", "result")`` the path to an
        offending value begins with ``result``. An empty name shows the position; names in brackets are those of the
        items of that item.

        Raises `MarshalError` for what can't travel, with the path to it and the ways out; the codec is as before, and
        `buffers` is empty again.
        """
        encoding = self._encoding or Encoding(self)
        if self._expects_binary and buffers is not None:
            self._encoding = None
            return self._encode_carefully(value, buffers, names, encoding)
        self._encoding = None
        encoding.buffers = buffers
        try:
            data: bytes = encoding.pack(value)
        except Exception as error:  # the packer is thrown away with its state
            said = str(error)
            if isinstance(error, (UnicodeEncodeError, BufferError)) or "get buffer" in said or "released" in said:
                if buffers:
                    buffers.clear()
                return self._encode_carefully(value, buffers, names, encoding)
            self._explain(error, value, names, encoding, buffers)
        # What begins short binary data is 0xC4; longer data begins with 0xC5 or 0xC6.
        if encoding.foreign or 0xC4 in data or len(data) > 258:
            return self._finish(value, data, buffers, names, encoding)
        self._encoding = encoding
        return data

    def _finish(self, value: object, data: bytes, buffers: list[Any] | None, names: Names, encoding: Encoding) -> bytes:
        """Look at what was encoded more closely, because it is long, or not all of it is MessagePack's own."""
        foreign, encoding.foreign = encoding.foreign, False
        length = len(data)
        if foreign or length > 258:
            self.elaborate += 1
        if 0xC4 in data or (length > 258 and (0xC5 in data or 0xC6 in data)):
            plain = not foreign and length < _PLAIN_BYTES
            if has_binary(value, length if buffers is None else OUT_OF_BAND_BYTES, plain=plain):
                if buffers:
                    buffers.clear()
                return self._encode_carefully(value, buffers, names, encoding)
        if length > self.limits.message_bytes:
            self._refuse_length(length, encoding)
        if encoding.references:
            encoding.references.clear()
        if buffers:
            encoding.buffers = None
        if encoding.placed:
            encoding.take_placed()
        if length < _KEPT_BYTES:
            self._encoding = encoding
        else:
            encoding.drop()
        return data

    def decode(self, data: bytes | memoryview, buffers: Sequence[memoryview] = ()) -> Any:
        """Give the value of `data`, with the `buffers` that came beside it.

        Raises `ProtocolError` for anything that no codec makes, and for what exceeds the limits. `MarshalError` for a
        value that is well made but can't be had here: of a type that is not registered, or of a library that is not
        imported. Any other `CloisterError` comes from `inbound`. The codec is as before.
        """
        decoding = self._decoding or Decoding(self)
        self._decoding = None
        if len(data) >= _SCANNED_BYTES or 0xD4 in data or buffers:
            return self._decode_any(data, buffers, decoding)
        try:  # no marker, so no list is anything but a list
            value = self._unpackb(
                data, strict_map_key=False, unicode_errors="surrogatepass", timestamp=1, ext_hook=decoding.leaf
            )
        except Exception as error:
            refuse(error)
        if decoding.leaves:
            decoding.finish()
        self._decoding = decoding
        return value

    def decode_plain(self, data: bytes | memoryview) -> Any:
        """As `decode`, for a message of MessagePack's own types: any extension type is a `ProtocolError`.

        No hook is called for its lists, nothing of it can be a `MarshalError`, and it is too short to stall anybody.
        """
        if len(data) > GUARDED_BYTES:
            raise ProtocolError(f"bad value: a row of {len(data):,} bytes exceeds the limit of {GUARDED_BYTES:,}")
        try:
            value = self._unpackb(
                data, strict_map_key=False, unicode_errors="surrogatepass", timestamp=0, ext_hook=_refuse_extension
            )
        except Exception as error:
            refuse(error)
        # MessagePack decodes a timestamp, its own extension, without a hook; other things may have the same bytes.
        whole = bytes(data)
        if (b"\xd6\xff" in whole or b"\xd7\xff" in whole or b"\xc7\x0c\xff" in whole) and not _is_plain(value):
            raise ProtocolError("bad value: a timestamp has no place in a row")
        return value

    def _decode_any(self, data: bytes | memoryview, buffers: Sequence[memoryview], decoding: Decoding) -> Any:
        decoding.buffers = buffers
        if len(data) > GUARDED_BYTES and decoding.needs_guard(data):
            value = decoding.guarded(data)
            self._decoding = decoding
            return value
        try:
            value = self._unpackb(
                data, strict_map_key=False, unicode_errors="surrogatepass", timestamp=1, ext_hook=decoding.leaf,
                list_hook=decoding.array,
            )  # fmt: skip
        except TooManyLeaves:
            value = decoding.guarded(data)
            self._decoding = decoding
            return value
        except Exception as error:
            refuse(error)
        if decoding.leaves:
            decoding.finish()
        decoding.buffers = ()
        self._decoding = decoding
        return value

    def record_of(self, name: object) -> Record:
        """Give the record of a type that a peer named.

        Raises `MarshalError` where the type is not known here; `ProtocolError` for a name that is none.
        """
        if type(name) is not str or len(name) > self.limits.name_chars:
            raise ProtocolError("bad value: the name of a type is no short string")
        record = self.registry.by_name.get(name)
        if record is None and self.resolve is not None:
            kind = self.resolve(name)
            if kind is not None:
                record = self.registry.by_name.get(name) or record_for(kind)
        if record is None:
            shown = name.replace(":", ".")
            if name.startswith("__main__:"):
                raise MarshalError(
                    f"a value of type {shown} arrived, which is not known here: the program that defines it runs only "
                    "once. Put the class into a module that both sides can import, or keep the object where it is with "
                    "@by_reference"
                )
            raise MarshalError(
                f"a value of type {shown} arrived, which is not known here. Import the module that "
                "defines it and mark the class with @by_value, or keep the object where it is with @by_reference"
            )
        return record

    def _encode_carefully(self, value: object, buffers: list[Any] | None, names: Names, first: Encoding) -> bytes:
        """Encode what MessagePack alone would change: bytearrays, memoryviews, lone surrogates, large binary data."""
        self.elaborate += 1
        if self._expects_binary:
            self._expects_binary -= 1
        encoding = self._careful or Encoding(self, careful=True)
        self._careful = None
        encoding.buffers = buffers
        encoding.references, first.references = first.references, []
        self._unplace(first)
        first.drop()
        try:
            data: bytes = encoding.pack(encoding.prepared(value))
        except Exception as error:
            self._explain(error, value, names, encoding, buffers)
        if len(data) > self.limits.message_bytes:
            self._refuse_length(len(data), encoding)
        if buffers or encoding.placed:
            self._expects_binary = 64
        encoding.references = []
        encoding.take_placed()
        encoding.buffers = None
        if len(data) < _KEPT_BYTES:
            self._careful = encoding
        else:
            encoding.drop()
        return data

    def _explain(
        self,
        error: Exception,
        value: object,
        names: Names,
        encoding: Encoding,
        buffers: list[Any] | None,
    ) -> NoReturn:
        """Raise the `MarshalError` that says where in `value` the failure lies."""
        self._withdraw(encoding)
        if buffers:
            buffers.clear()
        value, names = _flattened(value, names)
        culprit = encoding.culprit
        encoding.drop()
        if culprit is not NOTHING:
            path = find_path(value, culprit, names)
            raise MarshalError(f"{path}: {error}") from (error.__cause__ or error)
        if isinstance(error, (ValueError, RecursionError)) and ("recursion" in str(error) or not str(error)):
            raise MarshalError(find_trap(value, names)) from None
        if isinstance(error, CloisterError):
            raise error
        raise MarshalError(f"{type(value).__name__} can't be encoded: {error}") from error

    def _withdraw(self, encoding: Encoding) -> None:
        """Say of each reference and each loan that was made for a message that it will not be sent."""
        self._unplace(encoding)
        if self.withdraw is not None:
            for _, reference in reversed(encoding.references):
                self.withdraw(reference)
        encoding.references.clear()

    def _unplace(self, encoding: Encoding) -> None:
        if encoding.placed:
            for loan in encoding.take_placed():
                encoding.unplace(loan)

    def _refuse_length(self, length: int, encoding: Encoding) -> NoReturn:
        self._withdraw(encoding)
        encoding.drop()
        raise MarshalError(
            f"the message takes {length:,} bytes, the limit is {self.limits.message_bytes:,}. Send it in parts, as an "
            "array or as bytes (which travel beside the message), or raise the limit message_bytes"
        )


def _is_plain(value: Any) -> bool:
    """Whether nothing else than MessagePack's own types is anywhere in a decoded message."""
    rest = [value]
    while rest:
        each = rest.pop()
        if type(each) is list:
            rest += each
        elif type(each) is dict:
            rest += each
            rest += each.values()
        elif type(each) not in _PLAIN_LEAVES:
            return False
    return True


def _refuse_extension(code: int, payload: bytes) -> NoReturn:
    raise ProtocolError(f"bad value: extension type {code} has no place in a row")


def _flattened(value: Any, names: Names) -> tuple[object, Sequence[str]]:
    """Take items whose own items have names out of their list, as they are shown in an error."""
    plain = [name for name in names if isinstance(name, str)]
    if len(plain) == len(names):
        return value, plain
    items: list[object] = []
    flat: list[str] = []
    for item, name in zip_longest(value, names, fillvalue=""):
        if isinstance(name, str):
            items.append(item)
            flat.append(name)
        else:
            items += item
            flat += [each for each, _ in zip_longest(name, item, fillvalue="")][: len(item)]
    return items, flat


def encode_once(value: object) -> bytes:
    """The bytes of a plain value, by a codec of its own. Raises as `Codec.encode`."""
    codec = Codec()
    try:
        return codec.encode(value)
    finally:
        codec.let_go()


def decode_once(data: bytes | memoryview) -> Any:
    """The plain value of these bytes, by a codec of its own. Raises as `Codec.decode`."""
    codec = Codec()
    try:
        return codec.decode(data)
    finally:
        codec.let_go()
