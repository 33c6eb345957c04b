"""From the fork of a template to a guest: what a newborn closes, takes over, and is told.

Much of what Python touches it writes to, and a page that is written after a fork is copied, which takes 2 µs and its
share of memory. So little is done here, by code that has run before the fork (`rehearse`), and nothing twice: what a
template needs not have, it does not have.

At its birth a guest is told, on its control channel, a length and one value, with the working folder of its host; all
else is in the set-up, as for any guest. Runs on the main thread, which is the only one.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found,unused-ignore]  # it makes no members of enumerations, as `signal` does
import gc
import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cloister.guest import afresh, departure, descriptors, lifeline, rehearsal
from cloister.guest.boot import Guest
from cloister.guest.control import Control
from cloister.pipes.duplex import LaneEnd
from cloister.wire.values import Codec

assert sys.platform == "linux"

__all__ = ["BIRTH_HEADER", "PLACES", "Newborn"]

PLACES: Final = (
    descriptors.CONTROL,
    descriptors.LANE_READER,
    descriptors.LANE_WRITER,
    1,
    2,
    descriptors.PAGE,
)
"""Where a guest has the descriptors that come with the wish for it."""
BIRTH_HEADER: Final = struct.Struct("!I")
"""The length of what a guest is told at its birth; the descriptors come with it."""
_BYTES: Final = 4096


class Newborn:
    """A guest that is made before the fork, by the template, and lives after it."""

    def __init__(self, control: Control, guest: Guest, own: range) -> None:
        """`own` are the descriptors of the template alone."""
        self._control, self._guest, self._own = control, guest, own
        guest.forked = True
        control.vanishes = departure.vanish
        self.spoken: tuple[bytes, bytes] = (b"", b"")
        """What the imports have printed to stdout and stderr, which each guest prints again."""

    def rehearse(self) -> None:
        """Do some times over what can be done before the fork, so that it is quick after it, on fewer pages."""
        host, guest = socket.socketpair()
        folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
        birth = {"umask": _umask(), "cpus": sorted(os.sched_getaffinity(0)), "variables": {}}
        body = Codec().encode(birth)
        try:
            with host, guest:
                for _ in range(rehearsal.TIMES):
                    os.close(lifeline.tie(os.dup(descriptors.LIFELINE)))
                    socket.send_fds(host, [BIRTH_HEADER.pack(len(body)) + body], [folder])
                    _adopt(*_birth(guest)[:2])
        finally:
            os.close(folder)

    def live(self, fds: Sequence[int], waits: bool) -> None:
        """Be a guest, with these descriptors, until its end. `waits`: it is a spare, and there is time.

        Ends this process where the host wants none.
        """
        os.setsid()
        _signal.set_wakeup_fd(-1)
        _signal.signal(signal.SIGCHLD, 0)  # SIG_DFL
        os.closerange(self._own.start, self._own.stop)
        lifeline.tie(descriptors.LIFELINE)
        for fd, place in zip(fds, PLACES, strict=True):
            os.dup2(fd, place, inheritable=place in (1, 2))
            os.close(fd)
        afresh.begin()
        control, guest = self._control, self._guest
        control.hold()
        control.greet()
        if waits:
            try:
                rehearsal.rehearse(1)  # so that all that it writes to is its own before anybody waits for it
            except OSError:
                pass  # no descriptor is left; it will be slower
            gc.collect()  # of the rehearsal alone, with its page
            guest.wait_awake()
        birth, folder, more = _birth(control.channel)
        _adopt(birth, folder)
        control.feed(more)
        for fd, spoken in enumerate(self.spoken, 1):
            if spoken:
                os.write(fd, spoken)
        guest.come_up(LaneEnd(descriptors.LANE_READER, descriptors.LANE_WRITER), descriptors.PAGE)


def _birth(channel: socket.socket) -> tuple[dict[str, Any], int, bytes]:
    """Wait until the host wants this guest; what it says, its folder, and what it has said after that.

    Ends this process where it never will.
    """
    try:
        data, received, _, _ = socket.recv_fds(channel, _BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        end = 0
        while data and received:
            if not end and len(data) >= BIRTH_HEADER.size:
                end = BIRTH_HEADER.size + BIRTH_HEADER.unpack_from(data)[0]
            if end and len(data) >= end:
                return Codec().decode(data[BIRTH_HEADER.size : end]), received[0], data[end:]
            more = channel.recv(_BYTES)
            data = data + more if more else b""
    except OSError:
        pass
    os._exit(0)


def _adopt(birth: Mapping[str, Any], folder: int) -> None:
    """Take over from the host what a process that it starts by exec inherits, and what the key does not hold."""
    os.fchdir(folder)
    os.close(folder)
    os.umask(birth["umask"])
    if birth["cpus"] != sorted(os.sched_getaffinity(0)):
        try:
            for thread in os.listdir("/proc/self/task"):  # the control thread may be there
                os.sched_setaffinity(int(thread), birth["cpus"])
        except OSError:
            pass  # they were taken away meanwhile
    for name, value in birth["variables"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
