"""How a process has ended, as far as the kernel tells, on POSIX; nothing here ends one.

`waitid` tells it to the parent, once. Where the application ignores SIGCHLD, or has taken the status with
``waitpid(-1)``, Linux 6.15 and later tells it again through the pidfd (PIDFD_GET_INFO); else it is lost. Of a process
that its parent has not reaped yet, ``/proc`` tells it to everybody. Nothing here waits. Any thread may enter.
"""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass

assert sys.platform != "win32"

import fcntl

__all__ = ["Ending", "ending_of", "is_child", "is_over", "status_of", "status_unreaped"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended, as far as the kernel told."""

    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    """In bytes."""

    @property
    def known(self) -> bool:
        """False where the kernel lost the status."""
        return self.exit_code is not None or self.signal is not None


def ending_of(status: int, cpu_seconds: float | None = None, peak_memory: int | None = None) -> Ending:
    """What a wait status means."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    return Ending(code, number, cpu_seconds, peak_memory)


_INFO = struct.Struct("QQ11Ii")
"""struct pidfd_info of linux/pidfd.h in its first size: mask, cgroup, eleven ids, exit code; 64 bytes."""
_GET_INFO = 0xC040FF0B
"""PIDFD_GET_INFO: _IOWR(0xFF, 11, 64 bytes)."""
_INFO_EXIT = 1 << 3
"""PIDFD_INFO_EXIT, Linux 6.15: the exit status, also after the process was reaped."""
_STATUS_FIELD = 49
"""Where ``/proc/pid/stat`` has the wait status, counted from the letter of the state, which follows the name."""


def status_of(pidfd: int) -> int | None:
    """The wait status that the kernel keeps with the pidfd; None where it has none yet.

    A pidfd is readable before that: within 10 ms when this was measured, and not before the process is reaped. Raises
    LookupError where it never will have one: on an older kernel, or another system.
    """
    if pidfd < 0 or sys.platform != "linux":
        raise LookupError(pidfd)
    info = bytearray(_INFO.size)
    struct.pack_into("Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:
        raise LookupError(pidfd) from None
    mask, *_, status = _INFO.unpack(info)
    return int(status) if mask & _INFO_EXIT else None


def status_unreaped(pid: int) -> int | None:
    """The wait status of a process that has ended and that its parent, who is somebody else, has not reaped yet.

    None where it was reaped, or is not known. To be believed where `pid` is that process's own for sure, before and
    after.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[_STATUS_FIELD]) if fields[0] == b"Z" and len(fields) > _STATUS_FIELD else None


if sys.platform == "linux":

    def is_over(pid: int) -> bool:
        """Whether a child has ended; its status is not taken."""
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def is_child(pid: int) -> bool:
        """Whether a process, which has ended, has not been reaped by anybody: its number is still its own."""
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False
else:  # another platform

    def is_over(pid: int) -> bool:
        """Whether a child has ended; its status is not taken. Python has no waitid for this system before 3.13."""
        import psutil

        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    def is_child(pid: int) -> bool:
        """Whether a process, which has ended, has not been reaped by anybody: its number is still its own."""
        import psutil

        return psutil.pid_exists(pid)
