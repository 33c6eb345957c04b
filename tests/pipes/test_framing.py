"""Messages in a stream, without any input or output."""

from __future__ import annotations

import struct
from array import array
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cloister.errors import MessageTooLarge
from cloister.pipes.framing import Framing, make_framing

NAMES = ["length", "line", "stream-string"]


def make(name: Any, encoding: str = "utf-8", max_message: int = 1000) -> Framing:
    """A framing with the options that the tests leave alone."""
    return make_framing(name, encoding=encoding, max_message=max_message)


def all_messages(framing: Framing) -> list[bytes]:
    """What can be had without more bytes."""
    return list(iter(framing.next_message, None))


@given(
    name=st.sampled_from(NAMES),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"]),
    texts=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)),
    sizes=st.lists(st.integers(1, 50), min_size=1),
)
def test_messages_survive_any_cut(name: str, encoding: str, texts: list[str], sizes: list[int]) -> None:
    """S30: however the stream is cut, each message is given whole, once and in order."""
    framing = make(name, encoding)
    stream = b"".join(framing.frame(text.encode(encoding)) for text in texts)
    received: list[str] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        framing.feed(stream[at : at + size])
        received += [message.decode(encoding) for message in all_messages(framing)]
        at, turn = at + size, turn + 1
    # A byte order mark at the start of a stream of lines is taken for what it is.
    expected = [texts[0].removeprefix("\ufeff"), *texts[1:]] if name == "line" and texts else texts
    assert received == expected
    assert framing.unfinished == 0


@given(name=st.sampled_from(NAMES), data=st.binary(max_size=300), size=st.integers(1, 300))
def test_any_bytes_are_messages_or_refused(name: str, data: bytes, size: int) -> None:
    """Random bytes give messages or MessageTooLarge, nothing else, and never more is kept than came."""
    framing = make(name, max_message=50)
    for at in range(0, len(data), size):
        framing.feed(data[at : at + size])
        while True:
            try:
                message = framing.next_message()
            except MessageTooLarge:
                continue
            if message is None:
                break
            assert len(message) <= 50
        assert len(framing.take_bytes(0)) == 0
        assert len(framing._buffer) <= 50 + 4 + size


@pytest.mark.parametrize("name", NAMES)
def test_a_message_of_the_limit_passes_both_ways(name: str) -> None:
    """S25: the limit itself passes; one byte more is refused before it is framed, and with it the next is served."""
    framing = make(name, max_message=10)
    wide = make(name)
    framing.feed(wide.frame(b"x" * 10) + wide.frame(b"x" * 11) + wide.frame(b"next"))
    assert framing.next_message() == b"x" * 10
    with pytest.raises(MessageTooLarge, match="11"):
        framing.next_message()
    assert framing.next_message() == b"next"
    with pytest.raises(MessageTooLarge, match="11 bytes"):
        framing.frame(b"x" * 11)


@pytest.mark.parametrize("name", ["length", "stream-string"])
def test_a_refused_message_is_passed_over_byte_by_byte(name: str) -> None:
    """S26: nothing of a message that is too large is kept, and `unfinished` tells that its end has not come."""
    framing = make(name, max_message=10)
    stream = make(name).frame(b"x" * 500) + framing.frame(b"next")
    refusals, messages, most = 0, [], 0
    for at in range(len(stream)):
        framing.feed(stream[at : at + 1])
        most = max(most, len(framing._buffer))
        try:
            messages += all_messages(framing)
        except MessageTooLarge:
            refusals += 1
            assert framing.unfinished == 500
            assert framing.wanted == 500
    assert (refusals, messages) == (1, [b"next"])
    assert most <= 14


def test_our_header_is_four_bytes_little_endian() -> None:
    """The bytes of ours, and of .NET's sample, are what the table says."""
    assert make("length").frame(b"abc") == b"\x03\0\0\0abc"
    assert make("stream-string", "utf-16-le").frame("é".encode("utf-16-le")) == b"\0\x02\xe9\0"
    assert make("line", "utf-16-be").frame(b"\0a") == b"\0a\0\n"
    assert make("raw").frame(bytearray(b"abc")) == b"abc"


def test_wanted_never_passes_the_end_of_a_message() -> None:
    """A reader that asks for exactly `wanted` bytes stops at the end of each message."""
    stream = make("length").frame(b"first") + make("length").frame(b"") + make("length").frame(b"second")
    framing, messages, at = make("length"), [], 0
    while at < len(stream):
        size = framing.wanted
        framing.feed(stream[at : at + size])
        at += size
        found = all_messages(framing)
        assert len(found) <= 1
        messages += found
    assert messages == [b"first", b"", b"second"]


def test_stream_strings_end_at_64_kib() -> None:
    """.NET's sample cuts a longer string silently; here it is refused."""
    framing = make("stream-string", max_message=100_000)
    assert framing.max_message == 65_535
    with pytest.raises(MessageTooLarge):
        framing.frame(bytes(65_536))


def test_lines_end_with_either_newline() -> None:
    """A carriage return before the newline is taken off, one elsewhere is kept."""
    framing = make("line")
    framing.feed(b"unix\nwindows\r\na\rb\n\r\n")
    assert all_messages(framing) == [b"unix", b"windows", b"a\rb", b""]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-be"])
def test_a_byte_order_mark_is_taken_off_the_first_line(encoding: str) -> None:
    """.NET's writers begin a stream with a byte order mark; it is not a part of the first line, but of later ones."""
    framing = make("line", encoding)
    framing.feed("\ufefffirst\n\ufeffsecond\n".encode(encoding))
    assert [line.decode(encoding) for line in all_messages(framing)] == ["first", "\ufeffsecond"]


def test_a_newline_is_found_at_whole_characters_only() -> None:
    """In UTF-16 the bytes of a newline may lie across two characters: that is no newline."""
    text = "਀\u0a0a਍\u0d00"  # the bytes 0A 00 and 0D 00 lie across their borders
    framing = make("line", "utf-16-be")
    framing.feed(framing.frame(text.encode("utf-16-be")))
    assert [line.decode("utf-16-be") for line in all_messages(framing)] == [text]


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\n"])
def test_a_line_holds_no_line_break(text: str) -> None:
    """A message with a line break in it can't be a line: refused, with the way out."""
    with pytest.raises(ValueError, match="length"):
        make("line").frame(text.encode())


def test_half_a_character_is_no_line() -> None:
    """Bytes that are no whole code units would shift all that follows."""
    with pytest.raises(ValueError, match="multiple of 2"):
        make("line", "utf-16-le").frame(b"abc")


def test_an_endless_line_is_refused_once_and_never_kept() -> None:
    """S26: a line without an end is reported once, nothing of it is kept, and the next line is whole."""
    framing = make("line", "utf-16-le", max_message=20)
    refusals = 0
    for _ in range(100):
        framing.feed(b"x\0x\0x\0x")  # odd on purpose: the next piece brings the other half
        framing.feed(b"\0")
        try:
            assert framing.next_message() is None
        except MessageTooLarge:
            refusals += 1
        assert len(framing._buffer) < 40
    framing.feed("\nnext\n".encode("utf-16-le"))
    assert refusals == 1
    assert all_messages(framing) == ["next".encode("utf-16-le")]


def test_a_line_encoding_needs_a_plain_newline() -> None:
    """An encoding that writes a mark before every text can't be cut into lines."""
    with pytest.raises(ValueError, match="utf-16-le"):
        make("line", "utf-16")
    assert make("line", "latin-1").frame("ü".encode("latin-1")) == b"\xfc\n"


def test_bytes_can_be_taken_from_any_framing() -> None:
    """`take_bytes` gives what came, and the messages go on behind it."""
    for name in [*NAMES, "raw"]:
        framing = make(name)
        framing.feed(b"hello" + framing.frame(b"message"))
        assert framing.take_bytes(3) + framing.take_bytes(2) == b"hello"
        assert framing.next_message() == b"message"
        assert framing.take_bytes(10) == b""


def test_raw_messages_are_cut_at_the_limit() -> None:
    """A raw message is what came, up to the limit; there is never a part of one left."""
    framing = make("raw", max_message=3)
    framing.feed(b"abcde")
    assert framing.unfinished == 0
    assert all_messages(framing) == [b"abc", b"de"]


def test_sizes_count_bytes_not_items() -> None:
    """A view of larger items is measured in bytes."""
    numbers = memoryview(struct.pack("3q", 1, 2, 3)).cast("q")
    assert make("length").frame(numbers)[:4] == b"\x18\0\0\0"
    with pytest.raises(MessageTooLarge):
        make("length", max_message=20).frame(numbers)
    assert make("length").frame(array("q", [1, 2, 3]))[:4] == b"\x18\0\0\0"  # type: ignore[arg-type]  # a buffer too


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "json"}, ValueError),
        ({"name": "length", "max_message": 0}, ValueError),
        ({"name": "length", "encoding": "utf-99"}, LookupError),
        ({"name": "length", "encoding": "base64"}, LookupError),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """An unknown framing or encoding and an impossible limit are errors before anything is opened."""
    with pytest.raises(error):
        make(**options)


@given(sizes=st.lists(st.sampled_from([1, 7, 100, 4095, 4096, 5000, 70_000]), min_size=1, max_size=20))
def test_a_large_message_survives_any_cut(sizes: list[int]) -> None:
    """A message that is kept in pieces is joined whole, with what comes before and after it."""
    framing = make("length", max_message=1_000_000)
    large = bytes(range(256)) * 600
    stream = framing.frame(b"before") + framing.frame(large) + framing.frame(b"after")
    messages: list[bytes] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)] if turn < 2000 else 70_000
        message = framing.next_after(stream[at : at + size])
        while message is not None:
            messages.append(message)
            message = framing.next_message()
        at, turn = at + size, turn + 1
    assert messages == [b"before", large, b"after"]
    assert framing.unfinished == 0


def test_a_large_message_in_crumbs_is_a_handful_of_objects() -> None:
    """A peer that sends a large message byte by byte can't make us keep an object for each."""
    framing = make("length", max_message=1_000_000)
    framing.feed(struct.pack("<I", 200_000))
    for _ in range(199_999):
        framing.feed(b"x")
        assert framing.next_message() is None
    assert len(framing._pieces) <= 2  # type: ignore[attr-defined]  # of this framing
    assert framing.unfinished + framing.wanted in (200_000, 200_004)
    framing.feed(b"x")
    assert framing.next_message() == b"x" * 200_000


def test_bytes_can_be_taken_out_of_a_large_message() -> None:
    """`take_bytes` in the middle of a large message gives the stream as it came, header and all."""
    framing = make("length", max_message=1_000_000)
    stream = framing.frame(bytes(range(256)) * 600)
    assert framing.next_after(stream[:100_000]) is None
    assert framing.next_after(stream[100_000:110_000]) is None
    assert framing.take_bytes(50_000) == stream[:50_000]
    assert framing.take_bytes(100_000) == stream[50_000:110_000]


def test_a_large_message_goes_out_in_two_parts_without_a_copy() -> None:
    """The parts of a large message are the bytes of the whole; the second looks into the message itself."""
    framing = make("length", max_message=1_000_000)
    message = bytearray(range(256)) * 600
    head, rest = framing.frame_parts(message)
    assert rest is not None
    assert head + rest == framing.frame(message)
    assert rest.obj is message
    assert framing.frame_parts(b"small") == (framing.frame(b"small"), None)
