"""Bytes that no codec makes: each is a ProtocolError, at once and without taking memory or time."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.limits import WireLimits
from cloister.wire.packing import Packing, load_msgpack
from cloister.wire.values import Codec
from tests.wire.samples import REGISTRY, SAMPLES


def leaf(code: int, payload: bytes) -> bytes:
    """Give an extension type."""
    return struct.pack(">BIb", 0xC9, len(payload), code) + payload


def marked(number: int, *items: bytes) -> bytes:
    """Give an array that begins with a marker."""
    return bytes((0x91 + len(items), 0xD4, 1, number)) + b"".join(items)


def text(value: str) -> bytes:
    """Give a str of MessagePack."""
    return b"\xdb" + struct.pack(">I", len(value)) + value.encode()


COLOUR, ORDER, ACCESS = (text(f"tests.wire.samples:{name}") for name in ("Colour", "Order", "Access"))

BAD = {
    "nothing": b"",
    "reserved byte": b"\xc1",
    "half a number": b"\xcd\x01",
    "trailing bytes": b"\x01\x01",
    "half a str": b"\xa5ab",
    "bad utf-8": b"\xa2\xff\xff",
    "unhashable key": b"\x81\x90\xc0",
    "bad timestamp": leaf(-1, b"\0"),
    "unknown extension": leaf(99, b""),
    "marker alone": b"\xd4\x01\x01",
    "marker in the middle": b"\x92\x01\xd4\x01\x01",
    "marker as a key": b"\x81\xd4\x01\x01\xc0",
    "marker after a marker": marked(1, b"\xd4\x01\x01"),
    "marker of two bytes": b"\x91" + leaf(1, b"\x01\x01"),
    "unknown marker": marked(99),
    "empty integer": leaf(2, b""),
    "long integer that is short": leaf(2, b"\x00\x01"),
    "small integer as a large one": leaf(2, b"\x01"),
    "huge integer": leaf(2, b"\x7f" * 100_000),
    "short complex": leaf(3, b"\0" * 15),
    "buffer that is not there": leaf(5, b"\0\0\0"),
    "buffer of an unknown kind": leaf(5, b"\x07\0\0"),
    "unknown singleton": leaf(6, b"\x09"),
    "decimal of letters": leaf(8, b"abc"),
    "decimal with a huge exponent": leaf(8, b"1E+999999999"),
    "decimal with a tiny exponent": leaf(8, b"0E-999999999"),
    "decimal in another form": leaf(8, b" 1_0"),
    "long decimal": leaf(8, b"1" * 200_000),
    "decimal that is not ascii": leaf(8, "١".encode()),
    "fraction over zero": leaf(9, struct.pack(">I", 1) + b"\x01\x00"),
    "fraction that can be reduced": leaf(9, struct.pack(">I", 1) + b"\x02\x04"),
    "fraction with a negative denominator": leaf(9, struct.pack(">I", 1) + b"\x01\xff"),
    "fraction with a lying length": leaf(9, struct.pack(">I", 2**32 - 1) + b"\x01\x02"),
    "huge fraction": leaf(9, struct.pack(">I", 5000) + b"\x7f" * 5000 + b"\x01"),
    "short uuid": leaf(10, b"1"),
    "date that does not exist": leaf(16, struct.pack(">HBB", 2026, 2, 30)),
    "year 0": leaf(16, struct.pack(">HBB", 0, 1, 1)),
    "time that does not exist": leaf(17, struct.pack(">BBBIB", 24, 0, 0, 0, 0)),
    "fold 2": leaf(17, struct.pack(">BBBIB", 1, 0, 0, 0, 2)),
    "short datetime": leaf(18, b"\x07"),
    "zone of an unknown kind": leaf(20, b"\x07"),
    "zone that is none": leaf(20, b""),
    "zone of two days": leaf(20, b"\0" + struct.pack(">q", 2 * 86_400_000_000)),
    "zone with a path": leaf(20, b"\x01../../etc/passwd"),
    "zone with an absolute path": leaf(20, b"\x01/etc/passwd"),
    "long zone": leaf(20, b"\x01" + b"A" * 1000),
    "long duration": leaf(19, struct.pack(">iII", 2**31 - 1, 0, 0)),
    "duration in another form": leaf(19, struct.pack(">iII", 0, 86_400, 0)),
    "path of no flavour": leaf(24, b"\x09x"),
    "empty path": leaf(24, b""),
    "set with a list": marked(2, b"\x90"),
    "set with an item twice": marked(2, b"\x01", b"\x01"),
    "frozenset with a dict": marked(3, b"\x80"),
    "range of two": marked(4, b"\x01", b"\x01"),
    "range of floats": marked(4, b"\xca\0\0\0\0", b"\x01", b"\x01"),
    "range with step 0": marked(4, b"\0", b"\x01", b"\0"),
    "slice of two": marked(5, b"\0", b"\x01"),
    "record without a name": marked(7),
    "record with a number for a name": marked(7, b"\x01"),
    "record with a long name": marked(7, text("x" * 1000)),
    "record that is an enum": marked(7, COLOUR, text("RED")),
    "enum that is a record": marked(8, ORDER),
    "enum without a member": marked(8, COLOUR),
    "flag of text": marked(8, ACCESS, b"\xc0", text("READ")),
    "flag by name": marked(8, ACCESS, text("READ")),
}  # fmt: skip


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_no_codec_makes_is_refused(packing: Packing, data: bytes) -> None:
    """A malformed value is a ProtocolError, also within others, and the codec decodes the next one."""
    codec = Codec(registry=REGISTRY, packing=packing)
    for hostile in (data, b"\x92\x01" + data):
        with pytest.raises(ProtocolError, match="bad value"):
            codec.decode(hostile)
    assert codec.decode(codec.encode((1,))) == (1,)


def test_a_timestamp_of_another_encoder_is_a_float(packing: Packing) -> None:
    """MessagePack's own timestamp, which no codec sends, has a stated outcome."""
    arrived = Codec(packing=packing).decode(leaf(-1, b"\0\0\0\x07"))
    assert (type(arrived), arrived) == (float, 7.0)


UNKNOWN = {
    "member": marked(8, COLOUR, text("BLUE")),
    "member that is an attribute": marked(8, COLOUR, text("__class__")),
    "parts": marked(7, ORDER, b"\x01"),
    "type": marked(7, text("os:system"), b"\x01"),
    "zone": leaf(20, b"\x01Nowhere/At_All"),
}


@pytest.mark.parametrize("data", UNKNOWN.values(), ids=UNKNOWN)
def test_what_another_version_may_have_sent_is_a_marshal_error(packing: Packing, data: bytes) -> None:
    """What is well made but unknown here does not end the domain: it is a MarshalError."""
    with pytest.raises(MarshalError):
        Codec(registry=REGISTRY, packing=packing).decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x02", b"\xdc\xff\xff", b"\xdd\x00\x10\x00\x00" * 20,
    ],
    ids=["array", "map", "bytes", "str", "extension", "short array", "arrays in arrays"],
)  # fmt: skip
def test_a_lying_length_takes_no_memory(packing: Packing, data: bytes) -> None:
    """A length of 2**32 in five bytes is refused without reserving what it says."""
    codec = Codec(packing=packing)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# All of them have one hash, because hash(-1) == hash(-2); as integers, because 2**61 - 1 is the modulus.
TUPLES = list(itertools.product((-1, -2), repeat=11))
LARGE = [at * (2**61 - 1) for at in range(100, 2200)]
WAYS = {
    "dict of tuples": lambda keys: dict.fromkeys(keys),
    "set": set,
    "frozenset": frozenset,
    "dict in a list": lambda keys: [1, [dict.fromkeys(keys)]],
    "dict in a key": lambda keys: {(1, frozenset(keys)): 1},
}


@pytest.mark.parametrize("keys", [TUPLES, LARGE], ids=["tuples", "integers"])
@pytest.mark.parametrize("build", WAYS.values(), ids=WAYS)
def test_keys_that_were_chosen_to_collide_are_refused(packing: Packing, build: object, keys: list[object]) -> None:
    """A dict or set of thousands of keys with one hash is refused before it is built."""
    honest = Codec(WireLimits(colliding_keys=10_000), packing=packing)
    data = honest.encode(build(keys))  # type: ignore[operator]  # each of WAYS is callable
    start = time.process_time()
    with pytest.raises(ProtocolError, match="collide"):
        Codec(packing=packing).decode(data)
    assert time.process_time() - start < 5
    assert honest.decode(data) == build(keys)  # type: ignore[operator]  # each of WAYS is callable


def chain(bits: int) -> list[int]:
    """Give integers with different hashes that walk through the same places of a table of 2**bits places."""
    places: list[int] = []
    slow: list[int] = []
    place, mask, chooser = 0, (1 << bits) - 1, random.Random(1)
    for _ in range(1 << (bits - 1)):
        places.append(place)
        place = (5 * place + 1) & mask
    where = {place: at for at, place in enumerate(places)}
    while len(slow) < 1 << (bits - 3):
        rest = number = chooser.getrandbits(bits + 10)
        place = number & mask
        while rest and place in where:
            rest >>= 5
            place = (place * 5 + rest + 1) & mask
        if where.get(place, len(places)) < len(places) // 3:
            slow.append(number)
    return places + slow


@pytest.mark.slow
def test_keys_that_were_chosen_to_be_slow_are_refused_by_the_clock() -> None:
    """Integers whose hashes differ and which are slow all the same are refused when their time is used up."""
    keys = chain(16)
    pack = load_msgpack().packer().pack
    data = struct.pack(">BI", 0xDF, len(keys)) + b"".join(pack(key) + b"\xc0" for key in keys)
    for form in (data, memoryview(data)):
        with pytest.raises(ProtocolError, match="chosen to be slow"):
            Codec(clock=time.thread_time_ns).decode(form)
    rows = [{"n": at, "x": at / 7} for at in range(20_000)]
    for honest in ({at * 7: None for at in range(100_000)}, set(range(0, 500_000, 5)), rows):
        assert Codec(clock=time.thread_time_ns).decode(Codec().encode(honest)) == honest


def test_honest_dicts_of_any_size_pass_the_guard(packing: Packing) -> None:
    """A hundred thousand keys with hashes of their own are decoded, with the guard and without it."""
    codec = Codec(packing=packing)
    tuples = {(at, str(at)): at for at in range(5000)}
    for value in (tuples, set(tuples), {at: at for at in range(20_000)}):
        assert codec.decode(codec.encode(value)) == value


def test_integers_and_decimals_beyond_the_limits_are_refused_by_the_sender(packing: Packing) -> None:
    """What the receiver would refuse is a MarshalError with the name of the limit."""
    from decimal import Decimal
    from fractions import Fraction

    codec = Codec(packing=packing)
    for value, limit in (
        (1 << 600_000, "integer_bytes"), (Decimal("1E+9999999"), "decimal_exponent"),
        (Decimal("0E-99999999"), "decimal_exponent"), (Decimal("1" * 200_000), "decimal_digits"),
        (Fraction(1, 1 << 10_000), "fraction_bytes"),
    ):  # fmt: skip
        with pytest.raises(MarshalError, match=limit):
            codec.encode([value])


VALID = [Codec(registry=REGISTRY, outbound=lambda value: value).encode(value) for value in SAMPLES.values()]  # type: ignore[arg-type, return-value]  # only a Reference gets there


@given(st.binary(max_size=40) | st.sampled_from(VALID), st.integers(0, 60), st.binary(max_size=6))
def test_any_bytes_are_decoded_or_refused(data: bytes, at: int, injury: bytes) -> None:
    """Random bytes, and good ones with a random injury, give a value, a ProtocolError or a MarshalError."""
    hostile = data[:at] + injury + data[at + len(injury) :]
    for pure in (False, True):
        with contextlib.suppress(ProtocolError, MarshalError):
            Codec(registry=REGISTRY, packing=load_msgpack(pure=pure)).decode(hostile)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("guarded", [False, True])
def test_buffer_is_named_once(kind: int, guarded: bool) -> None:
    """A message that names one long buffer often would be copied often; the codec goes on, and so does a restart."""
    buffer = memoryview(bytes(20_000))
    once = leaf(5, struct.pack(">BH", kind, 0))
    many = Codec().encode(1 << 80) * 1500 if guarded else b""
    codec = Codec(clock=time.thread_time_ns)
    head = struct.pack(">BI", 0xDD, (1500 if guarded else 0) + 1)
    for _ in range(2):
        assert codec.decode(head + once + many, [buffer])[0] == bytes(buffer)
    with pytest.raises(ProtocolError, match="twice"):
        codec.decode(b"\x92" + once + once, [buffer])
