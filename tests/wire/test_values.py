"""The codec: what goes in comes out, exactly; what can't travel says where it lies and what to do."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.limits import OUT_OF_BAND_BYTES, WireLimits
from cloister.wire.packing import Packing, load_msgpack
from cloister.wire.reference import Reference
from cloister.wire.values import Codec
from tests.wire.equality import same
from tests.wire.samples import REGISTRY, SAMPLES


def there_and_back(codec: Codec, value: object) -> Any:
    """Give what arrives of `value`, with large data beside the message."""
    buffers: list[Any] = []
    data = codec.encode(value, buffers)
    return codec.decode(data, [memoryview(each).toreadonly() for each in buffers])


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_of_value_arrives_as_it_was_sent(codec: Codec, name: str) -> None:
    """Each kind that is copied arrives with its exact type and value, alone and within others."""
    value = SAMPLES[name]
    assert same(there_and_back(codec, value), value)
    assert same(there_and_back(codec, [value, (value,), {"k": value}]), [value, (value,), {"k": value}])


keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.dates() | st.decimals(allow_nan=False) | st.fractions() | st.uuids() | st.timedeltas()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
leaves = (
    keys | st.floats() | st.text(st.characters(codec=None, categories=("Cs", "Lo", "So"))) | st.binary().map(bytearray)
    | st.datetimes(timezones=st.none() | st.timezones()) | st.times() | st.just(...) | st.just(NotImplemented)
    | st.builds(range, st.integers(), st.integers(), st.integers(1)) | st.builds(slice, keys, keys, keys)
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
@pytest.mark.slow
def test_any_nesting_of_values_arrives_as_it_was_sent(value: object) -> None:
    """Whatever is built of copied kinds arrives with exact types; both implementations make the same bytes of it."""
    codecs = [Codec(packing=load_msgpack(pure=pure)) for pure in (False, True)]
    data = codecs[0].encode(value)
    assert codecs[1].encode(value) == data
    for codec in codecs:
        arrived = codec.decode(data)
        assert same(arrived, value)
        assert codec.encode(value) == data


def test_a_memoryview_arrives_as_the_bytes_that_it_shows(codec: Codec) -> None:
    """A memoryview is copied as bytes in C order, also where it is not contiguous."""
    view = memoryview(b"abcdef")
    assert there_and_back(codec, [view, view[::2], (view[::-1],)]) == [b"abcdef", b"ace", (b"fedcba",)]


@pytest.mark.parametrize("size", [OUT_OF_BAND_BYTES - 1, OUT_OF_BAND_BYTES])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_large_binary_data_leaves_the_message_from_64_kib(codec: Codec, kind: type, size: int) -> None:
    """From 16 KiB data travels as a buffer that is not copied, and arrives with its type; below, in the message."""
    value = kind(bytes(size))
    buffers: list[Any] = []
    data = codec.encode(["x", (value, {"k": value})], buffers)
    assert len(buffers) == (2 if size >= OUT_OF_BAND_BYTES else 0)
    assert len(data) < 100 or not buffers
    arrived = codec.decode(data, [memoryview(each) for each in buffers])
    expected = bytes(value) if kind is memoryview else value
    assert same(arrived, ["x", (expected, {"k": expected})])
    assert same(codec.decode(codec.encode([value])), [expected])


def test_large_data_is_not_packed_twice_once_it_is_expected(codec: Codec) -> None:
    """After a message with large data the next ones look for it beforehand; small ones in between still work."""
    for value in (bytes(100_000), 1, bytearray(100_000), [(), "x"], bytes(100_000)):
        assert same(there_and_back(codec, value), value)
    for _ in range(100):
        assert there_and_back(codec, {"small": (1,)}) == {"small": (1,)}


def test_shared_references_arrive_as_separate_copies(codec: Codec) -> None:
    """S40: one list sent twice in a message arrives as two lists."""
    shared = [1]
    first, second = there_and_back(codec, [shared, shared])
    assert first == second == [1]
    assert first is not second


def test_the_sender_s_containers_are_not_touched(codec: Codec) -> None:
    """Encoding with care works on copies: what was sent holds its own objects afterwards."""
    inner = bytearray(b"x")
    value = {"k": [inner, {"again": inner}]}
    codec.encode(value)
    assert value["k"][0] is inner
    assert value["k"][1]["again"] is inner  # type: ignore[index]  # it is a dict


class Text(str):
    """A subclass that nobody registered."""

    __slots__ = ()


class Broken:
    """What can't even be looked at."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError


REFUSED: dict[str, Callable[[], object]] = {
    "object": object,
    "lock": threading.Lock,
    "function": lambda: there_and_back,
    "class": lambda: Text,
    "subclass of str": lambda: Text("x"),
    "subclass of dict": lambda: OrderedDict(a=1),
    "mapping": lambda: UserDict(a=1),
    "exception": lambda: ValueError("x"),
    "hostile": Broken,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_has_no_copy_is_refused_with_its_path_and_the_ways_out(
    packing: Packing, make: Callable[[], object]
) -> None:
    """S41: the error names the path to the value, its type, and what can be done; the next encode is clean."""
    codec, culprit = Codec(packing=packing), make()
    with pytest.raises(MarshalError) as caught:
        codec.encode([7, ["x", {"rows": (1, [culprit])}]], names=("number", "args"))
    text = str(caught.value)
    assert text.startswith("args[1]['rows'][1][0]: ")
    assert type(culprit).__qualname__ in text
    assert all(way in text for way in ("@by_value", "@by_reference", "share()", "pickled()"))
    assert codec.decode(codec.encode([1])) == [1]


def test_a_failed_encode_leaves_no_buffers_behind(codec: Codec) -> None:
    """After a failure the list of buffers is empty, whether the data came before or after the culprit."""
    for value in ([bytes(100_000), object], [bytearray(100_000), "\ud800", object]):
        buffers: list[Any] = []
        with pytest.raises(MarshalError):
            Codec(packing=codec.packing).encode(value, buffers)
        assert buffers == []


def test_a_cycle_is_an_error_that_shows_it(codec: Codec) -> None:
    """A value that contains itself is a MarshalError with the path of the cycle, also with care and through a tuple."""
    loop: list[object] = [1]
    loop.append({"back": (loop,)})
    with pytest.raises(MarshalError, match=r"value\[1\]\['back'\]\[0\]: contains itself"):
        codec.encode(loop)
    loop[0] = bytearray(b"x")
    with pytest.raises(MarshalError, match="contains itself"):
        codec.encode(loop)
    loop[0] = "\ud800"
    with pytest.raises(MarshalError, match="contains itself"):
        codec.encode(loop)


def test_too_many_levels_are_an_error_on_both_sides(codec: Codec) -> None:
    """Nesting deeper than the library allows is a MarshalError going out and a ProtocolError coming in."""
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(MarshalError, match="nested deeper"):
        codec.encode(deep)
    for byte in (b"\x91", b"\x81\x01"):
        with pytest.raises(ProtocolError, match="nested too deeply"):
            codec.decode(byte * 5000)


@pytest.mark.parametrize("levels", [150, 200, 300])
def test_nested_tuples_do_not_end_the_process(levels: int) -> None:
    """A few hundred nested tuples, which overflow the stack of a decoder that calls itself, arrive."""
    codec = Codec()
    value: object = ()
    for _ in range(levels):
        value = (value,)
    assert codec.decode(codec.encode(value)) == value
    with pytest.raises(ProtocolError, match="nested too deeply"):
        codec.decode(b"\x92\xd4\x01\x01" * 2000 + b"\xc0")


def test_user_code_that_raises_while_it_is_copied_is_named(codec: Codec) -> None:
    """An exception in a `__getstate__` is a MarshalError at its path, with the exception as its cause."""

    class Bad:
        def __getstate__(self) -> object:
            raise ZeroDivisionError("no state")

    codec.registry.register(Bad)
    try:
        with pytest.raises(
            MarshalError, match=r"value\[0\]: copying this .*Bad raised ZeroDivisionError: no"
        ) as caught:
            codec.encode([Bad()])
    finally:
        del codec.registry.by_type[Bad]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_codec_can_be_entered_again_from_within(packing: Packing) -> None:
    """User code that runs during an encode or a decode may use the same codec; neither disturbs the other."""

    def outbound(value: object) -> Reference:
        codec.encode([bytearray(70_000), object.__name__], [])
        return Reference((len(codec.encode({"inner": (1, 2)})),))

    def inbound(reference: Reference) -> object:
        return codec.decode(codec.encode(("seen", reference.fields)))

    codec = Codec(packing=packing, outbound=outbound, inbound=inbound)
    for _ in range(3):
        expected = ("seen", (len(codec.encode({"inner": (1, 2)})),))
        assert codec.decode(codec.encode([1, object(), (object(),)])) == [1, expected, (expected,)]


def test_an_object_is_handed_out_once_for_each_time_it_stands_in_the_message(packing: Packing) -> None:
    """A message that has to be encoded twice asks for each reference once, and gives the same references."""
    asked: list[object] = []

    def outbound(value: object) -> Reference:
        asked.append(value)
        return Reference((len(asked), "x"))

    codec = Codec(packing=packing, outbound=outbound)
    first, second = object(), object()
    for special in (bytearray(b"x"), "\ud800", memoryview(b"abc")[::2], bytes(70_000)):
        asked.clear()
        arrived = codec.decode(codec.encode([first, special, (first, second)]))
        assert asked == [first, first, second]
        assert (arrived[0], arrived[2]) == (Reference((1, "x")), (Reference((2, "x")), Reference((3, "x"))))


def test_a_reference_is_received_once_though_the_message_is_read_twice(packing: Packing) -> None:
    """Where many values with a predictable hash make the decode start again, `inbound` is still asked once for each."""
    seen: list[Reference] = []

    def inbound(reference: Reference) -> object:
        seen.append(reference)
        return len(seen)

    codec = Codec(packing=packing, outbound=lambda value: Reference((7,)), inbound=inbound)
    arrived = codec.decode(codec.encode([object(), [(at,) for at in range(3000)], object()]))
    assert (arrived[0], arrived[2], len(seen)) == (1, 2, 2)
    assert arrived[1][-1] == (2999,)


@pytest.mark.parametrize("number", [195, 196, 197, 0xC5C6])
@pytest.mark.parametrize("more", [None, b"x", bytearray(b"x"), "\ud800", b"x" * 300_000])
def test_nothing_of_a_message_is_kept_when_it_is_encoded(packing: Packing, number: int, more: object) -> None:
    """An object that was sent is let go with its last reference, whatever the message is like, and also on a failure.

    196 is the byte with which short binary data begins, so a message with it is looked at more closely.
    """

    class Stays:
        pass

    codec = Codec(packing=packing, outbound=lambda value: Reference((0, number)))
    refusing = Codec(packing=packing)
    gc.disable()
    try:
        stays, refused = Stays(), Stays()
        codec.encode([number, stays, more], [])
        with pytest.raises(MarshalError):
            refusing.encode([number, refused, more], [])
        gone = [weakref.ref(stays), weakref.ref(refused)]
        del stays, refused
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def test_references_are_plain_values() -> None:
    """Two references with the same fields are equal, and show their fields."""
    assert Reference((1, "a")) == Reference((1, "a")) != Reference((2,))
    assert len({Reference((1,)), Reference((1,))}) == 1
    assert (repr(Reference((1,))), Reference((1,)) == (1,)) == ("Reference((1,))", False)


def test_an_error_of_inbound_passes_through(packing: Packing) -> None:
    """What the objects layer refuses keeps its type; the codec is as before."""

    def inbound(reference: Reference) -> object:
        raise MarshalError("no such object")

    codec = Codec(packing=packing, outbound=lambda value: Reference((7,)), inbound=inbound)
    with pytest.raises(MarshalError, match="no such object"):
        codec.decode(codec.encode(object()))
    assert codec.decode(codec.encode((1,))) == (1,)


def test_a_message_beyond_the_limit_is_refused_before_it_is_sent(packing: Packing) -> None:
    """S26: a message of exactly the limit passes, one byte more is a MarshalError, with large data not counted."""
    codec = Codec(WireLimits(message_bytes=1000), packing=packing)
    codec.encode("x" * 997)
    with pytest.raises(MarshalError, match="1,001 bytes, the limit is 1,000"):
        codec.encode("x" * 998)
    with pytest.raises(MarshalError, match="the limit is 1,000"):
        codec.encode(["x" * 998, bytearray(1)])
    assert len(codec.encode([bytes(100_000)], [])) < 20


def test_a_type_that_is_not_known_here_is_told_and_not_imported(packing: Packing) -> None:
    """S49: a by-value type of a module that this side has not imported is a MarshalError; `resolve` may know it."""
    data = Codec(registry=REGISTRY, packing=packing).encode([SAMPLES["plain class"]])
    with pytest.raises(MarshalError, match=r"tests\.wire\.samples\.Customer arrived, which is not known here"):
        Codec(packing=packing).decode(data)
    asked: list[str] = []

    def resolve(name: str) -> type | None:
        asked.append(name)
        return type(SAMPLES["plain class"])

    assert Codec(packing=packing, resolve=resolve).decode(data) == [SAMPLES["plain class"]]
    assert asked == ["tests.wire.samples:Customer"]
    with pytest.raises(MarshalError, match="not known here"):
        Codec(packing=packing, resolve=lambda name: None).decode(data)
