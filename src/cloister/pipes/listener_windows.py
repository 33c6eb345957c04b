"""Names on Windows: where a pipe lies, how it is served, and how it is reached.

Here are `find_place`, `listen` and `connect_now`. One connected end is in `transport_windows`.

The pipe file system of Windows keeps a name for as long as any handle of the pipe is open, and a client connects to an
*instance* that listens. So a listener keeps up to `BACKLOG` instances listening, each with a connect operation that has
been started: a client that came before `accept` is accepted at once. The system's own limit of instances is not used,
because the next one must be made before the last is closed, or the name would be free in between; we count.

What differs from POSIX: after `close` the name stays taken until the accepted pipes are closed too (a client is told
that the server is busy, a second server that the name is taken); and there is no stale name.

Who may connect: the access list of the pipe names the current user alone, or every user of this machine who has logged
in; clients from the network are refused by the system. A client looks at the owner of the pipe before it sends a byte,
and lets no server act in its name.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # before the imports: a type checker for another platform leaves the rest out

import _winapi
import contextlib
import threading
from typing import NamedTuple

from cloister.errors import BadName, NameTaken, NotConnected, PipeBusy, PipeError, PipeTimeout
from cloister.pipes.gate_windows import Gate, system_error
from cloister.pipes.kernel_windows import Security, current_user, default_owner, owner_of, wait_any
from cloister.pipes.names import Place, Style, windows_place
from cloister.pipes.transport import Listener
from cloister.pipes.transport_windows import BUFFER_BYTES, HandleTransport

__all__ = ["PipeListener", "connect_now", "find_place", "listen"]

BACKLOG = 8
"""How many clients may wait to be accepted; each costs two handles. A wait is for at most 63 handles."""

# What `_winapi` has no names for (winbase.h, winerror.h).
_PIPE_REJECT_REMOTE_CLIENTS = 0x8
_SECURITY_IDENTIFICATION = 0x100000 | 0x10000  # with SECURITY_SQOS_PRESENT: the server learns who we are, no more
_ERROR_FILE_NOT_FOUND = 2
_ERROR_ACCESS_DENIED = 5
_ERROR_INVALID_NAME = 123

_READ_AND_WRITE = "0x12019b"
"""FILE_GENERIC_READ and FILE_GENERIC_WRITE without FILE_CREATE_PIPE_INSTANCE: other users may not serve our name."""


class _Instance(NamedTuple):
    """An instance that listens, with the operation that ends when a client has come."""

    handle: int
    operation: _winapi.Overlapped


class PipeListener(Listener):
    """A name of the pipe file system, and the instances that listen under it.

    Raises OSError when the first instance can't be made.
    """

    def __init__(self, place: Place, max_instances: int | None, *, current_user_only: bool) -> None:
        user = current_user()
        others = "" if current_user_only else f"(A;;{_READ_AND_WRITE};;;AU)"
        self._security = Security(f"O:{user}D:P(A;;GA;;;{user}){others}")
        self._path = place.path
        self._most = max_instances
        self._open = 0  # accepted, and not closed on this side
        self._listening: list[_Instance] = []
        self._lock = threading.RLock()  # taken inside the lock of a gate, never around it
        self._gate = Gate("the pipe server")
        self._make_instances()
        self._gate.on_release(self._release)

    @property
    def generation(self) -> int:
        return self._gate.generation

    @property
    def closed(self) -> bool:
        return self._gate.closed

    def accept(self, deadline: float | None, since: int) -> HandleTransport:
        wake = self._gate.enter(since)
        try:
            while True:
                instances = self._make_instances()
                # A connection has the lower index, so it wins over a close that came at the same time.
                index = wait_any([*(instance.operation.event for instance in instances), wake], deadline)
                if index is None:
                    raise PipeTimeout("no client came in the time given")
                if index == len(instances):
                    self._gate.check(since)
                    continue
                transport = self._take(instances[index])
                if transport is not None:
                    return transport
        except OSError as error:
            if isinstance(error, PipeError):
                raise
            raise system_error(error, "no client can be accepted") from None
        finally:
            self._gate.leave(wake)

    def cancel(self) -> None:
        self._gate.cancel()

    def close(self) -> None:
        self._gate.close()

    def fileno(self) -> int:
        """The event that is set when a client has come to the instance that is next, or -1 while there is none."""
        self._gate.require_open()
        with self._lock:
            return self._listening[0].operation.event if self._listening else -1

    def _make_instance(self) -> _Instance:
        # Without an instance of ours the name could be somebody else's by now: then it is not to be shared.
        first = not self._open and not self._listening
        handle = _winapi.CreateNamedPipe(
            self._path,
            _winapi.PIPE_ACCESS_DUPLEX
            | _winapi.FILE_FLAG_OVERLAPPED
            | (_winapi.FILE_FLAG_FIRST_PIPE_INSTANCE if first else 0),
            _winapi.PIPE_WAIT | _PIPE_REJECT_REMOTE_CLIENTS,
            _winapi.PIPE_UNLIMITED_INSTANCES,
            BUFFER_BYTES,
            BUFFER_BYTES,
            0,
            self._security.address,
        )
        try:
            return _Instance(handle, _winapi.ConnectNamedPipe(handle, overlapped=True))
        except OSError:  # also ERROR_NO_DATA, a client that has come and gone since the line above: it is not missed
            _winapi.CloseHandle(handle)
            raise

    def _make_instances(self) -> list[_Instance]:
        """Have as many instances listen as may; the list of them. Raises OSError when there is none to wait for."""
        with self._lock:
            while len(self._listening) < BACKLOG and not self._full() and not self._gate.closed:
                try:
                    self._listening.append(self._make_instance())
                except OSError:
                    if not self._listening:
                        raise
                    break
            return list(self._listening)

    def _full(self) -> bool:
        return self._most is not None and self._open + len(self._listening) >= self._most

    def _take(self, instance: _Instance) -> HandleTransport | None:
        """This side's end of the pipe to the client that came; None when another thread has it, or it has gone."""
        with self._lock:
            if instance not in self._listening:
                return None
            self._listening.remove(instance)
            try:
                instance.operation.GetOverlappedResult(True)
                transport = HandleTransport(instance.handle, on_close=self._on_close)
            except OSError:
                _winapi.CloseHandle(instance.handle)
                return None
            self._open += 1
            with contextlib.suppress(OSError):  # the next accept tries again, and reports it
                self._make_instances()
            return transport

    def _on_close(self) -> None:
        """An accepted pipe is about to be closed: have the next instance listen before that, to keep the name."""
        with self._lock:
            self._open -= 1
            if not self._gate.closed:
                with contextlib.suppress(OSError):
                    self._make_instances()
        self._gate.nudge()

    def _release(self) -> None:
        with self._lock:
            while self._listening:
                handle, operation = self._listening.pop()
                operation.cancel()
                with contextlib.suppress(OSError):
                    operation.GetOverlappedResult(True)
                _winapi.CloseHandle(handle)


def find_place(name: str, style: Style) -> Place:
    """Where a pipe of this name lies for the current user. Raises `BadName`, and `PipeError` for a user unknown."""
    try:
        user = current_user()
    except OSError as error:
        raise system_error(error, "the current user can't be told") from None
    return windows_place(name, style, user)


def listen(place: Place, *, max_instances: int | None, current_user_only: bool) -> PipeListener:
    """Serve `place`; `max_instances` is None for no limit.

    Raises `NameTaken` when anybody has a handle of this name open, `BadName` when Windows refuses the name, and
    `PipeError`.
    """
    try:
        return PipeListener(place, max_instances, current_user_only=current_user_only)
    except OSError as error:
        if error.winerror in (_ERROR_ACCESS_DENIED, _winapi.ERROR_PIPE_BUSY):
            raise NameTaken(
                error.errno, f"another server, or a pipe that it accepted, has the name {place.name!r}: end it first"
            ) from None
        if error.winerror == _ERROR_INVALID_NAME:
            raise BadName(error.errno, f"Windows refuses the pipe name {place.name!r}: choose another one") from None
        raise system_error(error, f"the pipe {place.name!r} can't be served") from None


def connect_now(place: Place, *, current_user_only: bool) -> HandleTransport:
    """One attempt to reach the server of `place`.

    Raises `NotConnected` where no server is, `PipeBusy` where one is without a free instance, `BadName` for a server of
    another user, and `PipeError`.
    """
    try:
        handle = _winapi.CreateFile(
            place.path,
            _winapi.GENERIC_READ | _winapi.GENERIC_WRITE,
            0,
            _winapi.NULL,
            _winapi.OPEN_EXISTING,
            _winapi.FILE_FLAG_OVERLAPPED | _SECURITY_IDENTIFICATION,
            _winapi.NULL,
        )
    except OSError as error:
        raise _refusal(error, place) from None
    try:
        if current_user_only and owner_of(handle) not in (current_user(), default_owner()):
            raise BadName(f"the pipe {place.name!r} belongs to another user: it is not to be trusted")
        return HandleTransport(handle)
    except OSError as error:
        _winapi.CloseHandle(handle)
        if isinstance(error, PipeError):
            raise
        raise system_error(error, f"the owner of the pipe {place.name!r} can't be told") from None


def _refusal(error: OSError, place: Place) -> PipeError:
    if error.winerror == _ERROR_FILE_NOT_FOUND:
        return NotConnected(error.errno, f"no server has the name {place.name!r}")
    if error.winerror == _winapi.ERROR_PIPE_BUSY:
        return PipeBusy(error.errno, f"the server {place.name!r} has no free instance")
    if error.winerror == _ERROR_ACCESS_DENIED:
        return BadName(error.errno, f"the pipe {place.name!r} does not let this user in: it is another user's")
    if error.winerror == _ERROR_INVALID_NAME:
        return BadName(error.errno, f"Windows refuses the pipe name {place.name!r}: choose another one")
    return system_error(error, f"connecting to {place.name!r} failed")
