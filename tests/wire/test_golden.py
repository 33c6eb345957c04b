"""The bytes of every kind of value and of frames, as they were first sent: a change here is a new protocol version.

golden.json is made on purpose, by ``python -m tests.wire.test_golden``, and for no other reason than a new kind or a
new version of the protocol.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloister.wire.frames import FrameDecoder, serialize
from cloister.wire.packing import Packing, load_msgpack
from cloister.wire.values import Codec
from cloister.wire.version import PROTOCOL_VERSION
from tests.wire.equality import same
from tests.wire.samples import REGISTRY, SAMPLES

PATH = Path(__file__).with_name("golden.json")
GOLDEN: dict[str, Any] = (
    json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"version": 0, "values": {}, "frames": {}}
)
FRAMES = {
    "empty": (1, b"", [], 0),
    "call": (1, bytes.fromhex("960703a3616464910180c0"), [], 0),
    "with buffers": (2, b"\xc7\x03\x05\x00\x00\x00", [b"abc", b"", b"defg"], 1),
}


def codec(packing: Packing) -> Codec:
    """Give a codec that knows the samples' types."""
    return Codec(registry=REGISTRY, outbound=lambda value: value, packing=packing)  # type: ignore[arg-type, return-value]  # only a Reference gets there


@pytest.mark.parametrize("name", SAMPLES)
def test_a_value_has_the_bytes_that_it_always_had(packing: Packing, name: str) -> None:
    """Each kind of value is encoded to its golden bytes, and decoded from them, by both implementations."""
    golden = bytes.fromhex(GOLDEN["values"][name])
    assert codec(packing).encode(SAMPLES[name]) == golden
    assert same(codec(packing).decode(golden), SAMPLES[name])


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_has_the_bytes_that_it_always_had(name: str) -> None:
    """Each kind of frame has its golden bytes, and is read from them."""
    kind, body, buffers, flags = FRAMES[name]
    golden = bytes.fromhex(GOLDEN["frames"][name])
    assert b"".join(serialize(kind, body, buffers, flags)) == golden
    decoder = FrameDecoder()
    decoder.feed(golden)
    frame = decoder.next_frame()
    assert frame is not None
    assert (frame.kind, bytes(frame.body), [bytes(each) for each in frame.buffers], frame.flags) == FRAMES[name]


def test_the_golden_bytes_are_those_of_this_version() -> None:
    """The protocol version and its golden bytes change together, and nothing in the file is left over."""
    assert GOLDEN["version"] == PROTOCOL_VERSION
    assert set(GOLDEN["values"]) == set(SAMPLES)
    assert set(GOLDEN["frames"]) == set(FRAMES)


def write() -> None:
    """Write golden.json."""
    encode = codec(load_msgpack()).encode
    made = {
        "version": PROTOCOL_VERSION,
        "values": {name: encode(value).hex() for name, value in SAMPLES.items()},
        "frames": {name: b"".join(serialize(*parts)).hex() for name, parts in FRAMES.items()},
    }
    PATH.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
