"""One end of a pipe on POSIX: a connected Unix stream socket, non-blocking, with a gate around it.

Here are `SocketTransport`, `pair` and `adopt`. Names, clients and servers are in `listener_posix`. What each method
promises is in `transport`; who may be inside at the same time in `gate_posix`.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # before the imports: a type checker for Windows leaves the rest out

import array
import math
import os
import select
import socket
from collections.abc import Callable, Sequence

from cloister.errors import PipeClosed, PipeError, PipeTimeout
from cloister.pipes.deadline import seconds_left
from cloister.pipes.gate_posix import Gate, system_error
from cloister.pipes.peer_posix import peer_of
from cloister.pipes.transport import Peer, Transport

__all__ = ["SocketTransport", "adopt", "make_gate", "pair", "wait_for"]

_NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)  # macOS has none; Python ignores SIGPIPE anyway
_CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class SocketTransport(Transport):
    """A connected Unix stream socket. It owns `sock`, and calls `on_close` once when that has been closed."""

    def __init__(self, sock: socket.socket, *, gate: Gate | None = None, on_close: Callable[[], None] | None = None):
        """Take over `sock`; `gate` is one made by `make_gate` before there was a socket.

        Raises `PipeError` when the system has no descriptor left or won't name the peer; then `sock` stays open.
        """
        self._gate = gate or make_gate()
        self._sock = sock
        self._on_close = on_close
        try:
            self._peer = peer_of(sock)
            sock.setblocking(False)
        except OSError as error:
            self._gate.close()
            raise system_error(error, "the peer of the pipe can't be told") from None
        self._gate.on_release(self._release)
        self._fd = sock.fileno()
        self._readable = self._poll_for(select.POLLIN)
        self._writable = self._poll_for(select.POLLOUT)

    def _poll_for(self, event: int) -> select.poll:
        poll = select.poll()
        poll.register(self._fd, event)  # first, so that poll() reports it first: data wins over a cancel
        poll.register(self._gate.wake_fd, select.POLLIN)
        return poll

    def _release(self) -> None:
        self._sock.close()
        if self._on_close is not None and not self._gate.foreign:
            self._on_close()

    @property
    def generation(self) -> int:
        return self._gate.generation

    def begin(self) -> int:
        gate = self._gate
        if gate.closed:
            gate.require_open()
        return gate.generation

    @property
    def closed(self) -> bool:
        return self._gate.closed

    @property
    def peer(self) -> Peer:
        return self._peer

    def receive_some(self, limit: int, deadline: float | None, since: int) -> bytes:
        gate = self._gate
        gate.enter(since)
        try:
            while True:
                # The common case, straight on; wait_for does the same with a deadline, and knows what else may come.
                if deadline is not None or self._readable.poll()[0][0] != self._fd:
                    wait_for(self._readable, self._fd, gate, deadline, since, "no data came")
                self.taking = True
                data = self._receive(limit)
                if data is not None:
                    return data
                self.taking = False
        finally:
            gate.leave(since)

    def send_some(self, data: bytes | memoryview, deadline: float | None, since: int) -> int:
        gate = self._gate
        gate.enter(since)
        try:
            while True:
                self.giving = True
                sent = self._send(data)
                if sent:
                    return sent
                self.giving = False
                wait_for(self._writable, self._fd, gate, deadline, since, "the peer does not read")
        finally:
            gate.leave(since)

    def receive_now(self, limit: int) -> bytes | None:
        self._gate.require_open()
        return self._receive(limit)

    def send_now(self, data: bytes | memoryview) -> int:
        self._gate.require_open()
        return self._send(data)

    def _receive(self, limit: int) -> bytes | None:
        try:
            return self._sock.recv(limit)
        except BlockingIOError:
            return None
        except ConnectionError:  # the peer closed with data of ours unread; all of its own has been read by now
            return b""
        except OSError as error:
            raise system_error(error, "reading from the pipe failed") from None

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data, _NO_SIGNAL)
        except BlockingIOError:
            return 0
        except ConnectionError as error:
            raise PipeClosed(error.errno, "the peer closed its end, and does not read any more") from None
        except OSError as error:
            raise system_error(error, "writing to the pipe failed") from None

    def send_with_descriptors(
        self, data: bytes | memoryview, descriptors: Sequence[int], deadline: float | None, since: int
    ) -> int:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        gate = self._gate
        gate.enter(since)
        try:
            while True:
                try:
                    self.giving = True
                    return self._sock.sendmsg([data], rights, _NO_SIGNAL)
                except BlockingIOError:
                    self.giving = False
                    wait_for(self._writable, self._fd, gate, deadline, since, "the peer does not read")
                except ConnectionError as error:
                    raise PipeClosed(error.errno, "the peer closed its end, and does not read any more") from None
                except OSError as error:
                    raise system_error(error, f"passing {len(descriptors)} descriptors failed") from None
        finally:
            gate.leave(since)

    def receive_with_descriptors(
        self, limit: int, most: int, deadline: float | None, since: int
    ) -> tuple[bytes, list[int], bool]:
        space = socket.CMSG_LEN(most * array.array("i").itemsize)  # CMSG_SPACE would round up, and let more in
        gate = self._gate
        gate.enter(since)
        try:
            while True:
                wait_for(self._readable, self._fd, gate, deadline, since, "no data came")
                self.taking = True
                try:
                    data, extras, flags, _ = self._sock.recvmsg(limit, space, _CLOSE_ON_EXEC)
                except BlockingIOError:
                    self.taking = False
                    continue
                except ConnectionError:
                    return b"", [], True
                except OSError as error:
                    raise system_error(error, "reading from the pipe failed") from None
                return data, *_unpack_rights(extras, flags)
        finally:
            gate.leave(since)

    def cancel(self) -> None:
        self._gate.cancel()

    def close(self) -> None:
        self._gate.close()

    def fileno(self) -> int:
        self._gate.require_open()
        return self._fd

    def detach(self) -> int:
        gate = self._gate
        gate.require_open()
        try:
            fd = os.dup(self._fd)  # not inheritable; the dance makes sure that no thread is inside with the old one
        except OSError as error:
            raise system_error(error, "the pipe can't be detached") from None
        gate.close()
        return fd


def wait_for(
    poll: select.poll, fd: int, gate: Gate, deadline: float | None, since: int, otherwise: str, *, once: bool = False
) -> None:
    """Return when `fd`, the first that was registered with `poll`, is ready; with `once`, also after a nudge.

    Raises `PipeTimeout`, which says `otherwise`, and `PipeCancelled`.
    """
    while True:
        left = None if deadline is None else seconds_left(deadline)
        ready = poll.poll(None if left is None else math.ceil(left * 1000))
        if ready:
            if ready[0][0] == fd:
                return
            gate.settle(since)
            if once:
                return
        elif left == 0:
            raise PipeTimeout(f"{otherwise} in the time given")


def make_gate() -> Gate:
    """A gate for a pipe that is about to be. Raises `PipeError` when the system has no descriptor left."""
    return Gate("the pipe")


def _unpack_rights(extras: list[tuple[int, int, bytes]], flags: int) -> tuple[list[int], bool]:
    descriptors = array.array("i")
    for level, kind, data in extras:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & socket.MSG_CTRUNC:
        for fd in descriptors:
            os.close(fd)
        return [], False
    if not _CLOSE_ON_EXEC:
        for fd in descriptors:
            os.set_inheritable(fd, False)
    return list(descriptors), True


def pair() -> tuple[SocketTransport, SocketTransport]:
    """Both ends of a nameless pipe. Raises `PipeError` when the system has no descriptor left."""
    try:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise system_error(error, "a pipe can't be made") from None
    try:
        first = SocketTransport(left)
    except PipeError:
        left.close()
        right.close()
        raise
    try:
        return first, SocketTransport(right)
    except PipeError:
        first.close()
        right.close()
        raise


def adopt(descriptor: int) -> SocketTransport:
    """An end that was inherited or received; it is taken over, and made not inheritable.

    Raises `PipeError` when it is no connected Unix stream socket, and then leaves it open.
    """
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise system_error(error, f"descriptor {descriptor} can't be adopted as a pipe") from None
    try:
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise PipeError(f"descriptor {descriptor} is no end of a pipe: a Unix stream socket is needed")
        sock.getpeername()
        transport = SocketTransport(sock)
    except OSError as error:
        sock.detach()
        if isinstance(error, PipeError):
            raise
        raise system_error(error, f"descriptor {descriptor} can't be adopted as a pipe") from None
    sock.set_inheritable(False)
    return transport
