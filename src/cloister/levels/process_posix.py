"""The process level on POSIX: start a guest by exec, know it by its pidfd, learn how it ended, kill its whole tree.

Here is the kernel's side of a guest's life; what is said to it is not known here. Each function says which thread may
enter.

**Known by pidfd, never by a bare pid.** A pid may be another process a moment after its owner was reaped. Linux 6.9 and
later signal a process group through the pidfd, too. Before that the group is known by the guest's pid, which stays
reserved until the guest is reaped; so the group is killed first and the guest reaped last. Whoever sends a signal holds
the lock under which the guest is reaped and the pidfd closed.

**The exact status.** `waitid` tells it to the parent, once. Where the application ignores SIGCHLD, or has taken the
status with ``waitpid(-1)``, Linux 6.15 and later tells it again through the pidfd (PIDFD_GET_INFO); else it is lost.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cloister.guest import descriptors
from cloister.levels.descendants import Descendant, descendants
from cloister.pipes.duplex import LaneEnd, close_quietly

assert sys.platform != "win32"

import fcntl
import select

__all__ = ["Ending", "Process", "ending_of", "launch", "output_pipes", "spawn"]

_ABOVE = 32
"""Descriptors of the host are moved above this number before they are placed in the guest, so that placing one can't
overwrite another that is still to be placed."""
_TO_GROUP = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP of linux/pidfd.h, Linux 6.9."""


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


class Process:
    """A guest's process, and the host's ends of what leads to it."""

    def __init__(
        self,
        pid: int,
        pidfd: int,
        control: socket.socket,
        output: tuple[int, int],
        told: Callable[[], Ending | None] | None = None,
    ) -> None:
        """`pidfd` is -1 where the platform has none. All descriptors but `control` belong to this object.

        `told` is given where the guest is another process's child: it says how the guest ended, or None. That parent
        kills the guest's group before it reaps the guest.
        """
        self.pid = pid
        self.pidfd = pidfd
        self.control = control
        """The host's end of the control channel. Whoever reads and writes it closes it."""
        self.output = output
        """The read ends of its stdout and stderr; they do not block."""
        self.reaped: Ending | None = None
        """How it ended, once that was asked; from then on nothing is sent to its number any more."""
        self._told = told
        self._strays: list[Descendant] = []
        self._lock = threading.RLock()  # a finalizer may call, and so signal, while it is held

    def has_ended(self) -> bool:
        """Whether the guest has ended, as the kernel sees it at this moment; takes nothing from anybody. Any thread."""
        with self._lock:
            if self.reaped is not None:
                return True
            if self.pidfd >= 0:
                poll = select.poll()
                poll.register(self.pidfd, select.POLLIN)
                return bool(poll.poll(0))
            return _is_over(self.pid)

    def signal(self, number: int) -> bool:
        """Send a signal to the guest itself; False where it has ended. Any thread."""
        with self._lock:
            return self._signal(number)

    def _signal(self, number: int) -> bool:
        if self.reaped is not None:
            return False
        try:
            if self.pidfd >= 0 and sys.platform == "linux":
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def remember_descendants(self) -> None:
        """Note which processes descend from the guest, so that they end with it, also where they have left its group.

        Once it has ended, nobody knows any more whose children they were. Any thread; what it costs is in
        `descendants`.
        """
        if self.reaped is None:
            self._strays += descendants(self.pid)
            if self.reaped is not None:  # it ended meanwhile
                self._kill_strays()

    def kill(self) -> None:
        """Kill the guest, its group, and those of its descendants that left the group. Returns at once. Any thread.

        Never raises. The guest is stopped first, so that it starts no further children while they are counted.
        """
        if self.signal(signal.SIGSTOP):
            self.remember_descendants()
        with self._lock:
            if self.reaped is None:
                self._kill_group(reserved=self._told is None)
                self._signal(signal.SIGKILL)
        self._kill_strays()

    def _kill_strays(self) -> None:
        strays, self._strays = self._strays, []
        for stray in strays:
            stray.kill()

    def suspend(self) -> None:
        """Let the guest and its group stand still. Any thread."""
        self._signal_if_there(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the guest and its group go on. Any thread."""
        self._signal_if_there(signal.SIGCONT)

    def _signal_if_there(self, number: int) -> None:
        with self._lock:
            if self._signal(number):
                self._signal_group(number, reserved=_is_child(self.pid))

    def _kill_group(self, reserved: bool) -> None:
        """Kill the guest's group."""
        self._signal_group(signal.SIGKILL, reserved)

    def _signal_group(self, number: int, reserved: bool) -> None:
        """Signal the guest's group. `reserved`: its number can't be another's, because the guest was not reaped yet."""
        try:
            if self.pidfd >= 0 and sys.platform == "linux":
                try:
                    signal.pidfd_send_signal(self.pidfd, number, None, _TO_GROUP)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                else:
                    return
            if reserved:
                os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def reap(self) -> Ending:
        """Learn how the guest ended, kill what is left of its tree, and let the kernel forget it. Watcher's thread.

        The guest must have ended (its pidfd is readable).
        """
        with self._lock:
            if self.reaped is None:
                self.reaped = self._reap()
        self._kill_strays()
        return self.reaped

    def _reap(self) -> Ending:
        if self._told is not None:
            self._kill_group(reserved=False)
            ending = self._told()
            if ending is None:
                status = _status_of(self.pidfd)
                ending = Ending() if status is None else ending_of(status)
            return ending
        return self._reap_child()

    def _reap_child(self) -> Ending:
        status: int | None = None
        usage = None
        self._kill_group(reserved=_is_child(self.pid))
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            pass  # the kernel or another part of this program has reaped it
        if status is None:
            status = _status_of(self.pidfd)
        if status is None:
            return Ending()
        if usage is None:
            return ending_of(status)
        scale = 1 if sys.platform == "darwin" else 1024
        return ending_of(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)

    def close(self) -> None:
        """Close every descriptor but `control`. Watcher's thread, after it watches none of them any more."""
        with self._lock:
            close_quietly(*self.output)
            if self.pidfd >= 0:
                close_quietly(self.pidfd)
                self.pidfd = -1

    def disown(self) -> None:
        """Forget the guest in a forked child of its host: close what was inherited, and send it nothing, ever."""
        self._lock = threading.RLock()
        self.reaped = Ending()
        self._strays = []
        self.close()


def ending_of(status: int, cpu_seconds: float | None = None, peak_memory: int | None = None) -> Ending:
    """What a wait status means."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    return Ending(code, number, cpu_seconds, peak_memory)


def output_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Make the pipes of stdout and stderr: (read ends, write ends); reads do not block. Raises OSError."""
    out_reader, out_writer = os.pipe()
    try:
        err_reader, err_writer = os.pipe()
    except OSError:
        close_quietly(out_reader, out_writer)
        raise
    os.set_blocking(out_reader, False)
    os.set_blocking(err_reader, False)
    return (out_reader, err_reader), (out_writer, err_writer)


def launch(command: Sequence[str], environment: Mapping[str, str], placed: Sequence[tuple[int, int]]) -> int:
    """Start a program with these descriptors, (mine, its number there), in a session of its own; return its pid.

    Its stdin is /dev/null. Raises OSError where it can't be started.
    """
    copies: list[int] = []
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    ]
    try:
        for source, target in placed:
            if source < _ABOVE:
                source = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
                copies.append(source)
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        return os.posix_spawn(
            command[0],
            [*command],
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1),
        )
    finally:
        close_quietly(*copies)


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    control: tuple[socket.socket, socket.socket],
    lane: LaneEnd,
    lifeline: int,
    page: int | None,
) -> Process:
    """Start a guest and return at once, long before it is ready. Any thread.

    `control` is (host's end, guest's end); `lane` is the guest's end of the first lane. The guest's ends, and `page`,
    are closed here in any case. The guest gets a session and a process group of its own, no terminal, /dev/null as
    stdin, and pipes as stdout and stderr.

    Raises OSError where the program can't be started or descriptors are used up; nothing is left then.
    """
    host_control, guest_control = control
    theirs = [guest_control.detach(), lane.reader, lane.writer]
    mine: tuple[int, ...] = ()
    if page is not None and page >= 0:
        theirs.append(page)
    try:
        (out_reader, err_reader), writers = output_pipes()
        mine = (out_reader, err_reader)
        theirs += writers
        placed = [
            (writers[0], 1),
            (writers[1], 2),
            (theirs[0], descriptors.CONTROL),
            (lane.reader, descriptors.LANE_READER),
            (lane.writer, descriptors.LANE_WRITER),
            (lifeline, descriptors.LIFELINE),
        ]
        if page is not None and page >= 0:
            placed.append((page, descriptors.PAGE))
        pid = launch(command, environment, placed)
    except BaseException:
        close_quietly(*mine)
        host_control.close()
        raise
    finally:
        close_quietly(*theirs)
    pidfd = -1
    if sys.platform == "linux":
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pass  # it has ended already, and somebody else has taken its status
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            close_quietly(out_reader, err_reader)
            host_control.close()
            raise
    return Process(pid, pidfd, host_control, (out_reader, err_reader))


# -- what the kernel tells ------------------------------------------------------------------------------------------

_INFO = struct.Struct("QQ11Ii")
"""struct pidfd_info of linux/pidfd.h in its first size: mask, cgroup, eleven ids, exit code; 64 bytes."""
_GET_INFO = 0xC040FF0B
"""PIDFD_GET_INFO: _IOWR(0xFF, 11, 64 bytes)."""
_INFO_EXIT = 1 << 3
"""PIDFD_INFO_EXIT, Linux 6.15: the exit status, also after the process was reaped."""
_RELEASE_S = 0.5
"""A pidfd is readable before the kernel has stored the status with it: within 10 ms when this was measured."""


def _status_of(pidfd: int) -> int | None:
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

    def _is_over(pid: int) -> bool:
        """Whether a child has ended; its status is not taken."""
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _is_child(pid: int) -> bool:
        """Whether a process, which has ended, has not been reaped by anybody: its number is still its own."""
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False
else:  # another platform

    def _is_over(pid: int) -> bool:
        """Whether a child has ended; its status is not taken. Python has no waitid for this system before 3.13."""
        import psutil

        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    def _is_child(pid: int) -> bool:
        """Whether a process, which has ended, has not been reaped by anybody: its number is still its own."""
        import psutil

        return psutil.pid_exists(pid)
