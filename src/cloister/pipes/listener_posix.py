"""A name under which clients are served on POSIX, and the client's way to it.

Here are `SocketListener`, `listen`, `connect_now` and `find_place`; promises are in `transport`, the place and its
claim in `place_posix`, a connected end in `transport_posix`.

**Busy.** A Unix socket lets clients connect before anybody accepts them, so that a client can't tell whether it will
ever be served. Where there is a limit, at most as many clients may be in the kernel's queue as instances are free:

==========================  ==================================  =============================================
instances                   the socket                          a client that comes now
==========================  ==================================  =============================================
F free, fewer than F wait   listens, queue of F - 1 (the        is connected, and will be accepted
                            kernel admits one more)
F free, F wait              the same                            EAGAIN: busy
none free                   closed, its file stays              ECONNREFUSED, and the name is claimed: busy
server gone                 closed, its file may stay           ECONNREFUSED, not claimed: nobody serves
==========================  ==================================  =============================================

So the kernel decides who gets the last instance, and it costs the server nothing to be busy. The queue is made shorter
*before* a client is taken out of it, and shut before the last one is.

Any thread may enter; one at a time accepts.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # before the imports: a type checker for Windows leaves the rest out

import contextlib
import errno
import logging
import os
import select
import socket
import weakref
from collections.abc import Callable

from cloister.errors import BadName, NameTaken, NotConnected, PipeBusy, PipeError
from cloister.pipes.gate_posix import Gate, system_error
from cloister.pipes.names import Place, Style, posix_place
from cloister.pipes.place_posix import (
    Claim,
    check_socket,
    is_claimed,
    open_directory,
    reachable,
    remove_if_same,
    set_mode,
)
from cloister.pipes.transport import Listener
from cloister.pipes.transport_posix import SocketTransport, make_gate, wait_for

__all__ = ["SocketListener", "connect_now", "find_place", "listen"]

_QUEUE = 128
"""Clients that may wait to be accepted where there is no limit of instances; the customary SOMAXCONN."""

_log = logging.getLogger("cloister.pipes")


def find_place(name: str, style: Style) -> Place:
    """Where a pipe of this name lies for the current user. Raises `BadName`."""
    return posix_place(name, style, os.environ, os.geteuid())


class SocketListener(Listener):
    """A claimed place, and a listening socket there while an instance is free."""

    def __init__(self, place: Place, *, max_instances: int | None, current_user_only: bool) -> None:
        self._place = place
        self._max = max_instances
        self._mode = 0o600 if current_user_only else 0o666
        self._current_user_only = current_user_only
        self._taken = 0
        self._sock: socket.socket | None = None
        self._shut = False  # `_sock` lets nobody in any more, but may have a client in its queue
        self._made: os.stat_result | None = None
        self._changed: Callable[[], None] | None = None
        self._gate = Gate(f"the pipe server {place.name!r}")
        self._lock = self._gate.lock
        try:
            self._claim = Claim(place)
        except BaseException:
            self._gate.close()
            raise
        self._gate.on_release(self._release)
        try:
            self._listen()
        except BaseException:
            self.close()
            raise

    # -- the listening socket; all under the lock ---------------------------------------------------------------------

    def _listen(self) -> None:
        self._remove_file()
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            with reachable(self._place) as path:
                sock.bind(path)
                self._made = os.lstat(path)  # first: what fails from here on is cleared away
                set_mode(path, self._mode)  # nobody can connect before listen(), whatever the mode is until now
            sock.listen(_QUEUE if self._max is None else min(_QUEUE, self._max - self._taken - 1))
        except OSError as error:
            if sock is not None:
                sock.close()
            if isinstance(error, PipeError):
                raise
            if error.errno == errno.ENOENT:
                raise BadName(error.errno, f"the folder of the pipe {self._place.path!r} does not exist") from None
            if error.errno == errno.EADDRINUSE:  # a server that knows nothing of claims was quicker
                raise NameTaken(error.errno, f"the pipe name {self._place.name!r} is taken by another server") from None
            raise system_error(error, f"the pipe {self._place.path!r} can't be made") from None
        self._sock = sock
        self._shut = False

    def _stop_listening(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _remove_file(self) -> None:
        if self._made is not None:
            remove_if_same(self._place.path, self._made)
            self._made = None

    def _release(self) -> None:
        self._stop_listening()
        if self._gate.foreign:
            self._claim.forget()
        else:
            self._claim.release()

    # -- Listener -----------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        return self._gate.generation

    @property
    def closed(self) -> bool:
        return self._gate.closed

    def accept(self, deadline: float | None, since: int) -> SocketTransport:
        self._gate.enter(since)
        try:
            while True:
                poll = select.poll()
                fd = self._waiting_fd()
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
                poll.register(self._gate.wake_fd, select.POLLIN)
                otherwise = "no client came" if fd >= 0 else f"all {self._max} instances stayed in use"
                # Returns as well, without a client, when an instance was freed or taken meanwhile.
                wait_for(poll, fd, self._gate, deadline, since, otherwise, once=True)
                transport = self._take()
                if transport is not None:
                    return transport
        finally:
            self._gate.leave(since)

    def _waiting_fd(self) -> int:
        with self._lock:
            if self._sock is None and not self.closed and self._has_free():
                self._listen()  # it could not be made when the instance was freed
            return -1 if self._sock is None else self._sock.fileno()

    def _has_free(self) -> bool:
        return self._max is None or self._taken < self._max

    def _take(self) -> SocketTransport | None:
        """The client at the head of the queue; None when there is none, or none that may come in."""
        gate = make_gate()  # before the client is taken out of the queue: when this fails, the client keeps its place
        try:
            with self._lock:
                sock = self._take_socket()
        except BaseException:
            gate.close()
            raise
        if sock is None:
            gate.close()
            return None
        try:
            transport = SocketTransport(sock, gate=gate, on_close=_Freed(self))
        except PipeError as error:  # the client left in the meantime, and took its identity along
            _log.warning("a client of pipe %r was dropped: %s", self._place.name, error)
            sock.close()
            self._free()
            return None
        peer = transport.peer
        if self._current_user_only and peer.uid not in (None, os.geteuid()):
            _log.warning("pipe %r refused process %s of user %s", self._place.name, peer.pid, peer.uid)
            transport.close()
            return None
        return transport

    def _take_socket(self) -> socket.socket | None:
        listening = self._sock
        if listening is None:
            return None
        poll = select.poll()
        poll.register(listening, select.POLLIN)
        if not poll.poll(0):
            return None
        if self._max is not None:
            self._shorten_queue(listening, self._max - self._taken)
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, ConnectionError):
            sock = None
        except OSError as error:
            raise system_error(error, f"accepting a client of pipe {self._place.name!r} failed") from None
        if sock is not None:
            self._taken += 1
        if self._shut:  # its queue had one client at most; a shut socket can't be opened again
            self._stop_listening()
            if self._has_free() and not self.closed:
                self._listen()
            self._tell()
        return sock

    def _shorten_queue(self, listening: socket.socket, free: int) -> None:
        """One client is about to be taken out, so that one less may be let in."""
        with contextlib.suppress(OSError):  # macOS can do neither: there one client too many may come, and is reset
            if free > 1:
                listening.listen(min(_QUEUE, free - 2))
            else:
                self._shut = True
                listening.shutdown(socket.SHUT_RD)

    def _free(self) -> None:
        """An accepted pipe was closed on this side. Never raises."""
        with self._lock:
            self._taken -= 1
            if self.closed or self._max is None:
                return
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.listen(min(_QUEUE, self._max - self._taken - 1))
                return
            with contextlib.suppress(PipeError):  # accept() tries again, and reports it
                self._listen()
            self._tell()
            self._gate.nudge()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()

    def cancel(self) -> None:
        self._gate.cancel()

    def close(self) -> None:
        if self._gate.foreign:
            return
        with self._lock:
            if not self.closed:
                self._remove_file()
            if self._gate.close():
                self._tell()

    def fileno(self) -> int:
        self._gate.require_open()
        return self._waiting_fd()

    def watch(self, changed: Callable[[], None] | None) -> None:
        self._changed = changed


class _Freed:
    """Tells a listener that a pipe was closed, without keeping the listener alive."""

    def __init__(self, listener: SocketListener) -> None:
        self._listener = weakref.ref(listener)

    def __call__(self) -> None:
        listener = self._listener()
        if listener is not None:
            listener._free()


def listen(place: Place, *, max_instances: int | None, current_user_only: bool) -> SocketListener:
    """Claim a place and listen there; see `transport` for what it raises."""
    return SocketListener(place, max_instances=max_instances, current_user_only=current_user_only)


def connect_now(place: Place, *, current_user_only: bool) -> SocketTransport:
    """One attempt to connect; see `transport` for what it raises."""
    gate = make_gate()
    sock = None
    try:
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            _reach(sock, place, current_user_only)
        except PipeError:
            raise
        except OSError as error:
            raise _not_reached(error, place) from None
        transport = SocketTransport(sock, gate=gate)
    except BaseException:
        gate.close()
        if sock is not None:
            sock.close()
        raise
    uid = transport.peer.uid
    if current_user_only and uid not in (None, os.geteuid()):
        transport.close()
        raise BadName(
            errno.EPERM,
            f"the pipe {place.name!r} is served by user {uid}, not by user {os.geteuid()}: it is not to be "
            "trusted (current_user_only=False allows it)",
        )
    return transport


def _reach(sock: socket.socket, place: Place, current_user_only: bool) -> None:
    if place.private:
        os.close(open_directory(place, make=False))
    check_socket(place, current_user_only=current_user_only)
    with reachable(place) as path:
        sock.connect(path)


def _not_reached(error: OSError, place: Place) -> PipeError:
    number = error.errno
    if number in (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN):
        if number == errno.EAGAIN or is_claimed(place):
            return PipeBusy(number, f"the pipe {place.name!r} is busy: all of its instances are in use")
        return NotConnected(number, f"no server listens at the pipe {place.name!r} ({place.path})")
    if number in (errno.EACCES, errno.EPERM):
        return BadName(number, f"the pipe {place.name!r} ({place.path}) does not let this user in")
    return system_error(error, f"connecting to the pipe {place.name!r} failed")
