"""How a process has ended, as far as the kernel tells, on POSIX; nothing here ends one.

`waitid` tells it to the parent, once. Where the application ignores SIGCHLD, or has taken the status with
``waitpid(-1)``, Linux 6.15 and later tells it again through the pidfd (PIDFD_GET_INFO); else it is lost. Any thread may
enter.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from dataclasses import dataclass

assert sys.platform != "win32"

import fcntl

__all__ = ["Ending", "ending_of", "is_child", "is_over", "status_of"]


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
_RELEASE_S = 0.5
"""A pidfd is readable before the kernel has stored the status with it: within 10 ms when this was measured."""


def status_of(pidfd: int) -> int | None:
    """The wait status that the kernel keeps with the pidfd, or None; waits up to half a second for it to be stored."""
    if pidfd < 0 or sys.platform != "linux":
        return None
    give_up = time.monotonic() + _RELEASE_S
    while True:
        info = bytearray(_INFO.size)
        struct.pack_into("Q", info, 0, _INFO_EXIT)
        try:
            fcntl.ioctl(pidfd, _GET_INFO, info)
        except OSError:
            return None  # an older kernel
        mask, *_, status = _INFO.unpack(info)
        if mask & _INFO_EXIT:
            return int(status)
        if time.monotonic() > give_up:
            return None
        time.sleep(0.0005)


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
