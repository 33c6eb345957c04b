"""What every pipe does, whatever carries it: named, .NET's naming, inherited, byte by byte in memory, and awaited."""

from __future__ import annotations

import random
import struct
import time
from typing import Any

import pytest

from cloister.errors import (
    MessageTooLarge,
    NotConnected,
    PipeCancelled,
    PipeClosed,
    PipeTimeout,
)
from tests.pipes.ends import Background, Workshop

TEXTS = ["", "plain", "한국어 파이프", "😀🏴‍☠️", "\0", "a\0b", "ü" * 300]


def wait_until_reading(pipe: Any, kind: str) -> None:
    """Return when another thread waits inside of a read or a write of this pipe, which a cancel can then meet."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if kind == "memory":
            waiting = bool(pipe._transport._changed._waiters)
        elif kind in ("asyncio", "uvloop"):
            waiting = bool(pipe._waiters._waiting)
        else:
            waiting = pipe._transport._gate._inside > 0
        if waiting:
            return
        time.sleep(0.001)
    pytest.fail("nobody waits")


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("framing", ["length", "line", "stream-string"])
def test_strings_arrive_as_they_were_sent_both_ways(workshop: Workshop, framing: str, encoding: str) -> None:
    """S29: Korean text, emoji, a lone NUL and the empty string make the round trip in every framing."""
    if framing == "line" and encoding == "utf-16":
        encoding = "utf-16-be"
    left, right = workshop.make(framing=framing, encoding=encoding)
    for text in TEXTS:
        left.write_string(text)
        assert right.read_string(timeout=5) == text
        right.write_string(text)
        assert left.read_string(timeout=5) == text


def test_two_quick_writes_are_two_reads(workshop: Workshop) -> None:
    """S30: messages written without a pause between them are read one by one, also byte by byte."""
    left, right = workshop.make()
    for number in range(20):
        left.write_message(b"%d" % number * number)
    assert [right.read_message(5) for _ in range(20)] == [b"%d" % number * number for number in range(20)]


def test_requests_interleave_both_ways(workshop: Workshop) -> None:
    """S12: 1,000 messages each way at the same time, none lost, in order."""
    left, right = workshop.make()
    count = 1000

    def send(end: Any, mark: bytes) -> None:
        for number in range(count):
            end.write_message(mark + b"%d" % number, timeout=10)

    def receive(end: Any) -> list[bytes]:
        return [end.read_message(10) for _ in range(count)]

    threads = [Background(send, left, b"l"), Background(send, right, b"r")]
    at_left, at_right = Background(receive, left), Background(receive, right)
    assert at_right.result() == [b"l%d" % number for number in range(count)]
    assert at_left.result() == [b"r%d" % number for number in range(count)]
    for thread in threads:
        thread.result()


def test_a_message_larger_than_any_buffer_arrives(workshop: Workshop) -> None:
    """A message that fits in no buffer of the system arrives whole."""
    left, right = workshop.make()
    message = random.Random(1).randbytes(workshop.more_than_fits)
    reader = Background(right.read_message, 10)
    left.write_message(memoryview(message), timeout=10)
    assert reader.result() == message


def test_iteration_ends_with_the_peer(workshop: Workshop) -> None:
    """Iterating gives every message and ends when the peer has closed between two."""
    left, right = workshop.make()
    for number in range(3):
        left.write_message(b"%d" % number)
    left.close()
    assert list(right) == [b"0", b"1", b"2"]


def test_iteration_raises_for_a_torn_message(workshop: Workshop) -> None:
    """Iterating raises when the peer has closed in the middle of a message."""
    left, right = workshop.make()
    left.write_message(b"whole")
    left.write_bytes(struct.pack("<I", 10) + b"half")
    left.close()
    messages = iter(right)
    assert next(messages) == b"whole"
    with pytest.raises(PipeClosed, match="in the middle of a message"):
        next(messages)


def test_bytes_pass_any_framing(workshop: Workshop) -> None:
    """Bytes are read as they come, up to the limit, and mix with messages."""
    left, right = workshop.make()
    left.write_bytes(b"hello")
    got = b""
    while len(got) < 5:
        piece = right.read_bytes(3, timeout=5)
        assert 1 <= len(piece) <= 3
        got += piece
    assert got == b"hello"
    left.write_message(b"then a message")
    assert right.read_message(5) == b"then a message"
    with pytest.raises(ValueError, match="limit"):
        right.read_bytes(0)


def test_raw_framing_reads_what_came(workshop: Workshop) -> None:
    """With framing 'raw' a message is what is there; text is refused, and so is an empty message."""
    left, right = workshop.make(framing="raw")
    left.write_message(b"abc")
    got = b""
    while len(got) < 3:
        got += right.read_message(5)
    assert got == b"abc"
    with pytest.raises(ValueError, match="raw"):
        right.read_string(0)
    with pytest.raises(ValueError, match="raw"):
        left.write_message(b"")


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "line", "stream-string"])
def test_a_message_of_the_limit_passes_and_one_byte_more_does_not(workshop: Workshop, framing: str) -> None:
    """S25, S26: the limit counts encoded bytes (an emoji is 4 in UTF-16), nothing is sent beyond it, and the next
    message is intact."""
    left, right = workshop.make(framing=framing, encoding="utf-16-le", max_message=8)
    left.write_string("😀😀")
    with pytest.raises(MessageTooLarge, match="10 bytes"):
        left.write_string("😀😀a")
    left.write_string("next")
    assert right.read_string(5) == "😀😀"
    assert right.read_string(5) == "next"
    with pytest.raises(PipeTimeout):
        right.read_bytes(timeout=0)


@pytest.mark.parametrize(
    ("framing", "rubbish"),
    [
        ("length", struct.pack("<I", 1000) + b"x" * 1000),
        ("stream-string", struct.pack(">H", 1000) + b"x" * 1000),
        ("line", b"x" * 1000 + b"\n"),
    ],
)
def test_the_reader_passes_over_what_is_too_large(workshop: Workshop, framing: str, rubbish: bytes) -> None:
    """S26: a peer's message beyond the limit is reported once and passed over; the next one is whole."""
    left, right = workshop.make(framing=framing, max_message=16)

    def write_both() -> None:
        left.write_bytes(rubbish, timeout=5)
        left.write_message(b"next", timeout=5)

    writer = Background(write_both)
    with pytest.raises(MessageTooLarge, match="16"):
        right.read_message(5)
    assert right.read_message(5) == b"next"
    writer.result()


def test_a_lying_length_ends_as_an_error(workshop: Workshop) -> None:
    """A header that announces 4 GiB is refused at once, not waited for."""
    left, right = workshop.make()
    left.write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(MessageTooLarge, match="4294967295"):
        right.read_message(5)


def test_what_is_no_text_is_reported_and_the_next_message_is_served(workshop: Workshop) -> None:
    """Bytes that are no text in the encoding raise UnicodeDecodeError, which holds them; the next message is read."""
    left, right = workshop.make()
    left.write_message(b"\xff\xfe")
    left.write_string("next")
    with pytest.raises(UnicodeDecodeError) as caught:
        right.read_string(5)
    assert caught.value.object == b"\xff\xfe"
    assert right.read_string(5) == "next"
    with pytest.raises(UnicodeEncodeError):
        left.write_string("\ud800")


# -- time and cancel --------------------------------------------------------------------------------------------------


def test_a_silent_peer_ends_the_read_at_its_time(workshop: Workshop) -> None:
    """S22: read_string(timeout=0.2) on silence ends after 0.2 to 0.3 s."""
    _, right = workshop.make()
    begin = time.monotonic()
    with pytest.raises(PipeTimeout):
        right.read_string(timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 0.3


def test_a_read_without_a_time_waits(workshop: Workshop) -> None:
    """S22: without a time limit a read waits for as long as it takes."""
    left, right = workshop.make()
    reader = Background(right.read_string)
    wait_until_reading(right, workshop.kind)
    left.write_string("at last")
    assert reader.result() == "at last"


def test_a_timeout_of_nothing_takes_only_what_is_there(workshop: Workshop) -> None:
    """A timeout of 0 does not wait, and takes what is there."""
    left, right = workshop.make()
    with pytest.raises(PipeTimeout):
        right.read_message(timeout=0)
    left.write_message(b"x", timeout=0)
    assert right.read_message(timeout=0) == b"x"


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_an_impossible_timeout_is_refused(workshop: Workshop, timeout: float) -> None:
    """A negative timeout and NaN raise ValueError, and nothing is sent or taken."""
    left, right = workshop.make()
    with pytest.raises(ValueError, match="timeout"):
        left.write_message(b"x", timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        right.read_message(timeout=timeout)


def test_the_four_outcomes_are_four_exceptions(workshop: Workshop) -> None:
    """S23: time-out, cancelled, peer closed and not connected differ, and "" is only an empty message."""
    left, right = workshop.make()
    left.write_string("")
    assert right.read_string(5) == ""
    with pytest.raises(PipeTimeout):
        right.read_string(timeout=0.01)
    reader = Background(right.read_string)
    wait_until_reading(right, workshop.kind)
    right.cancel()
    with pytest.raises(PipeCancelled):
        reader.result()
    left.close()
    with pytest.raises(PipeClosed):
        right.read_string(5)
    right.close()
    with pytest.raises(NotConnected):
        right.read_string(5)


def test_a_thousand_timeouts_lose_nothing(workshop: Workshop) -> None:
    """S24: after 1,000 reads that timed out, at random places of the stream, every message arrived whole and once."""
    left, right = workshop.make()
    chance = random.Random(24)
    messages = [chance.randbytes(chance.randrange(40)) for _ in range(300)]
    stream = b"".join(struct.pack("<I", len(message)) + message for message in messages)
    cuts = sorted(chance.choices(range(len(stream)), k=999))
    received, timeouts = [], 0
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        left.write_bytes(stream[start:end])
        while True:
            try:
                received.append(right.read_message(timeout=chance.random() / 2000))
            except PipeTimeout:
                timeouts += 1
                break
    assert timeouts == 1000
    assert received == messages


def test_a_write_to_a_peer_that_does_not_read_ends_and_is_never_torn(workshop: Workshop) -> None:
    """S27: a write ends at its time-out; the message that has begun goes on whole with the next write."""
    left, right = workshop.make()
    message = random.Random(27).randbytes(workshop.more_than_fits)
    begin = time.monotonic()
    with pytest.raises(PipeTimeout) as caught:
        left.write_message(message, timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 0.5
    assert caught.value.begun
    assert 0 < left.unsent < len(message)
    with pytest.raises(PipeTimeout) as caught:
        left.write_message(b"not begun", timeout=0.01)
    assert not caught.value.begun
    reader = Background(lambda: [right.read_message(10) for _ in range(2)])
    left.write_message(b"next", timeout=10)
    assert left.unsent == 0
    assert reader.result() == [message, b"next"]


def test_a_write_that_could_not_begin_sends_nothing(workshop: Workshop) -> None:
    """S27: where the way is full between two messages, the write that times out has sent nothing, and says so."""
    left, right = workshop.make()
    sent = 0
    with pytest.raises(PipeTimeout) as caught:  # noqa: PT012 - the count is the point
        while True:
            left.write_message(b"", timeout=0)
            sent += 1
    if caught.value.begun:  # a header can be cut where bytes go one by one
        Background(left.flush, 5)
        sent += 1
    assert [right.read_message(5) for _ in range(sent)] == [b""] * sent
    left.flush(5)
    with pytest.raises(PipeTimeout):
        right.read_message(timeout=0.01)


def test_the_rest_of_a_message_is_flushed(workshop: Workshop) -> None:
    """S27: flush() alone completes a message that has begun."""
    left, right = workshop.make()
    message = bytes(workshop.more_than_fits)
    with pytest.raises(PipeTimeout):
        left.write_message(message, timeout=0)
    reader = Background(right.read_message, 10)
    left.flush(timeout=10)
    assert left.unsent == 0
    assert reader.result() == message


def test_a_cancelled_write_is_never_torn(workshop: Workshop) -> None:
    """cancel() ends a write that waits, and leaves the pipe usable and the message whole."""
    left, right = workshop.make()
    message = bytes(workshop.more_than_fits)
    writer = Background(left.write_message, message)
    wait_until_reading(left, workshop.kind)
    while not left.unsent:
        time.sleep(0.001)
    time.sleep(0.02)  # until it waits for room; if it does not yet, the cancel meets it at its next wait
    left.cancel()
    with pytest.raises(PipeCancelled) as caught:
        writer.result()
    assert caught.value.begun
    reader = Background(right.read_message, 10)
    left.flush(10)
    assert reader.result() == message


def test_a_cancel_without_anybody_waiting_has_no_effect(workshop: Workshop) -> None:
    """cancel() ends what waits now; what begins later is not touched."""
    left, right = workshop.make()
    right.cancel()
    left.write_message(b"x")
    assert right.read_message(5) == b"x"


def test_a_close_ends_what_waits_on_this_side(workshop: Workshop) -> None:
    """close() in another thread ends a waiting read with PipeCancelled within 100 ms."""
    _, right = workshop.make()
    reader = Background(right.read_message)
    wait_until_reading(right, workshop.kind)
    begin = time.monotonic()
    right.close()
    with pytest.raises(PipeCancelled):
        reader.result()
    assert time.monotonic() - begin < 0.1
    right.close()
    assert right.closed


def test_a_close_also_ends_what_waits_for_its_turn(workshop: Workshop) -> None:
    """Reads and writes that another one kept waiting end with PipeCancelled too: the close came while they waited."""
    left, _ = workshop.make()
    with pytest.raises(PipeTimeout):
        left.write_message(bytes(workshop.more_than_fits), timeout=0)
    waiting = [Background(operation) for operation in [left.read_message] * 3 + [left.flush] * 3]
    wait_until_reading(left, workshop.kind)
    time.sleep(0.05)  # most are there by then; one that comes after the close is told that the pipe is closed
    left.close()
    outcomes = []
    for each in waiting:
        with pytest.raises((PipeCancelled, NotConnected)) as caught:
            each.result()
        outcomes.append(caught.type)
    assert outcomes.count(PipeCancelled) >= 5


def test_a_pipe_closed_here_gives_nothing_more(workshop: Workshop) -> None:
    """S23: after a close on this side every read is NotConnected, also where messages had been taken in already."""
    left, right = workshop.make()
    for message in (b"1", b"2"):
        left.write_message(message)
    assert right.read_message(5) == b"1"
    right.close()
    for read in (right.read_message, right.read_string, right.read_bytes):
        with pytest.raises(NotConnected):
            read(timeout=0)


def test_what_is_no_bytes_is_refused_before_a_byte_is_sent(workshop: Workshop) -> None:
    """A string and a number are errors of the caller; the next message is intact."""
    left, right = workshop.make()
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            left.write_message(wrong)
        with pytest.raises(TypeError):
            left.write_bytes(wrong)
    left.write_message(b"next")
    assert right.read_message(5) == b"next"


def test_a_reader_and_a_writer_are_cancelled_together(workshop: Workshop) -> None:
    """One cancel() ends a read and a write that wait at the same time, again and again."""
    left, right = workshop.make()
    with pytest.raises(PipeTimeout):
        left.write_message(bytes(workshop.more_than_fits), timeout=0)
    for _ in range(5):
        reader, writer = Background(left.read_message), Background(left.flush)
        deadline = time.monotonic() + 5
        ended = 0
        while ended < 2 and time.monotonic() < deadline:
            left.cancel()
            time.sleep(0.002)
            ended = sum(not each._thread.is_alive() for each in (reader, writer))
        for each in (reader, writer):
            with pytest.raises(PipeCancelled):
                each.result()
    assert right.read_bytes(timeout=5)


def test_readers_take_turns(workshop: Workshop) -> None:
    """Two that read at the same time get different messages; the second keeps its time limit."""
    left, right = workshop.make()
    first = Background(right.read_message)
    wait_until_reading(right, workshop.kind)
    with pytest.raises(PipeTimeout, match="another"):
        right.read_message(timeout=0.05)
    second = Background(right.read_message)
    left.write_message(b"1")
    left.write_message(b"2")
    assert {first.result(), second.result()} == {b"1", b"2"}


# -- ends -------------------------------------------------------------------------------------------------------------


def test_the_end_of_the_peer_is_seen_after_all_it_sent(workshop: Workshop) -> None:
    """What the peer sent before it closed is read first; the end stays the end."""
    left, right = workshop.make()
    left.write_message(b"last words")
    left.close()
    assert right.read_message(5) == b"last words"
    for _ in range(2):
        with pytest.raises(PipeClosed):
            right.read_message(5)


def test_a_message_cut_by_the_end_is_not_given(workshop: Workshop) -> None:
    """A message whose end never came is reported as cut, not given."""
    left, right = workshop.make()
    left.write_bytes(struct.pack("<I", 10) + b"half")
    left.close()
    with pytest.raises(PipeClosed, match="8 bytes"):
        right.read_message(5)


def test_writing_when_not_connected_raises(workshop: Workshop) -> None:
    """S28: a write to a peer that has gone raises PipeClosed, one on a closed pipe NotConnected."""
    left, right = workshop.make()
    right.close()
    with pytest.raises(PipeClosed):
        left.write_message(b"x")
    left.close()
    for write in (left.write_message, left.write_bytes):
        with pytest.raises(NotConnected):
            write(b"x")
    with pytest.raises(NotConnected):
        left.write_bytes(b"")
    with pytest.raises(NotConnected):
        left.flush()


def test_a_peer_that_leaves_ends_a_waiting_write(workshop: Workshop) -> None:
    """A write that waits for room ends with PipeClosed when the peer goes."""
    left, right = workshop.make()
    writer = Background(left.write_message, bytes(workshop.more_than_fits))
    wait_until_reading(left, workshop.kind)
    right.close()
    with pytest.raises(PipeClosed):
        writer.result()


def test_unread_bytes_of_ours_do_not_hide_what_the_peer_sent(workshop: Workshop) -> None:
    """A peer that closes without having read everything is an end like any other, after all that it sent."""
    left, right = workshop.make()
    right.write_message(b"never read")
    left.write_message(b"last words")
    left.close()
    assert right.read_message(5) == b"last words"
    with pytest.raises(PipeClosed):
        right.read_message(5)


def test_a_pipe_says_what_it_is(workshop: Workshop) -> None:
    """repr() and the properties never wait, also after a close."""
    left, _ = workshop.make(max_message=100)
    assert left.max_message == 100
    assert "open" in repr(left._pipe if workshop.kind in ("asyncio", "uvloop") else left)
    peer = left.peer
    left.close()
    assert left.closed
    assert left.peer == peer


def test_many_threads_write_whole_messages(workshop: Workshop) -> None:
    """Messages of several writers never mix."""
    left, right = workshop.make()
    count = 50 if workshop.kind != "memory" else 20

    def write(letter: bytes) -> None:
        for _ in range(count):
            left.write_message(letter * 500, timeout=10)

    writers = [Background(write, letter) for letter in (b"a", b"b", b"c")]
    messages = [right.read_message(10) for _ in range(3 * count)]
    for writer in writers:
        writer.result()
    assert sorted(messages) == [letter * 500 for letter in (b"a", b"b", b"c") for _ in range(count)]
