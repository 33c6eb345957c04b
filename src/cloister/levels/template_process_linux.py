"""One template as its host has it: its process, the guests that wait in it, and what is said between the two.

Which domains a template serves, and how many there are, is in `template_linux`; what the process does, and the
messages, in `cloister.guest.template_linux`. Its process is ours to reap, its guests are its own; they outlive it.

Any thread may enter; a lock is held while it is talked to, and a finalizer that starts a domain in the middle of that
gets none. How its guests end is in `template_endings_linux`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

assert sys.platform == "linux"

from cloister.errors import CloisterError
from cloister.guest import descriptors
from cloister.guest.newborn_linux import BIRTH_HEADER, PLACES
from cloister.guest.template_linux import MAX_PACKET, REPORTS, REQUESTS
from cloister.levels import lifeline
from cloister.levels.process_posix import launch
from cloister.levels.template_endings_linux import Endings
from cloister.levels.wiring_posix import Wiring, wire
from cloister.pipes.duplex import close_quietly
from cloister.wire.values import decode_once, encode_once

__all__ = ["MAX_SPARES", "Birth", "Spare", "Template", "begin"]

MAX_SPARES: Final = 4
"""The most spares that a template keeps by itself."""
FORK_S: Final = 10.0
"""How long a fork may take before the template is given up."""
LOOK_S: Final = 0.05
"""How long one thread waits for a template before it looks whether another one has heard what it waits for."""
_SHORT: Final = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""What this system is short of for the moment, where a message can't be sent."""


class Birth:
    """What a guest is told that begins to be a domain, with the folder of this process; closed by `close`."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Raises OSError where no descriptor is left."""
        encoded = encode_once(dict(body))
        self.data = BIRTH_HEADER.pack(len(encoded)) + encoded
        self.folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """It was told, or will not be."""
        close_quietly(self.folder)


@dataclass(slots=True)
class Spare:
    """A guest that was asked for; from its birth on it has a pid, and waits to be told which domain it is."""

    number: int
    wiring: Wiring
    told: bool = False
    pid: int = 0
    pidfd: int = -1

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def tell(self, birth: Birth) -> None:
        """Let it begin. Raises OSError where it is gone."""
        if not self.told:
            self.told = True
            if socket.send_fds(self.wiring.control, [birth.data], [birth.folder]) != len(birth.data):
                raise OSError("a new socket did not take a message")

    def close(self) -> None:
        """Let it go: it ends when its control channel does."""
        self.wiring.close()
        if self.pidfd >= 0:
            close_quietly(self.pidfd)


class _Gone(Exception):
    """The template has ended, or can't be talked to."""


@dataclass(eq=False, slots=True)
class Template:
    """One template's process, from its start to its end."""

    pid: int
    pidfd: int
    requests: socket.socket
    endings: Endings
    environment: Mapping[str, str] = field(default_factory=dict)
    """With which it was started."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    busy: bool = False
    """The lock is held; who holds it may be this very thread, further down."""
    is_ready: bool = False
    gone: bool = False
    failure: str = ""
    """Why it could not be made ready."""
    last: int = 0
    """The number of the last guest that was asked for."""
    wanted: int = 0
    """How many spares are kept."""
    coming: dict[int, Spare] = field(default_factory=dict)
    """Guests that were asked for and are not born yet, by number."""
    spares: deque[Spare] = field(default_factory=deque)
    # -- any thread, one at a time -----------------------------------------------------------------------------------

    def take(self, keep: int | None, birth: Birth) -> Spare | None:
        """A guest that was told to begin; None where there is none to be had. `keep`: how many spares are to wait."""
        with self.lock:
            if self.busy:
                return None
            self.busy = True
            spare = None
            try:
                spare = self._take(keep, birth)
                spare.tell(birth)
            except (_Gone, CloisterError):
                self.close()
            except OSError:  # no descriptor or process is left, or the guest has just been killed
                self._let_go(spare)
                return None
            except BaseException:
                self._let_go(spare)
                raise
            finally:
                self.busy = False
            return spare

    def _let_go(self, spare: Spare | None) -> None:
        """Nobody wants this guest any more, nor one that was told and is not born; that is to be no other's spare."""
        if spare is not None:
            spare.close()
        for number in [number for number, coming in self.coming.items() if coming.told]:
            self.coming.pop(number).close()

    def wait_ready(self, limit: float | None) -> bool:
        """Whether it has imported all. Waits until the time of `time.monotonic` comes; None: not at all.

        Others may talk to it meanwhile: the lock is not held while this waits.
        """
        while not self._is_settled():
            poll = select.poll()
            with self.lock:
                if self.busy:
                    return False
                self.busy = True
                try:
                    while not self._is_settled() and self._receive(0):
                        pass
                    if not self._is_settled():
                        poll.register(self.requests, select.POLLIN)
                except (_Gone, CloisterError):
                    self.close()
                except OSError:
                    pass  # a guest could not be forked; whoever wants one asks again
                finally:
                    self.busy = False
            if not self._is_settled():
                left = 0.0 if limit is None else limit - time.monotonic()
                if left <= 0:
                    return False
                poll.poll(min(left, LOOK_S) * 1000)
        return not self.gone

    def _is_settled(self) -> bool:
        return self.is_ready or self.gone

    def _take(self, keep: int | None, birth: Birth) -> Spare:
        limit = time.monotonic() + FORK_S
        while self._receive(0):
            pass
        self._bury()
        short = not self.spares
        hurried = False
        while not self.spares:
            if not self.coming:
                self._ask(birth)  # it begins while it is waited for here
            elif not hurried:
                self._send(["hurry"])
                hurried = True
            if not self._receive(max(0.0, limit - time.monotonic())):
                raise _Gone
            self._bury()
        taken = self.spares.popleft()
        if keep is not None:
            self.wanted = keep
        elif short:
            self.wanted = min(self.wanted + 1, MAX_SPARES)
        return taken

    def refill(self) -> None:
        """Ask for the spares that are missing. Does nothing where somebody else talks to it."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            if self.busy or self.gone:
                return
            self.busy = True
            try:
                for _ in range(self.wanted - len(self.spares) - len(self.coming)):
                    self._ask()
            except _Gone:
                self.close()
            except OSError:
                pass  # no descriptor is left for one that waits
            finally:
                self.busy = False
        finally:
            self.lock.release()

    def _bury(self) -> None:
        """Leave out the spares that have ended."""
        while self.spares and not self.spares[0].lives:
            self.spares.popleft().close()

    def _ask(self, birth: Birth | None = None) -> None:
        """Ask for a guest: one that is told to begin, or else a spare, which can come later."""
        self.last += 1
        spare = Spare(self.last, wire())
        try:
            if birth is not None:
                spare.tell(birth)
            fds = [spare.wiring.theirs[number] for number in PLACES]
            self._send(["fork", self.last, birth is None], fds)
        except BaseException:
            spare.close()
            raise
        spare.wiring.close_theirs()
        self.coming[self.last] = spare

    def _send(self, message: list[Any], fds: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self.requests, [encode_once(message)], fds)
        except OSError as error:
            if error.errno in _SHORT:
                raise
            raise _Gone from None

    def _receive(self, seconds: float) -> bool:
        """Take in a message; False where none comes in time. Raises `_Gone`, and OSError where a fork has failed."""
        poll = select.poll()
        poll.register(self.requests, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
        try:
            data, received, _, _ = socket.recv_fds(self.requests, MAX_PACKET, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            raise _Gone from None
        if not data:
            raise _Gone
        try:
            kind, *body = decode_once(data)
            if kind == "ready":
                self.is_ready = True
            elif kind == "failed":
                self.failure = str(body[0])
            elif kind == "born":
                number, pid = body
                if not received:
                    raise _Gone  # no descriptor is left here for it
                spare = self.coming.pop(number, None)
                if spare is not None:  # else whoever asked for it was interrupted
                    spare.pid, spare.pidfd = pid, received.pop()
                    self.spares.append(spare)
            elif kind == "unborn":
                number, code = body
                spare = self.coming.pop(number, None)
                if spare is not None:
                    spare.close()
                    raise OSError(code, os.strerror(code))
            else:
                raise _Gone
        except (LookupError, TypeError, ValueError):
            raise _Gone from None  # no template says that
        finally:
            close_quietly(*received)
        return True

    def close(self) -> None:
        """Let it end, as soon as its guests have. Idempotent."""
        with self.lock:
            self.gone = True
            if not self.is_ready:
                self.kill()  # it is importing, or no template at all
            self._close_requests()

    def _close_requests(self) -> None:
        self.requests.close()
        for spare in self.coming.values():
            spare.close()
        self.coming.clear()
        while self.spares:
            self.spares.popleft().close()

    # -- its end -----------------------------------------------------------------------------------------------------

    def reap(self, seconds: float) -> bool:
        """Let the kernel forget it; False where it has not ended in time."""
        if self.pidfd >= 0:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(seconds * 1000):
                return False
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass  # another part of this program has taken its status
            close_quietly(self.pidfd)
            self.pidfd = -1
            self.endings.leave()
        return True

    def kill(self) -> None:
        """End it at once; its guests go on."""
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def disown(self) -> None:
        """Close what a forked child of the host has inherited of it; the process is the parent's, and goes on."""
        self.lock = threading.RLock()
        self.gone = True
        self._close_requests()
        self.endings.disown()
        if self.pidfd >= 0:
            close_quietly(self.pidfd)
            self.pidfd = -1


def begin(command: Sequence[str], environment: Mapping[str, str], order: Mapping[str, Any]) -> Template:
    """Start the process of a template. Raises OSError; nothing is left then."""
    opened: list[int] = []
    sockets: list[socket.socket] = []
    try:
        for _ in range(2):
            sockets += socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        placed = [
            (sockets[1].fileno(), REQUESTS),
            (sockets[3].fileno(), REPORTS),
            (lifeline.reader(), descriptors.LIFELINE),
        ]
        opened += os.pipe()  # its streams are made for pipes; it keeps what they say elsewhere
        placed += [(opened[1], 1), (opened[1], 2)]
        socket.send_fds(sockets[0], [encode_once(dict(order))], [])
        pid = launch(command, environment, placed)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except BaseException:
        for one in sockets[::2]:
            one.close()
        raise
    finally:
        close_quietly(*opened)
        for one in sockets[1::2]:
            one.close()
    return Template(pid, pidfd, sockets[0], Endings(sockets[2]), environment)
