"""Frames: bytes of a frame both ways, in any pieces, and every lie that a header can tell."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.frames import HEADER_SIZE, Frame, FrameDecoder, parse, serialize
from cloister.wire.limits import WireLimits

SMALL = WireLimits(frame_bytes=1000, message_bytes=100, buffers=3)


def joined(*args: object, **options: object) -> bytes:
    """Give a whole frame."""
    return b"".join(serialize(*args, **options))  # type: ignore[arg-type]  # passed through


def decoded(data: bytes, step: int, limits: WireLimits = SMALL) -> list[tuple[int, int, bytes, list[bytes]]]:
    """Give the frames of `data` delivered `step` bytes at a time, as plain values."""
    decoder, frames = FrameDecoder(limits), []
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
        while (frame := decoder.next_frame()) is not None:
            frames.append((frame.kind, frame.flags, bytes(frame.body), [bytes(each) for each in frame.buffers]))
    decoder.finish()
    return frames


def test_a_frame_has_the_documented_bytes() -> None:
    """The header is length, kind, flags and number of buffers, little-endian; then table, message, buffers."""
    assert joined(1, b"ab") == bytes.fromhex("02000000 01 00 0000") + b"ab"
    assert joined(2, b"ab", [b"xyz", b""], flags=1) == bytes.fromhex("0d000000 02 01 0200 03000000 00000000") + b"abxyz"


def test_a_small_frame_is_one_piece_and_a_large_one_is_not_copied() -> None:
    """A small frame is one bytes object; a large body and large buffers are handed over as they are."""
    assert serialize(1, b"x") == [joined(1, b"x")]
    body, buffer = bytes(100_000), bytearray(100_000)
    assert serialize(1, body)[1] is body
    assert serialize(1, b"x", [buffer])[2] is buffer


frames = st.lists(
    st.tuples(
        st.integers(1, 255), st.integers(0, 1), st.binary(max_size=100), st.lists(st.binary(max_size=200), max_size=3)
    ),
    max_size=6,
)


@given(frames, st.integers(1, 50))
def test_frames_arrive_as_they_were_sent_whatever_the_pieces(
    sent: list[tuple[int, int, bytes, list[bytes]]], step: int
) -> None:
    """S30: any frames, one after the other, delivered byte by byte or in pieces of any size, are the frames again."""
    stream = b"".join(joined(kind, body, buffers, flags) for kind, flags, body, buffers in sent)
    assert decoded(stream, step) == sent
    assert decoded(stream, max(1, len(stream))) == sent
    assert decoded(stream, 1) == sent


@given(frames, st.lists(st.integers(1, 60), min_size=1))
def test_one_read_is_taken_as_it_would_be_fed(
    sent: list[tuple[int, int, bytes, list[bytes]]], pieces: list[int]
) -> None:
    """`take` gives the first frame that `feed` and `next_frame` would have given, whatever was read before."""
    stream = b"".join(joined(kind, body, buffers, flags) for kind, flags, body, buffers in sent)
    decoder, found, at = FrameDecoder(SMALL), [], 0
    for size in [*pieces, len(stream) + 1]:
        frame = decoder.take(stream[at : at + size])
        while frame is not None:
            found.append((frame.kind, frame.flags, bytes(frame.body), [bytes(each) for each in frame.buffers]))
            frame = decoder.next_frame()
        at += size
    decoder.finish()
    assert found == sent
    with pytest.raises(ProtocolError, match="kind 0"):
        decoder.take(bytes(8))
    with pytest.raises(ProtocolError, match="kind 0"):
        decoder.take(joined(1, b"good"))


def test_the_short_way_takes_one_whole_plain_frame_and_nothing_else() -> None:
    """`parse` gives the frame of a read that holds exactly one, and None for anything that needs a decoder."""
    data = joined(3, b"body", flags=1)
    assert parse(data) == Frame(3, 1, b"body", ())
    others = [b"", data[:-1], data + b"x", data[:7], joined(1, b"", [b"x"]), joined(1, bytes(70_000))]
    others += [bytes(8), b"\0\0\0\0\x01\x80\0\0"]
    assert [parse(other) for other in others] == [None] * len(others)
    assert parse(joined(1, bytes(101)), SMALL) is None


LIES = {
    "length beyond the limit": struct.pack("<IBBH", 1001, 1, 0, 1),
    "largest length": struct.pack("<IBBH", 2**32 - 1, 1, 0, 0),
    "message beyond the limit": struct.pack("<IBBH", 101, 1, 0, 0),
    "kind 0": bytes(8),
    "unknown flag": struct.pack("<IBBH", 0, 1, 2, 0),
    "too many buffers": struct.pack("<IBBH", 100, 1, 0, 4),
    "no room for the table": struct.pack("<IBBH", 7, 1, 0, 2),
    "buffers longer than the frame": struct.pack("<IBBHI", 10, 1, 0, 1, 7),
    "largest buffers": struct.pack("<IBBH3I", 100, 1, 0, 3, *[2**32 - 1] * 3),
    "a message hidden behind a buffer": struct.pack("<IBBHI", 1000, 1, 0, 1, 5),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_lying_header_is_refused_before_its_body_arrives(lie: bytes, step: int) -> None:
    """A header that exceeds a limit or contradicts itself is a ProtocolError at once, and for ever after."""
    with pytest.raises(ProtocolError, match="bad frame"):
        decoded(lie, step)
    decoder = FrameDecoder(SMALL)
    decoder.feed(lie)
    with pytest.raises(ProtocolError):
        decoder.next_frame()
    decoder.feed(joined(1, b"good"))
    with pytest.raises(ProtocolError, match="bad frame"):
        decoder.next_frame()
    with pytest.raises(ProtocolError, match="bad frame"):
        decoder.finish()
    assert decoder.wanted == HEADER_SIZE


def test_good_frames_before_a_bad_one_are_delivered() -> None:
    """What came before the damage is good; the damage is told when it is reached."""
    decoder = FrameDecoder(SMALL)
    decoder.feed(joined(1, b"a") + joined(2, b"b") + bytes(8))
    assert [decoder.next_frame(), decoder.next_frame()] == [Frame(1, 0, b"a"), Frame(2, 0, b"b")]
    with pytest.raises(ProtocolError, match="kind 0"):
        decoder.next_frame()


def test_an_announced_length_takes_no_memory() -> None:
    """S26: a header that promises 256 MiB makes the decoder hold what has arrived, and no more."""
    tracemalloc.start()
    try:
        decoder = FrameDecoder()
        decoder.feed(struct.pack("<IBBHI", 256 * 1024 * 1024, 1, 0, 1, 255 * 1024 * 1024) + b"x" * 100)
        assert decoder.next_frame() is None
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [1, 7, 8, 11, 13])
def test_the_end_of_the_stream_inside_a_frame_is_an_error(cut: int) -> None:
    """A truncated frame is told at the end of the stream; an end between frames is none."""
    decoder = FrameDecoder()
    decoder.feed(joined(1, b"whole") + joined(1, b"ab", [b"cd"])[:cut])
    assert decoder.next_frame() == Frame(1, 0, b"whole")
    assert decoder.next_frame() is None
    for _ in range(2):
        with pytest.raises(ProtocolError, match="inside a frame"):
            decoder.finish()
    FrameDecoder().finish()


def test_wanted_says_how_much_completes_the_frame() -> None:
    """Reading exactly what is wanted, a reader never reads into the next frame."""
    decoder = FrameDecoder()
    data = joined(1, b"ab", [b"xyz"])
    assert decoder.wanted == HEADER_SIZE
    decoder.feed(data[:3])
    assert decoder.wanted == HEADER_SIZE - 3
    decoder.feed(data[3:8])
    assert decoder.wanted == len(data) - 8
    decoder.feed(data[8:])
    assert decoder.wanted == 0
    assert decoder.next_frame() is not None
    assert decoder.wanted == HEADER_SIZE


def test_the_parts_of_a_received_frame_are_read_only() -> None:
    """What a frame shows can't be changed by one who received it, whichever way it came in."""
    large = joined(1, b"m", [bytes(100_000)])
    for stream in (large, large + joined(1, b"n")):
        decoder = FrameDecoder()
        decoder.feed(stream)
        frame = decoder.next_frame()
        assert frame is not None
        assert [view.readonly for view in frame.buffers] == [True]
        assert bytes(frame.body) == b"m"


def test_many_small_frames_take_linear_time() -> None:
    """100,000 frames in one feed are taken one by one without moving the rest each time."""
    decoder = FrameDecoder()
    decoder.feed(joined(1, b"x" * 100) * 100_000)
    count = 0
    while decoder.next_frame() is not None:
        count += 1
    assert count == 100_000


def test_what_is_too_large_to_send_is_refused_before_a_byte_is_made() -> None:
    """S26: a message, a number of buffers or a frame beyond the limits is a MarshalError that names the limit."""
    with pytest.raises(MarshalError, match="message_bytes"):
        serialize(1, bytes(101), limits=SMALL)
    with pytest.raises(MarshalError, match="limit buffers"):
        serialize(1, b"", [b""] * 4, limits=SMALL)
    with pytest.raises(MarshalError, match="frame_bytes"):
        serialize(1, b"", [bytes(1000)], limits=SMALL)
    assert decoded(joined(1, bytes(100), [bytes(892)], limits=SMALL), 9) == [(1, 0, bytes(100), [bytes(892)])]
    for buffers in ([], [b""]):
        with pytest.raises(ValueError, match="kind 256"):
            serialize(256, b"", buffers)
