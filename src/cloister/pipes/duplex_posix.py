"""Nameless pipes between a host and a guest: two one-way pipes for a lane, a socket pair for the control channel.

Here descriptors are made and handed over; nothing here knows frames. The host makes every pipe, because whoever makes a
pipe can flip the flags of both ends. Any thread may enter.

On Linux a lane is two pipes: they cost 40 % less per round trip than a socket pair. Elsewhere it is two socket pairs,
because there only a socket can wake a thread that reads it. The write ends do not block, so that a writer can wait with
a deadline; the read ends do, because a blocking read is one system call. A pipe is shrunk to 16 KiB: an unprivileged
user has a quota of pages, and past it each new pipe holds only 8 KiB (pipe(7)).
"""

from __future__ import annotations

import array
import os
import socket
import sys
from typing import NamedTuple

assert sys.platform != "win32"

__all__ = [
    "SHARED_PIPE_BYTES",
    "LaneEnd",
    "close_quietly",
    "control_pair",
    "lane_pair",
    "receive_with_descriptors",
    "receive_without_descriptors",
    "send_with_descriptors",
    "wake",
]

PIPE_BYTES = 16 * 1024
"""The size of a lane's pipes; the smallest for which a message of a few KiB needs no second wake-up."""

SHARED_PIPE_BYTES = 64 * 1024
"""That of a shared lane's, of which a domain has few: many calls lie in it at once."""

MAX_DESCRIPTORS = 4
"""The most descriptors that one message of a control channel carries."""

if sys.platform == "linux":
    from fcntl import F_SETPIPE_SZ, fcntl

    _CLOSE_ON_EXEC = socket.MSG_CMSG_CLOEXEC

    def _one_way(size: int = PIPE_BYTES) -> tuple[int, int]:
        """Make a pipe that holds so many bytes: (read end, write end)."""
        reader, writer = os.pipe()
        try:
            fcntl(writer, F_SETPIPE_SZ, size)
        except OSError:
            pass  # EPERM: past the user's quota of pages a pipe has what the kernel gives it
        return reader, writer

    def wake(reader: int) -> None:
        """Make a thread that blocks in a read of this end return, with one byte that belongs to nobody.

        Closing the descriptor would not: the thread would sleep on, and the number would be used again. The caller
        marks the lane as broken first. Never raises.
        """
        try:
            fd = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(fd, b"\0")
        except OSError:
            pass  # EAGAIN: the pipe is full, so the reader does not sleep
        finally:
            os.close(fd)
else:  # another platform
    _CLOSE_ON_EXEC = 0

    def _one_way(size: int = 0) -> tuple[int, int]:
        """Make a channel that `wake` can shut down: (read end, write end)."""
        reader, writer = socket.socketpair()
        return reader.detach(), writer.detach()

    def wake(reader: int) -> None:
        """Make a thread that blocks in a read of this end return with end of file. Never raises."""
        channel = socket.socket(fileno=os.dup(reader))
        try:
            channel.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        finally:
            channel.close()


class LaneEnd(NamedTuple):
    """The two descriptors of one end of a lane. Neither is inherited by a child that is not told to."""

    reader: int
    """Reads block."""
    writer: int
    """Writes do not block."""

    def close(self) -> None:
        """Close both. Never raises; only the thread that uses the lane calls this."""
        close_quietly(self.reader, self.writer)


def close_quietly(*descriptors: int) -> None:
    """Close descriptors that may be closed already by the end of their peer; never raises."""
    for fd in descriptors:
        try:
            os.close(fd)
        except OSError:
            pass


def lane_pair(size: int = PIPE_BYTES) -> tuple[LaneEnd, LaneEnd]:
    """Make both ends of a lane: (host's end, guest's end). `size` is the bytes that each pipe holds, where pipes are.

    Raises OSError (EMFILE, ENFILE) where no descriptor is left; nothing is left open then.
    """
    down_reader, down_writer = _one_way(size)
    try:
        up_reader, up_writer = _one_way(size)
    except OSError:
        close_quietly(down_reader, down_writer)
        raise
    for writer in (down_writer, up_writer):
        os.set_blocking(writer, False)
    return LaneEnd(up_reader, down_writer), LaneEnd(down_reader, up_writer)


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Make both ends of a control channel: (host's end, guest's end). Raises OSError as `lane_pair`."""
    host, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    host.setblocking(False)
    return host, guest


def send_with_descriptors(channel: socket.socket, data: bytes, descriptors: tuple[int, ...]) -> int:
    """Send data, the descriptors with its first byte; return how many bytes the kernel took (it may be fewer).

    Raises BlockingIOError where nothing was taken, and OSError where the peer is gone.
    """
    rights = array.array("i", descriptors)
    return channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def receive_with_descriptors(channel: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Receive at most `size` bytes and the descriptors that came with them, closed on exec. No bytes: end of file."""
    return socket.recv_fds(channel, size, MAX_DESCRIPTORS, _CLOSE_ON_EXEC)[:2]


def receive_without_descriptors(channel: socket.socket, size: int) -> tuple[bytes, bool]:
    """Receive at most `size` bytes, and whether descriptors came with them, which the kernel has dropped then."""
    data, _, flags, _ = channel.recvmsg(size)
    return data, bool(flags & socket.MSG_CTRUNC)
