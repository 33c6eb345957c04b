"""`cloister.lanes.rows`: several short messages in one frame, and what is none."""

from __future__ import annotations

import os
from typing import Any

import pytest

from cloister.errors import ProtocolError
from cloister.lanes.call_frames import call_message, reply_message
from cloister.lanes.rows import (
    CALLS,
    REPLIES,
    ROW_BYTES,
    calls_frame,
    read_calls,
    read_replies,
    replies_frame,
)
from cloister.lanes.sending import Sending
from cloister.pipes.duplex import lane_pair
from cloister.wire.frames import Frame, FrameDecoder, serialize
from cloister.wire.messages import COPY, Kind
from cloister.wire.packing import load_msgpack
from cloister.wire.values import Codec

CODEC = Codec()


def frames_of(data: bytes) -> list[Frame]:
    """All frames in `data`."""
    decoder, found = FrameDecoder(), []
    decoder.feed(data)
    while (frame := decoder.next_frame()) is not None:
        found.append(frame)
    decoder.finish()
    return found


def calls(count: int, first: int = 1) -> list[bytes]:
    """So many encoded calls."""
    made = [call_message(CODEC, first + at, 5, "add", (at,), None, {"left": 9}, 0) for at in range(count)]
    return [message for message in made if isinstance(message, bytes)]


@pytest.mark.parametrize("count", [2, 15, 16, 300])
def test_row_of_calls_arrives_as_the_calls(count: int) -> None:
    """What was encoded call by call is read from one frame, in order, with its numbers."""
    (frame,) = frames_of(calls_frame(calls(count, 7)))
    assert frame.kind == CALLS
    heard = read_calls(CODEC, frame, 7)
    assert [(call.number, call.args) for call in heard] == [(7 + at, [at]) for at in range(count)]
    assert all(call[1:3] + call[4:] == (5, "add", {}, {"left": 9}, False) for call in heard)


def test_row_with_keywords_and_without_options_arrives_as_the_calls() -> None:
    """Calls of a row need not be alike: what is not the usual form is read one by one."""
    said: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = [
        (None, {"left": 9}), ({"key": 1}, {"left": 9}), (None, None), ({"a": None, "b": 2}, None)
    ]  # fmt: skip
    row = [call_message(CODEC, 1 + at, 5, "add", (at,), *both, 0) for at, both in enumerate(said)]
    (frame,) = frames_of(calls_frame([message for message in row if isinstance(message, bytes)]))
    heard = read_calls(CODEC, frame, 1)
    assert [(call.number, call.kwargs or None, call.options or None) for call in heard] == [
        (1 + at, *both) for at, both in enumerate(said)
    ]


def test_row_of_one_is_the_frame_that_it_always_was() -> None:
    """A call, or an answer, that has no other one beside it travels as a CALL, or a REPLY."""
    assert [frame.kind for frame in frames_of(calls_frame(calls(1)))] == [Kind.CALL]
    for value in (3, "x" * 245, "x" * 252):
        message = reply_message(CODEC, 1, value)
        assert isinstance(message, bytes)
        (frame,) = frames_of(replies_frame([message]))
        assert (frame.kind, CODEC.decode(frame.body)) == (Kind.REPLY, [1, value])


@pytest.mark.parametrize("value", [(1,), {1}, 1 << 70, bytearray(b"x"), "x" * 300, 1 + 2j, "\ud800", {"a": (1,)}])
def test_what_is_not_messagepacks_own_or_long_has_a_frame_of_its_own(value: Any) -> None:
    """Nothing goes into a row that could be refused by itself, and nothing long."""
    assert isinstance(reply_message(CODEC, 1, value), list)
    assert isinstance(call_message(CODEC, 1, 0, "f", (value,), None, None, 0), list)
    assert isinstance(call_message(CODEC, 1, 0, "f", (1,), None, None, COPY), list)
    assert isinstance(reply_message(CODEC, 1, [1, b"y", None, True, 2.5]), bytes)  # and the codec is as before


def row(messages: Any, kind: int = CALLS, flags: int = 0, buffers: tuple[bytes, ...] = ()) -> Frame:
    """A frame that says it is a row."""
    (frame,) = frames_of(b"".join(serialize(kind, CODEC.encode(messages), buffers, flags)))
    return frame


GOOD = [1, 5, "add", [], None, None]


@pytest.mark.parametrize(
    "messages",
    [
        [], {}, "adding", 5, [[]], ["adding"], [GOOD, GOOD], [[2, *GOOD[1:]]], [[True, *GOOD[1:]]],
        [[1, "5", *GOOD[2:]]],
        [[1, 5, 7, *GOOD[3:]]], [[1, 5, "add", {}, None, None]], [[*GOOD[:4], {1: 2}, None]], [[*GOOD[:4], [], None]],
        [[*GOOD[:5], []]], [[*GOOD, 1]], [GOOD, (2, 5)], [[*GOOD[:3], [(1,)], None, None]], [GOOD[:5]],
        [[*GOOD[:3], ["x" * 20_000], None, None]],
    ],
)  # fmt: skip
def test_row_of_calls_that_is_none_is_refused(messages: Any) -> None:
    """A list, a number, a type or an order that no sender makes ends the conversation, and so does an extension."""
    with pytest.raises(ProtocolError):
        read_calls(CODEC, row(messages), 1)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        None,
        [1],
        [[1]],
        [[1, 2, 3]],
        [[0, 1]],
        [[4, 1]],
        [["1", 1]],
        [[True, 1]],
        [{1: 2, 3: 4}],
        [[1, (2,)]],
        ["ab"],
    ],
)
def test_row_of_answers_that_is_none_is_refused(messages: Any) -> None:
    """An answer to a call that was never made, or one that is no pair, ends the conversation."""
    with pytest.raises(ProtocolError):
        read_replies(CODEC, row(messages, REPLIES), 3)


@pytest.mark.parametrize("pure", [False, True], ids=["compiled", "python"])
@pytest.mark.parametrize(
    "stamp", [b"\xd6\xff\0\0\0\1", b"\xd7\xff" + b"\0" * 8, b"\xc7\x0c\xff" + b"\0" * 12], ids=["4", "8", "12"]
)
def test_row_with_a_timestamp_is_refused(stamp: bytes, pure: bool) -> None:
    """MessagePack's own extension has no place in a row either, also deep inside and as a key."""
    codec = Codec(packing=load_msgpack(pure=pure))
    for message in (
        b"\x91\x92\1" + stamp,
        b"\x91\x92\1\x91\x81\xa1a\x91" + stamp,
        b"\x91\x92\1\x81" + stamp + b"\1",
        b"\x91" + stamp,
    ):
        with pytest.raises(ProtocolError):
            read_replies(codec, Frame(REPLIES, 0, message), 3)
    assert read_replies(codec, Frame(REPLIES, 0, b"\x91\x92\1\xc4" + bytes((len(stamp),)) + stamp), 3) == [[1, stamp]]


def test_row_has_neither_flags_nor_buffers() -> None:
    """Both belong to frames of one message."""
    with pytest.raises(ProtocolError, match="flags"):
        read_calls(CODEC, row([GOOD], flags=COPY), 1)
    with pytest.raises(ProtocolError, match="buffers"):
        read_replies(CODEC, row([[1, 1]], REPLIES, buffers=(b"x",)), 3)


def test_calls_leave_in_their_order_whatever_they_are() -> None:
    """Short calls leave in rows, others between them; all of it arrives in the order of the numbers."""
    host, guest = lane_pair()
    try:
        sending = Sending(host.writer)
        values: list[Any] = [1, 2, (3,), 4, "x" * 9000, 5, "y" * 9000, *range(800), (6,)]
        for number, value in enumerate(values, 1):
            sending.row.append(call_message(CODEC, number, 5, "f", (value,), None, None, 0))
        heard: list[Any] = []
        kinds: list[int] = []
        decoder, number = FrameDecoder(), 0
        with sending.lock:
            sending.send()
        while number < len(values):
            decoder.feed(os.read(guest.reader, 1 << 16))
            while (frame := decoder.next_frame()) is not None:
                assert len(frame.body) <= 2 * ROW_BYTES
                kinds.append(frame.kind)
                if frame.kind == CALLS:
                    row = read_calls(CODEC, frame, number + 1)
                    number += len(row)
                    heard += [call.args[0] for call in row]
                else:
                    number += 1
                    said, *_, args, _, _ = CODEC.decode(frame.body)
                    assert said == number
                    heard.append(args[0])
            with sending.lock:
                sending.write_on()
        assert heard == values
        assert kinds.count(CALLS) > 1
        assert not sending.waits
    finally:
        host.close()
        guest.close()
