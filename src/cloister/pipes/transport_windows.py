"""One end of a pipe on Windows: a handle with overlapped operations, and a gate around it.

Here are `HandleTransport`, `pair` and `adopt`. Names, clients and servers are in `listener_windows`. What each method
promises is in `transport`; who may be inside at the same time in `gate_windows`.

Reading: an overlapped read is withdrawn at the deadline or at a cancel, and what came all the same is returned. None
is left pending between two calls.

Writing: Windows can withdraw a write too, but does not say how much of it the peer has read by then, so none ever is.
The bytes of a write that is still pending at the deadline are with the system, which hands them over when the peer
reads: they count as sent, as bytes in the buffer of a socket do. The next write waits for that one first, and times out
having sent nothing. `write_windows` keeps such a write alive when the thread that wanted it ends; a close leaves the
handle open until the peer has read it or is gone, in a thread of its own. When the process ends it is lost.

Not on Windows: descriptors can't travel, and an asyncio loop can't wait for a pipe in this way.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # before the imports: a type checker for another platform leaves the rest out

import _winapi
import contextlib
import os
import secrets
import threading
from collections.abc import Callable

from cloister.errors import NotConnected, PipeClosed, PipeError, PipeTimeout
from cloister.pipes.gate_windows import Gate, system_error
from cloister.pipes.kernel_windows import has_waits, is_server_end, peer_pid, wait_any
from cloister.pipes.transport import Peer, Transport
from cloister.pipes.write_windows import begin_write

__all__ = ["BUFFER_BYTES", "HandleTransport", "adopt", "pair"]

BUFFER_BYTES = 65536
"""What each direction of a pipe holds before a writer waits, and the most that one write takes: a POSIX pipe's size."""

_ERROR_PIPE_NOT_CONNECTED = 233
_GONE = frozenset({_winapi.ERROR_BROKEN_PIPE, _winapi.ERROR_NO_DATA, _ERROR_PIPE_NOT_CONNECTED})


class HandleTransport(Transport):
    """A connected pipe. It owns `handle`, which was opened for overlapped operations.

    `on_close` is called once, just before the handle is closed. Raises `PipeError` when the handle is no pipe; then it
    stays open.
    """

    def __init__(self, handle: int, *, on_close: Callable[[], None] | None = None) -> None:
        self._handle = handle
        self._on_close = on_close
        self._gate = Gate("the pipe")
        self._writing: _winapi.Overlapped | None = None  # given to the system, and not read by the peer yet
        try:
            self._peer = Peer(peer_pid(handle), None)
        except OSError as error:
            raise system_error(error, "the peer of the pipe can't be told") from None
        self._gate.on_release(self._release)

    @property
    def generation(self) -> int:
        return self._gate.generation

    @property
    def closed(self) -> bool:
        return self._gate.closed

    @property
    def peer(self) -> Peer:
        return self._peer

    # -- reading

    def receive_some(self, limit: int, deadline: float | None, since: int) -> bytes:
        wake = self._gate.enter(since)
        try:
            while True:
                read = self._read(limit, deadline, since, wake)
                if read is not None:
                    return read
        finally:
            self._gate.leave(wake)

    def _read(self, limit: int, deadline: float | None, since: int, wake: int) -> bytes | None:
        """One overlapped read: its bytes, b"" at the end of the stream, None for a write of no bytes by the peer."""
        try:
            operation, code = _winapi.ReadFile(self._handle, limit, overlapped=True)
            if code == _winapi.ERROR_IO_PENDING:
                try:
                    completed = self._wait_for(operation, deadline, since, wake)
                except BaseException:  # an interrupt: the stream counts as torn, but the buffer must not be written to
                    _withdraw(operation)
                    raise
                if not completed:
                    data = _withdraw(operation)
                    if data:
                        return data
                    self._gate.check(since)
                    raise PipeTimeout("no data came in the time given")
            return _bytes_of(operation) or None
        except OSError as error:
            if isinstance(error, PipeError):
                raise
            if error.winerror in _GONE:
                return b""
            raise system_error(error, "reading from the pipe failed") from None

    # -- writing

    def send_some(self, data: bytes | memoryview, deadline: float | None, since: int) -> int:
        wake = self._gate.enter(since)
        try:
            self._finish_write(deadline, since, wake)
            # A copy, because the system may read it after this call has returned.
            chunk = bytes(data[:BUFFER_BYTES])
            operation, code = begin_write(self._handle, chunk)
            if code == _winapi.ERROR_IO_PENDING:
                self._writing = operation
                if self._wait_for(operation, deadline, since, wake):
                    self._writing = None
            if self._writing is None:
                operation.GetOverlappedResult(True)
            return len(chunk)
        except OSError as error:
            if isinstance(error, PipeError):
                raise
            if error.winerror in _GONE:
                raise PipeClosed(error.errno, "the peer closed its end, and does not read any more") from None
            raise system_error(error, "writing to the pipe failed") from None
        finally:
            self._gate.leave(wake)

    def _finish_write(self, deadline: float | None, since: int, wake: int) -> None:
        """Wait until the peer has read what an earlier write left with the system."""
        operation = self._writing
        if operation is None:
            return
        if not self._wait_for(operation, deadline, since, wake):
            self._gate.check(since)
            raise PipeTimeout("the peer does not read in the time given")
        self._writing = None
        _, code = operation.GetOverlappedResult(True)
        if code == _winapi.ERROR_OPERATION_ABORTED:  # only somebody who got hold of the handle can do that
            self._gate.close()
            raise NotConnected("the pipe is broken: a write was withdrawn from outside, and so the stream is torn")

    # -- both

    def _wait_for(self, operation: _winapi.Overlapped, deadline: float | None, since: int, wake: int) -> bool:
        """Wait until `operation` is completed; False at the deadline, or when it was cancelled meanwhile."""
        while True:
            index = wait_any([operation.event, wake], deadline)
            if index == 0:
                return True
            if index is None or since != self._gate.generation:
                return False

    def cancel(self) -> None:
        self._gate.cancel()

    def close(self) -> None:
        self._gate.close()

    def fileno(self) -> int:
        """The handle of the pipe: ``multiprocessing.connection.wait`` waits for a pipe by it, with other things."""
        self._gate.require_open()
        return self._handle

    def detach(self) -> int:
        self._gate.require_open()
        process = _winapi.GetCurrentProcess()
        try:
            handle = _winapi.DuplicateHandle(process, self._handle, process, 0, False, _winapi.DUPLICATE_SAME_ACCESS)
        except OSError as error:
            raise system_error(error, "the pipe can't be detached") from None
        self._gate.close()
        return handle

    def _release(self) -> None:
        if self._on_close is not None:
            self._on_close()
        operation = self._writing
        if operation is None:
            _winapi.CloseHandle(self._handle)
        else:
            threading.Thread(
                target=_close_when_read, args=(self._handle, operation), name="cloister-pipe-close", daemon=True
            ).start()


def _close_when_read(handle: int, operation: _winapi.Overlapped) -> None:
    """Close `handle` when the peer has read the last write, or has gone."""
    wait_any([operation.event], None)
    with contextlib.suppress(OSError):  # the peer has gone: nobody is left to tell
        operation.GetOverlappedResult(True)
    _winapi.CloseHandle(handle)


def _withdraw(operation: _winapi.Overlapped) -> bytes:
    """End a pending read, and return what it has taken in by then."""
    operation.cancel()
    return _bytes_of(operation)


def _bytes_of(operation: _winapi.Overlapped) -> bytes:
    """What a read has taken in; waits for its end, which has come or is about to. Raises OSError if it failed."""
    count, _ = operation.GetOverlappedResult(True)
    return bytes(operation.getbuffer() or b"") if count else b""


def pair() -> tuple[HandleTransport, HandleTransport]:
    """Both ends of a nameless pipe. Raises `PipeError` when the system can't make one.

    Windows has no nameless pipe that can be waited for, so this one has a name that nobody can guess, one instance,
    and both of its ends taken before anybody could have seen it.
    """
    path = rf"\\.\pipe\cloister-pair-{os.getpid()}-{secrets.token_hex(16)}"
    handles: list[int] = []
    try:
        handles.append(
            _winapi.CreateNamedPipe(
                path,
                _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED | _winapi.FILE_FLAG_FIRST_PIPE_INSTANCE,
                _winapi.PIPE_WAIT,
                1,
                BUFFER_BYTES,
                BUFFER_BYTES,
                0,
                _winapi.NULL,
            )
        )
        handles.append(
            _winapi.CreateFile(
                path,
                _winapi.GENERIC_READ | _winapi.GENERIC_WRITE,
                0,
                _winapi.NULL,
                _winapi.OPEN_EXISTING,
                _winapi.FILE_FLAG_OVERLAPPED,
                _winapi.NULL,
            )
        )
        server, client = handles
        return HandleTransport(server), HandleTransport(client)
    except OSError as error:
        for handle in handles:
            _winapi.CloseHandle(handle)
        raise system_error(error, "a pipe can't be made") from None


def adopt(descriptor: int) -> HandleTransport:
    """An end that was inherited; it is taken over, and made not inheritable. `descriptor` is a handle.

    Raises `PipeError` when it is no pipe, or one that was opened without FILE_FLAG_OVERLAPPED, and then leaves it open.
    """
    try:
        is_server_end(descriptor)
        if has_waits(descriptor):
            raise PipeError(
                f"handle {descriptor} can't be adopted as a pipe: it was opened without FILE_FLAG_OVERLAPPED"
            )
        os.set_handle_inheritable(descriptor, False)
    except OSError as error:
        if isinstance(error, PipeError):
            raise
        raise system_error(error, f"handle {descriptor} can't be adopted as a pipe") from None
    return HandleTransport(descriptor)
