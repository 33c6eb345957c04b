"""The host's end of a control channel: nothing waits, everything is bounded, an error ends only this one."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator

import pytest

from cloister.domain import channel as module
from cloister.domain.channel import Channel
from cloister.errors import ProtocolError
from cloister.wire import frames
from cloister.wire.messages import Kind
from cloister.wire.values import Codec


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel and the guest's end of it."""
    host, guest = socket.socketpair()
    host.setblocking(False)
    channel = Channel(host)
    yield channel, guest
    channel.close()
    host.close()
    guest.close()


def frame(kind: int, body: list[object]) -> bytes:
    """A frame as a guest sends it."""
    return b"".join(frames.serialize(kind, Codec().encode(body)))


def test_messages_arrive_in_any_pieces(pair: tuple[Channel, socket.socket]) -> None:
    """A message that arrives byte by byte, and two that arrive at once, are each heard once and whole."""
    channel, guest = pair
    heard = []
    for byte in frame(Kind.BEAT, [1, 2, []]):
        guest.send(bytes([byte]))
        heard += list(channel.receive())
    guest.send(frame(Kind.READY, []) + frame(Kind.WANT_LANE, [7]))
    heard += list(channel.receive())
    assert [(one.kind, channel.decode(one)) for one in heard] == [
        (Kind.BEAT, [1, 2, []]),
        (Kind.READY, []),
        (Kind.WANT_LANE, [7]),
    ]


def test_guest_that_reads_nothing_is_bounded_and_then_an_error(
    pair: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be sent waits; where too much waits, ProtocolError ends the domain; `flush` sends the rest."""
    channel, guest = pair
    monkeypatch.setattr(module, "MAX_QUEUED_BYTES", 1 << 20)
    text = "x" * 100_000
    sent = 0
    while channel._queued <= 1 << 20:
        channel.send(Kind.CANCEL, [sent, text])
        sent += 1
    with pytest.raises(ProtocolError, match="does not read"):
        channel.send(Kind.CANCEL, [sent, text])
    assert 10 < sent < 40
    decoder = frames.FrameDecoder()
    numbers: list[int] = []
    while len(numbers) < sent:
        channel.flush()
        decoder.feed(guest.recv(1 << 20))
        while (one := decoder.next_frame()) is not None:
            numbers.append(Codec().decode(one.body, one.buffers)[0])
    assert numbers == list(range(sent))


def test_descriptors_that_wait_are_closed_with_the_channel(pair: tuple[Channel, socket.socket]) -> None:
    """Descriptors that could not be sent any more do not leak."""
    channel, guest = pair
    while not channel.send(Kind.CANCEL, ["x" * 100_000]):
        pass
    before = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    assert channel.send(Kind.LANE, [1, 1, 0], (reader, writer))
    guest.close()
    channel.flush()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    reader, writer = os.pipe()
    channel.close()
    assert not channel.send(Kind.LANE, [1, 1, 0], (reader, writer))
    assert len(os.listdir("/proc/self/fd")) == before - 2  # its own socket is closed as well


def test_descriptors_that_wait_are_bounded(
    pair: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that reads nothing can't have this program hold descriptors without end; those sent count no more."""
    channel, guest = pair
    monkeypatch.setattr(module, "MAX_QUEUED_DESCRIPTORS", 8, raising=False)
    filler = 1
    while not channel.send(Kind.CANCEL, ["x" * 100_000]):
        filler += 1
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(4):
        channel.send(Kind.LANE, [1, 1, 0], os.pipe())
    with pytest.raises(ProtocolError, match="does not read"):
        channel.send(Kind.LANE, [1, 1, 0], os.pipe())
    assert len(os.listdir("/proc/self/fd")) == before + 8
    assert channel.send(Kind.CANCEL, [1, 0])
    guest.setblocking(False)
    while channel.flush():
        guest.recv(1 << 20)
    assert channel._queued_descriptors == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_message_from_the_middle_of_another_is_not_held_up(
    pair: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a finalizer or a signal handler sends in the middle of `send` or `flush` is sent there and then."""
    channel, guest = pair
    decoder, heard = frames.FrameDecoder(), list[int]()

    def hear() -> list[int]:
        decoder.feed(guest.recv(1 << 20))
        while (one := decoder.next_frame()) is not None:
            heard.append(Codec().decode(one.body, one.buffers)[0])
        return heard

    original = Channel._write
    interruptions = [2, 4]

    def interrupted(self: Channel, data: memoryview, descriptors: tuple[int, ...]) -> int | None:
        taken = original(self, data, descriptors)
        if len(interruptions) == 2 or (len(interruptions) == 1 and self._flushing and not self._torn):
            number = interruptions.pop(0)
            assert not self.send(Kind.CANCEL, [number, 0], watching=True)
            assert number in hear()
        return taken

    monkeypatch.setattr(Channel, "_write", interrupted)
    assert not channel.send(Kind.CANCEL, [1, 0])
    assert channel.send(Kind.CANCEL, [3, "x" * 3000])  # long ones are left to the watcher, and what comes after them
    assert channel.send(Kind.CANCEL, [5, 0])
    assert not channel.flush()
    assert sorted(heard) == [1, 2, 3, 4, 5]
    assert heard.index(3) < heard.index(5)


def test_socket_is_closed_by_the_last_who_sends(
    pair: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel that is closed while a thread sends keeps its descriptor until that thread has left."""
    channel, guest = pair
    original = Channel._write

    def interrupted(self: Channel, data: memoryview, descriptors: tuple[int, ...]) -> int | None:
        self.close()
        assert self._socket.fileno() >= 0
        return original(self, data, descriptors)

    monkeypatch.setattr(Channel, "_write", interrupted)
    assert not channel.send(Kind.CANCEL, [1, 0])
    assert channel._socket.fileno() == -1
    assert guest.recv(100) == b""


def test_descriptors_of_a_guest_are_refused_and_closed(pair: tuple[Channel, socket.socket]) -> None:
    """Only a host makes pipes: a guest that sends a descriptor breaks the protocol, and the descriptor is closed."""
    channel, guest = pair
    before = len(os.listdir("/proc/self/fd"))
    guest.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
    with pytest.raises(ProtocolError, match="descriptors"):
        list(channel.receive())
    assert len(os.listdir("/proc/self/fd")) == before


def test_guest_that_sends_without_end_leaves_room_for_others(pair: tuple[Channel, socket.socket]) -> None:
    """One turn takes a bounded number of reads, whatever more is there."""
    channel, guest = pair
    guest.setblocking(False)
    message, count = frame(Kind.READY, []), 0
    received = 0
    for one in channel.receive():
        assert one.kind == Kind.READY
        received += 1
    try:
        while True:
            guest.send(message * 1000)
            count += 1000
    except BlockingIOError:
        pass
    for _ in channel.receive():
        received += 1
        if received % 1000 == 0:
            try:
                guest.send(message * 1000)
            except BlockingIOError:
                continue
    assert received <= module.READ_BYTES // len(message) + 1


def test_message_that_is_too_large_for_a_control_channel_is_refused(pair: tuple[Channel, socket.socket]) -> None:
    """A header that announces more than a guest may say is an error before anything is reserved for it."""
    channel, guest = pair
    guest.send((module.LIMITS.frame_bytes + 1).to_bytes(4, "little") + bytes([Kind.LOG, 0, 0, 0]))
    with pytest.raises(ProtocolError):
        list(channel.receive())


def test_error_of_the_channel_is_kept_for_the_report(pair: tuple[Channel, socket.socket]) -> None:
    """S05: a channel that the system has reset is closed, and what the system said is known."""
    channel, guest = pair
    channel.send(Kind.RELEASE, [[]])
    guest.close()  # with something unread in it: the host's next read is ECONNRESET
    assert list(channel.receive()) == []
    assert channel.closed
    assert isinstance(channel.error, ConnectionResetError)


def test_end_of_file_closes_the_channel_without_an_error(pair: tuple[Channel, socket.socket]) -> None:
    """S04: a guest that has gone ends the channel; nothing is raised."""
    channel, guest = pair
    guest.close()
    assert list(channel.receive()) == []
    assert channel.closed
    assert channel.error is None
    assert not channel.send(Kind.STOP, [1])
    assert not channel.flush()
