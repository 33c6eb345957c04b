"""Every operation fails once: the Nth, for N = 1, 2, 3 … until a run ends without reaching it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloister import pipes
from cloister.errors import NotConnected, PipeClosed, PipeError, PipeTimeout
from cloister.pipes.channel import Format
from cloister.pipes.pipe import Pipe
from cloister.pipes.transport_posix import SocketTransport
from tests.pipes import descriptors
from tests.pipes.ends import Background, fresh_name
from tests.pipes.memory import Faults, memory_pair

MESSAGES = [b"first", b"", b"third"]


def each_fault(most: int = 500) -> Iterator[Faults]:
    """Faults 1, 2, 3 … until one was not reached."""
    for nth in range(1, most):
        faults = Faults(nth)
        yield faults
        if not faults.reached:
            assert nth > 2, "nothing was ever injected"
            return
    pytest.fail(f"a run took more than {most} operations")


def send_all(pipe: Pipe) -> int:
    """Write the messages, each until it has left; returns how often an error was reported."""
    reported = 0
    for message in MESSAGES:
        written = False
        while not written:
            try:
                pipe.write_message(message, timeout=5)
                written = True
            except PipeError as error:
                reported += error.errno == errno.EIO
                written = error.begun
    while pipe.unsent:
        try:
            pipe.flush(timeout=5)
        except PipeError:
            reported += 1
    return reported


def read_all(pipe: Pipe) -> tuple[list[bytes], int]:
    """Read the messages, each until it has come; and how often an error was reported."""
    messages: list[bytes] = []
    reported = 0
    while len(messages) < len(MESSAGES):
        try:
            messages.append(pipe.read_message(timeout=5))
        except PipeError as error:
            reported += error.errno == errno.EIO
    return messages, reported


def test_every_write_that_fails_once_loses_and_tears_nothing() -> None:
    """S27: whichever operation fails, it is reported once, and every message arrives whole, once, in order."""
    for faults in each_fault():
        left, right = (Pipe(end, Format()) for end in memory_pair(faults=faults))
        with left, right:
            assert send_all(left) == faults.reached
            assert read_all(right) == (MESSAGES, 0)
            with pytest.raises(PipeTimeout):
                right.read_message(0)


def test_every_read_that_fails_once_loses_nothing() -> None:
    """S24: whichever operation fails, it is reported once, and every message is read whole, once, in order."""
    for faults in each_fault():
        left, right = (Pipe(end, Format()) for end in memory_pair(faults=faults))
        with left, right:
            send_all(right)
            assert read_all(left) == (MESSAGES, faults.reached)


class FaultySocket(socket.socket):
    """A real socket, of which one call fails with EIO, instead of being made."""

    faults = Faults()

    def _step(self) -> None:
        try:
            self.faults.step()
        except PipeError as error:
            raise OSError(error.errno, "injected") from None


def _faulty(name: str) -> Callable[..., Any]:
    def call(self: FaultySocket, *args: Any) -> Any:
        self._step()
        return getattr(super(FaultySocket, self), name)(*args)

    return call


for _name in ("bind", "listen", "accept", "connect", "connect_ex", "shutdown", "getsockopt", "recv", "send"):
    setattr(FaultySocket, _name, _faulty(_name))


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[FaultySocket]:
    """All sockets are faulty ones."""
    monkeypatch.setattr(socket, "socket", FaultySocket)
    return FaultySocket


def test_every_system_call_that_fails_once_is_reported_and_leaves_nothing(faulty: type[FaultySocket]) -> None:
    """Whichever call to a socket fails while a name is served twice: a documented error or none, no descriptor left,
    and the next client is served."""
    before = descriptors.count()
    reports = 0
    for faults in each_fault():
        name = fresh_name()
        faulty.faults = faults
        try:
            with pipes.PipeServer(name, max_instances=2) as server:
                for _ in range(2):
                    with pipes.connect(name, 0) as client, server.accept(0) as served:
                        client.write_message(b"x", 1)
                        assert served.read_message(1) == b"x"
        except PipeError:
            reports += 1
        assert descriptors.count() == before
        faulty.faults = Faults()
        with pipes.PipeServer(name) as server, pipes.connect(name, 0) as client, server.accept(0) as served:
            client.write_message(b"next")
            assert served.read_message(1) == b"next"
    assert reports > 10


def test_a_client_whose_identity_is_gone_is_dropped_and_the_next_is_served(
    faulty: type[FaultySocket], caplog: pytest.LogCaptureFixture
) -> None:
    """A client that can't be identified any more is logged and dropped, and frees its instance at once."""
    name = fresh_name()
    with pipes.PipeServer(name, max_instances=1) as server:
        with pipes.connect(name, 0) as client:
            faulty.faults = Faults(3)  # after the shutdown of the queue and the accept: who it is
            with pytest.raises(PipeTimeout):
                server.accept(0.01)
            assert faulty.faults.reached
            with pytest.raises(PipeClosed):
                client.read_message(1)
        assert "was dropped" in caplog.text
        with pipes.connect(name, 0), server.accept(0):
            pass


def test_a_socket_that_fails_says_so_and_can_be_used_again(faulty: type[FaultySocket]) -> None:
    """An error of the system is reported with its number; the pipe goes on where it was."""
    one, two = socket.socketpair()
    left, right = Pipe(SocketTransport(one), Format()), Pipe(SocketTransport(two), Format())
    with left, right:
        faulty.faults = Faults(1)
        with pytest.raises(PipeError, match="writing to the pipe failed") as caught:
            left.write_message(b"x")
        assert caught.value.errno == errno.EIO
        assert not caught.value.begun
        faulty.faults = Faults()
        left.write_message(b"y")
        right.write_message(b"z")
        faulty.faults = Faults(1)
        with pytest.raises(PipeError, match="reading from the pipe failed"):
            left.read_message(1)
        assert left.read_message(1) == b"z"
        assert right.read_message(1) == b"y"


class InterruptedTransport(SocketTransport):
    """A real transport on which an interrupt comes after the first operation has done its work."""

    def receive_some(self, limit: int, deadline: float | None, since: int) -> bytes:
        super().receive_some(limit, deadline, since)
        raise KeyboardInterrupt

    def send_some(self, data: bytes | memoryview, deadline: float | None, since: int) -> int:
        super().send_some(data, deadline, since)
        raise KeyboardInterrupt


def test_an_interrupt_in_the_middle_breaks_the_pipe_instead_of_tearing_it() -> None:
    """Ctrl-C at the unlucky moment: it is not known how much has moved, so the pipe says so from then on."""
    one, two = socket.socketpair()
    with Pipe(InterruptedTransport(one), Format()) as left, Pipe(SocketTransport(two), Format()) as right:
        with pytest.raises(KeyboardInterrupt):
            left.write_message(b"x")
        with pytest.raises(NotConnected, match="torn"):
            left.write_message(b"y")
        right.write_message(b"z")
        with pytest.raises(KeyboardInterrupt):
            left.read_message()
        with pytest.raises(NotConnected, match="torn"):
            left.read_message()
        assert Background(right.read_message, 5).result() == b"x"


class InterruptedSocket(socket.socket):
    """A socket on which an interrupt comes after the first `sendmsg` has done its work."""

    def sendmsg(self, *args: Any, **options: Any) -> int:
        super().sendmsg(*args, **options)
        raise KeyboardInterrupt


def test_an_interrupt_while_descriptors_leave_breaks_the_pipe_instead_of_tearing_it() -> None:
    """Ctrl-C after the first byte of a message with descriptors: the rest can't go alone, so the pipe says so."""
    one, two = socket.socketpair()
    interrupted = InterruptedSocket(fileno=one.detach())
    with Pipe(SocketTransport(interrupted), Format()) as left, Pipe(SocketTransport(two), Format()):
        with pytest.raises(KeyboardInterrupt):
            left.send_descriptors([0], b"x")
        with pytest.raises(NotConnected, match="torn"):
            left.write_message(b"y")


def test_an_interrupt_while_nothing_moves_breaks_nothing() -> None:
    """Ctrl-C in a read or a write that waits: nothing was moved, and the pipe goes on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGUSR1, interrupt)
    left, right = pipes.pair()
    message = bytes(2_000_000)
    try:
        with left, right:
            for wait in (left.read_message, lambda: left.write_message(message)):
                timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
                timer.start()
                with pytest.raises(KeyboardInterrupt):
                    wait()
                timer.join()
            reader = Background(right.read_message, 5)
            left.flush(5)
            assert reader.result() == message
            right.write_message(b"x")
            assert left.read_message(5) == b"x"
    finally:
        signal.signal(signal.SIGUSR1, old)
