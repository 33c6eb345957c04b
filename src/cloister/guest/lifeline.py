"""A guest ends with its host, whatever it is doing: the lifeline.

The host has one pipe that it never writes and whose write end only it holds. The guest opens the read end anew (so that
it has flags of its own), asks the kernel for a signal when something happens to it, and chooses SIGKILL for its whole
process group. When the host ends, however it ends, the kernel closes the write end and kills the group, about a
millisecond later and without any code of the guest (fcntl(2): O_ASYNC, F_SETSIG, F_SETOWN). The parent-death signal
would not do: it follows the thread that made the guest.

Where this can't be had (no Linux), the end of file on the control channel ends the guest.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["tie"]


def tie(fd: int) -> int:
    """Tie this process's group to the host that holds the write end of `fd`; the descriptor is used up.

    Returns the descriptor that ties it, or -1 where there is none; a fork of this process closes it, and ties itself.

    Ends this process where the host is gone already. Does nothing but close the descriptor where the platform has no
    such means.
    """
    if sys.platform != "linux":
        os.close(fd)
        return -1
    import fcntl
    import select

    own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(fd)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(own, 0)
    if poll.poll(0):  # it ended before the signal was asked for
        os.killpg(0, signal.SIGKILL)
    return own
