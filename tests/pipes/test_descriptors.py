"""Passing descriptors along with messages."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import pytest

from cloister import pipes
from cloister.errors import PipeClosed, PipeError, PipeTimeout
from cloister.pipes.channel import Format
from cloister.pipes.pipe import Pipe
from tests.pipes import descriptors
from tests.pipes.memory import memory_pair


@pytest.fixture
def ends() -> Iterator[tuple[pipes.Pipe, pipes.Pipe]]:
    """Two ends that take three descriptors with a message."""
    left, right = pipes.pair(descriptors=3)
    with left, right:
        yield left, right


@pytest.fixture
def file() -> Iterator[int]:
    """A descriptor whose other copies can be told apart from anything else."""
    reader, writer = os.pipe()
    os.close(writer)
    yield reader
    os.close(reader)


def close_all(numbers: list[int]) -> None:
    """Close what was received."""
    for fd in numbers:
        os.close(fd)


def test_descriptors_arrive_with_their_message(ends: tuple[pipes.Pipe, pipes.Pipe], file: int) -> None:
    """Descriptors come with exactly the message that they were sent with, as copies that no child inherits."""
    left, right = ends
    left.write_message(b"before")
    left.send_descriptors([file, file], b"with")
    left.write_message(b"after")
    left.send_descriptors([file])
    assert right.receive_descriptors(1) == (b"before", [])
    message, received = right.receive_descriptors(1)
    assert (message, len(received)) == (b"with", 2)
    assert all(os.path.sameopenfile(file, fd) and not os.get_inheritable(fd) for fd in received)
    close_all(received)
    assert right.receive_descriptors(1) == (b"after", [])
    message, received = right.receive_descriptors(1)
    assert (message, len(received)) == (b"", 1)
    close_all(received)


def test_a_message_without_descriptors_sent_as_such_is_ordinary(ends: tuple[pipes.Pipe, pipes.Pipe]) -> None:
    """Sending no descriptors is sending a message."""
    left, right = ends
    left.send_descriptors([], b"plain")
    assert right.read_message(1) == b"plain"


def test_descriptors_nobody_asks_for_are_closed(ends: tuple[pipes.Pipe, pipes.Pipe], file: int) -> None:
    """A plain read of a message drops its descriptors; the next message is intact."""
    left, right = ends
    before = descriptors.count()
    left.send_descriptors([file, file], b"with")
    left.send_descriptors([file] * 4, b"too many")
    left.write_message(b"after")
    assert [right.read_message(1) for _ in range(3)] == [b"with", b"too many", b"after"]
    assert descriptors.count() == before


def test_too_many_descriptors_are_reported_and_closed(ends: tuple[pipes.Pipe, pipes.Pipe], file: int) -> None:
    """More descriptors than allowed: an error after the message was taken, none stays open, the next is intact."""
    left, right = ends
    before = descriptors.count()
    left.send_descriptors([file] * 4, b"four")
    left.send_descriptors([file] * 3, b"three")
    with pytest.raises(PipeError, match="without its descriptors"):
        right.receive_descriptors(1)
    assert descriptors.count() == before
    message, received = right.receive_descriptors(1)
    assert (message, len(received)) == (b"three", 3)
    close_all(received)


def test_a_peer_that_spreads_them_over_one_message_is_stopped(file: int) -> None:
    """The limit holds for a message, however many packets its descriptors come in."""
    one, two = socket.socketpair()
    with one, pipes.from_fd(two.detach(), descriptors=3) as right:
        for byte in b"\x04\0\0\0four":
            socket.send_fds(one, [bytes([byte])], [file])
        with pytest.raises(PipeError, match="without its descriptors"):
            right.receive_descriptors(1)


@pytest.mark.parametrize("ask", ["receive_descriptors", "read_message"])
def test_descriptors_that_follow_too_many_are_closed_too(file: int, ask: str) -> None:
    """A peer that sends too many, and then a few more in the same message, leaves none open here."""
    one, two = socket.socketpair()
    with one, pipes.from_fd(two.detach(), descriptors=1) as right:
        before = descriptors.count()
        for _ in range(3):
            socket.send_fds(one, [b"\x02\0\0\0"], [file] * 3)
            socket.send_fds(one, [b"x"], [file])
            one.send(b"y")
            with contextlib.suppress(PipeError):
                getattr(right, ask)(1)
            assert descriptors.count() == before


def test_an_end_that_takes_none_gets_none(file: int) -> None:
    """Without descriptors= the system closes what a peer sends, and asking for them is an error."""
    left, right = pipes.pair()
    with left, right:
        before = descriptors.count()
        left.send_descriptors([file], b"with")
        assert right.read_message(1) == b"with"
        assert descriptors.count() == before
        with pytest.raises(ValueError, match="descriptors="):
            right.receive_descriptors(0)


def test_a_full_table_loses_the_descriptors_but_not_the_message(ends: tuple[pipes.Pipe, pipes.Pipe], file: int) -> None:
    """Without room for what comes, the message is taken, the loss is reported, and the next one is intact."""
    left, right = ends
    left.send_descriptors([file, file], b"with")
    left.send_descriptors([file], b"next")
    with descriptors.only_free(1), pytest.raises(PipeError, match="no room"):
        right.receive_descriptors(1)
    message, received = right.receive_descriptors(1)
    assert (message, len(received)) == (b"next", 1)
    close_all(received)


def test_what_is_not_open_can_not_be_sent(ends: tuple[pipes.Pipe, pipes.Pipe]) -> None:
    """A closed descriptor is an error with the system's number, and nothing is sent."""
    left, right = ends
    with pytest.raises(PipeError) as caught:
        left.send_descriptors([9999], b"x")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(PipeTimeout):
        right.read_message(0)


def test_sending_waits_for_room_and_fails_with_the_peer(ends: tuple[pipes.Pipe, pipes.Pipe], file: int) -> None:
    """A message with descriptors waits like any other, and goes whole or not at all."""
    left, right = ends
    sent = 0
    with pytest.raises(PipeTimeout) as caught:  # noqa: PT012 - the count is the point
        while True:
            left.send_descriptors([file], bytes(1000), timeout=0)
            sent += 1
    if caught.value.begun:
        sent += 1
        right.read_message(1)
        left.flush(1)
        sent -= 1
    for _ in range(sent):
        message, received = right.receive_descriptors(1)
        assert (len(message), len(received)) == (1000, 1)
        close_all(received)
    right.close()
    with pytest.raises(PipeClosed):
        left.send_descriptors([file], b"x")


@pytest.mark.parametrize("how", ["close", "end"])
def test_descriptors_of_a_half_message_are_closed(ends: tuple[pipes.Pipe, pipes.Pipe], file: int, how: str) -> None:
    """Descriptors that came with the beginning of a message whose end never comes do not stay open."""
    one, two = socket.socketpair()
    before = descriptors.count()
    right = pipes.from_fd(two.detach(), descriptors=3)
    socket.send_fds(one, [b"\x04\0\0\0ha"], [file])
    with pytest.raises(PipeTimeout):
        right.receive_descriptors(0)
    one.close()
    if how == "end":
        with pytest.raises(PipeClosed, match="middle"):
            right.receive_descriptors(0)
    right.close()
    assert descriptors.count() == before - 2


def test_a_message_too_large_drops_its_descriptors(file: int) -> None:
    """A refused message leaves no descriptor behind."""
    left, right = pipes.pair(descriptors=3, max_message=4)
    with left, right:
        before = descriptors.count()
        left.write_bytes(b"")
        left._transport.send_with_descriptors(memoryview(b"\x05\0\0\0"), [file], None, 0)
        with pytest.raises(ValueError, match="at most 4"):
            right.receive_descriptors(1)
        assert descriptors.count() == before
        left.write_bytes(b"xxxxx")
        left.write_message(b"next")
        assert right.read_message(1) == b"next"


def test_where_descriptors_can_not_travel_it_is_said(file: int) -> None:
    """A framing without sizes and a pipe in memory refuse them with an error."""
    left, right = pipes.pair(framing="line")
    with left, right, pytest.raises(ValueError, match="length"):
        left.send_descriptors([file])
    near, far = (Pipe(end, Format(descriptors=1)) for end in memory_pair())
    with near, far:
        with pytest.raises(PipeError, match="can't pass descriptors"):
            near.send_descriptors([file])
        with pytest.raises(PipeError, match="can't pass descriptors"):
            far.receive_descriptors(0)
