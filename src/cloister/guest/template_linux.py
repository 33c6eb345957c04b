"""The template: a process that has imported what its guests need, and forks one whenever its host asks.

It is started by exec, as a guest is, and has one thread, so that a fork of it is sound. It never runs a call. Its
messages, one packet each, are values of the codec:

=========================================  =========================================================================
from the host                              what it means
=========================================  =========================================================================
order                                      the first message: what to import, and where it is found
``fork``, number, later                    fork a guest; its descriptors come along, in the order of `PLACES`.
                                           ``later``: not before it has been quiet for a moment
``hurry``                                  fork now what was asked for
=========================================  =========================================================================

=========================================  =========================================================================
to the host                                what it means
=========================================  =========================================================================
``ready``                                  all is imported; or ``failed`` and why, and then it ends
``born``, number, pid                      with a pidfd; or ``unborn``, number, errno
``ended``, number, status, seconds, bytes  on the second socket: how a guest ended, with its CPU time and peak memory
=========================================  =========================================================================

What a guest serves with is made before the fork, by `boot.make`, and has been in use (`rehearsal`). What happens after
the fork is in `newborn_linux`; what a fork must not share is put right in `afresh`.

It ends when the host closes the first socket and its guests have ended, or when nobody has needed it for a while. It
kills a guest's group before it lets the kernel forget the guest, so that the group's number is nobody else's.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloister.guest import (
    afresh,
    boot,
    departure,
    descriptors,
    filling,
    lifeline,
    local,
    preloading,
    program,
    rehearsal,
)
from cloister.wire.values import Codec

assert sys.platform == "linux"

import fcntl

from cloister.guest.newborn_linux import PLACES, Newborn

__all__ = ["LATER_S", "MAX_PACKET", "REPORTS", "REQUESTS", "main"]

REQUESTS: Final = descriptors.CONTROL
REPORTS: Final = descriptors.LANE_READER
"""Where a template finds its two sockets."""
MAX_PACKET: Final = 128 * 1024
"""Bytes of the order, and of what is said to the host."""
MAX_WISH: Final = 4096
"""Bytes of any other message of the host."""
LATER_S: Final = 0.02
"""How long it must have been quiet before a spare is forked: who has just started a guest waits for its answer."""
MAX_SHOWN: Final = 16 * 1024
"""Bytes of what the modules have printed while they were imported that each guest prints again."""
_ABOVE: Final = 32
"""Its own descriptors are moved above this number, where no guest is given one."""


def main() -> None:
    """Be a template; in each guest that is forked, be that guest."""
    import faulthandler  # noqa: F401 - each guest needs it; not where this file is loaded: a sub-interpreter refuses it

    template = _Template()
    if template.prepare():
        template.serve()
    os._exit(0)  # the exit hooks of what was imported belong to the guests


@dataclass(slots=True)
class _Wish:
    """A guest that is to be forked."""

    number: int
    fds: list[int]
    later: bool

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class _Template:
    def __init__(self) -> None:
        os.closerange(descriptors.FIRST_FREE, os.sysconf("SC_OPEN_MAX"))
        os.set_inheritable(descriptors.LIFELINE, False)
        requests, reports = _moved(REQUESTS), _moved(REPORTS)
        # A fork closes all of them at once, and forgets these two objects: it does nothing to them any more.
        self._requests, self._reports = socket.socket(fileno=requests), socket.socket(fileno=reports)
        self._reports.setblocking(False)
        # What is imported may open files: these numbers belong to the guests.
        for fd in range(descriptors.CONTROL, descriptors.FIRST_FREE):
            if fd != descriptors.LIFELINE:
                os.dup2(0, fd, inheritable=False)
        channel, unused = socket.socketpair()
        os.dup2(channel.fileno(), descriptors.CONTROL, inheritable=False)  # until a guest has its own there
        channel.close()
        _moved(unused.detach())
        _moved(lifeline.tie(os.dup(descriptors.LIFELINE)))
        self._later: deque[_Wish] = deque()
        self._children: dict[int, int] = {}
        """The numbers of the guests that were forked, by pid."""
        self._endings: deque[list[Any]] = deque()
        """How guests have ended, until it is told: the socket takes some hundreds, and the host may be slow."""
        self._wake_reader, self._wake_writer = (_moved(fd) for fd in os.pipe())
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._own = range(requests, self._wake_writer + 1)
        """Its own descriptors, which have numbers in a row: nothing was imported yet."""

    def prepare(self) -> bool:
        """Import what the host orders; False where that can't be, or where there is no host any more."""
        order = self._receive(MAX_PACKET)[0]
        if order is None:
            return False
        local.enter(local.Place("", -1))
        self._idle_s = order["idle_s"]
        before = list(sys.path)
        try:
            boot.use_utf8()
            for fd in (1, 2):
                kept = os.memfd_create("cloister-output", os.MFD_CLOEXEC)
                os.dup2(kept, fd)
                os.close(kept)
            if order["preload"]:
                boot.find_modules(order)
            for name in order["preload"]:
                preloading.preload(name, alone=True)
        except BaseException as error:
            _send(self._requests, ["failed", f"{type(error).__name__}: {error}"[:1000]])
            return False
        sys.path[:] = before  # each guest finds its own
        afresh.begin()  # 50 ms with numpy.random, the first time
        rehearsal.rehearse()
        control, guest = boot.make()
        guest.hear()
        self.newborn = Newborn(control, guest, self._own)
        self.newborn.rehearse()
        self.newborn.spoken = (_taken(1), _taken(2))
        gc.collect()
        departure.note_files()
        self._filling = filling.fill()
        gc.freeze()  # a collection in a guest touches none of it, so that its pages stay shared
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        return _send(self._requests, ["ready"])

    def serve(self) -> None:
        """Serve the host, until this process is to end. In a guest this never returns."""
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        poll.register(self._requests, select.POLLIN)
        asked = time.monotonic()
        leaving = False
        while True:
            if leaving and not self._children and not self._endings:
                return
            wait = None if leaving else LATER_S if self._later else self._idle_s
            ready = {fd for fd, _ in poll.poll(None if wait is None else wait * 1000)}
            if self._wake_reader in ready:
                self._reap()
            self._tell_endings(poll)
            wishes: list[_Wish] = []
            if self._requests.fileno() in ready:
                asked = time.monotonic()
                message, received = self._receive(MAX_WISH)
                if message is None:
                    poll.unregister(self._requests)
                    leaving = True
                    self._forget_wishes([])
                elif message[0] == "hurry":
                    wishes, self._later = list(self._later), deque()
                elif message[0] == "fork" and received:
                    wish = _Wish(message[1], received, bool(message[2]))
                    if wish.later:
                        self._later.append(wish)
                    else:
                        wishes.append(wish)
            elif not ready and self._later:
                wishes.append(self._later.popleft())
            elif not (ready or self._children or self._endings) and time.monotonic() - asked >= self._idle_s:
                return
            while wishes:
                self._fork(wishes.pop(0), wishes)

    # -- the template ------------------------------------------------------------------------------------------------

    def _receive(self, size: int) -> tuple[Any, list[int]]:
        """The next message; None where the host has gone, or does not need this process any more."""
        try:
            data, received, _, _ = socket.recv_fds(self._requests, size, len(PLACES), socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None, []
        return (Codec().decode(data) if data else None), received

    def _fork(self, wish: _Wish, others: Sequence[_Wish]) -> None:
        """Fork a guest. `others` are not for it."""
        try:
            pid = _fork()
        except OSError as error:
            wish.close()
            _send(self._requests, ["unborn", wish.number, error.errno])
            return
        if pid == 0:
            # From here, and not at the end of `serve`: what this would give up on its way there is left where it is.
            if self._later or others:
                self._forget_wishes(others)
            code = 0
            try:
                self.newborn.live(wish.fds, wish.later)
            except BaseException as error:
                # These numbers are closed, and may be a file of the user's by now.
                self._requests.detach()
                self._reports.detach()
                if not isinstance(error, SystemExit):
                    raise
                code = program.exit_code(error) & 0xFF
            departure.leave(forked=True, code=code)
        self._children[pid] = wish.number
        pidfd = -1
        try:
            pidfd = os.pidfd_open(pid)
            _send(self._requests, ["born", wish.number, pid], [pidfd])
        except OSError as error:  # no descriptor is left; the guest ends with its control channel
            _send(self._requests, ["unborn", wish.number, error.errno])
        if pidfd >= 0:
            os.close(pidfd)
        wish.close()

    def _reap(self) -> None:
        """Note how guests ended, and let the kernel forget them."""
        try:
            while os.read(self._wake_reader, 4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            number = self._children.pop(pid, None)
            if number is not None:
                try:
                    os.killpg(pid, signal.SIGKILL)
                except OSError:
                    pass
            _, status, usage = os.wait4(pid, 0)
            if number is not None:
                seconds = usage.ru_utime + usage.ru_stime
                self._endings.append(["ended", number, status, seconds, usage.ru_maxrss * 1024])

    def _tell_endings(self, poll: select.poll) -> None:
        """Tell the host what it takes of how guests ended, and what is left when there is room."""
        if not self._endings:
            return
        while self._endings:
            try:
                socket.send_fds(self._reports, [Codec().encode(self._endings[0])], [])
            except BlockingIOError:
                poll.register(self._reports, select.POLLOUT)
                return
            except OSError:
                pass  # nobody wants to know
            self._endings.popleft()
        try:
            poll.unregister(self._reports)
        except KeyError:
            pass  # it was not waited for

    def _forget_wishes(self, others: Sequence[_Wish]) -> None:
        for wish in (*self._later, *others):
            wish.close()
        self._later.clear()


def _moved(fd: int) -> int:
    """The same descriptor with a number that no guest is given."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    os.close(fd)
    return moved


def _fork() -> int:
    if sys.version_info < (3, 12):
        return os.fork()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # native pools take part in a fork; Python counts their threads
        return os.fork()


def _send(channel: socket.socket, message: list[Any], fds: Sequence[int] = ()) -> bool:
    """Send a message; False where it can't be."""
    try:
        socket.send_fds(channel, [Codec().encode(message)], fds)
    except OSError:
        return False
    return True


def _taken(fd: int) -> bytes:
    """What was printed so far, cut in the middle where it is long; from here on it goes nowhere."""
    (sys.stdout if fd == 1 else sys.stderr).flush()
    size = os.fstat(fd).st_size
    text = os.pread(fd, MAX_SHOWN, max(0, size - MAX_SHOWN))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)
    return text
