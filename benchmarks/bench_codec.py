"""What does the codec cost? Encode and decode of each kind of value, against pickle, msgspec and bare msgpack.

Read it with one thing in mind: pickle runs code on arrival and msgspec knows neither tuples nor sets apart from lists
here. They are what others use between processes, not equivalents.
"""

from __future__ import annotations

import datetime
import decimal
import pickle
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from benchmarks.harness import NotHere, Table, compare
from cloister.wire.packing import load_msgpack
from cloister.wire.registry import Registry
from cloister.wire.values import Codec

REGISTRY = Registry()


@REGISTRY.register
@dataclass
class Point:
    """What a dataclass costs."""

    x: float
    y: float
    name: str


def values() -> dict[str, Any]:
    """Give a value of each kind, by name."""
    now = datetime.datetime(2026, 11, 21, 12, 30, tzinfo=datetime.UTC)
    found: dict[str, Any] = {
        "call [7, 3, 'add', [1], {}]": [7, 3, "add", [1], {}],
        "call without keywords": [7, 3, "add", [1], None, None],
        "1,000 ints": list(range(1000)),
        "1,000 floats": [at * 0.37 for at in range(1000)],
        "1,000 strs": [f"name {at}" for at in range(1000)],
        "100 dicts of 3": [{"id": at, "name": f"n{at}", "price": at * 0.5} for at in range(100)],
        "100 tuples of 3": [(at, f"n{at}", at * 0.5) for at in range(100)],
        "set of 1,000": set(range(1000)),
        "100 datetimes": [now + datetime.timedelta(at) for at in range(100)],
        "100 decimals": [decimal.Decimal(at) / 7 for at in range(100)],
        "100 uuids": [uuid.UUID(int=at << 64) for at in range(100)],
        "100 dataclasses": [Point(at, 2.0, "p") for at in range(100)],
        "4 KiB bytes": bytes(4096),
        "4 KiB bytearray": bytearray(4096),
        "1 MiB bytes": bytes(1 << 20),
    }
    try:
        import numpy
    except ImportError:
        return found
    return found | {"1,000 float64 array": numpy.arange(1000.0), "1 MiB float64 array": numpy.arange(131_072.0)}


def contestants(value: Any) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Give by name how each one encodes and decodes `value`; those that can't are left out."""
    found: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    dumped = pickle.dumps(value, 5)
    found["pickle"] = (lambda: pickle.dumps(value, 5), lambda: pickle.loads(dumped))
    for name, pure in (("cloister", False), ("cloister, pure Python", True)):
        codec = Codec(registry=REGISTRY, packing=load_msgpack(pure=pure))
        made: list[Any] = []
        encoded = codec.encode(value, made)
        views = [memoryview(bytes(each)) for each in made]

        def encode(codec: Codec = codec) -> object:
            return codec.encode(value, [])

        def decode(codec: Codec = codec, encoded: bytes = encoded, views: list[memoryview] = views) -> object:
            return codec.decode(encoded, views)

        found[name] = (encode, decode)
    pack = msgpack.Packer().pack
    try:
        packed = pack(value)
    except (TypeError, ValueError):
        pass
    else:
        found["bare msgpack"] = (lambda: pack(value), lambda: msgpack.unpackb(packed, strict_map_key=False))
    try:
        import msgspec
    except ImportError:
        return found
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(type(value))
    try:
        spelled = encoder.encode(value)
        decoder.decode(spelled)
    except (TypeError, ValueError):
        return found
    found["msgspec"] = (lambda: encoder.encode(value), lambda: decoder.decode(spelled))
    return found


def run() -> Iterator[Table]:
    """Measure each kind of value, each way."""
    if not load_msgpack().compiled:
        raise NotHere("msgpack's compiled implementation; the comparison would be of the pure one alone")
    for name, value in values().items():
        ways = contestants(value)
        for direction, word in ((0, "encode"), (1, "decode")):
            operations = {who: both[direction] for who, both in ways.items()}
            yield compare(f"{word}: {name}", operations, floor="pickle", rounds=7, round_s=0.01, sample_us=20)
