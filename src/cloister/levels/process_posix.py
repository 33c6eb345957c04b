"""The process level on POSIX: start a guest by exec, know it by its pidfd, learn how it ended, kill its whole tree.

Here is the kernel's side of a guest's life; what is said to it is not known here. Its pipes are in `wiring_posix`, what
a status means in `ending_posix`. Each function says which thread may enter.

**Known by pidfd, never by a bare pid.** A pid may be another process a moment after its owner was reaped. Linux 6.9 and
later signal a process group through the pidfd, too. Before that the group is known by the guest's pid, which stays
reserved until the guest is reaped; so the group is killed first and the guest reaped last. Whoever sends a signal holds
the lock under which the guest is reaped and the pidfd closed.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

assert sys.platform != "win32"

import fcntl
import select

from cloister.guest import descriptors as numbers
from cloister.levels.descendants import Descendant, descendants
from cloister.levels.ending_posix import Ending, ending_of, is_child, is_over, status_of, status_unreaped
from cloister.levels.wiring_posix import wire
from cloister.pipes.duplex import LaneEnd, close_quietly
from cloister.pipes.page import Page

__all__ = ["Parent", "Process", "begin", "launch"]

_ABOVE = 32
"""Descriptors of the host are moved above this number before they are placed in the guest, so that placing one can't
overwrite another that is still to be placed."""
_ENDS_MS = 1
_TO_GROUP = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP of linux/pidfd.h, Linux 6.9."""


class Parent(Protocol):
    """The process whose child a guest is, where that is not this program. Watcher's thread."""

    def ending(self) -> Ending | None:
        """How the guest ended; None where it has not told yet."""

    def when_told(self, tell: Callable[[], object]) -> bool:
        """Call `tell` once, when it has told or never will; False where it never will."""

    def forget(self) -> None:
        """Nobody asks any more how the guest ended."""


class Process:
    """A guest's process, and the host's ends of what leads to it."""

    def __init__(
        self,
        pid: int,
        pidfd: int,
        control: socket.socket,
        output: tuple[int, int],
        parent: Parent | None = None,
    ) -> None:
        """`pidfd` is -1 where the platform has none. All descriptors but `control` belong to this object.

        `parent` is given where the guest is another process's child: it says how the guest ended, and kills the guest's
        group before it reaps the guest.
        """
        self.pid = pid
        self.pidfd = pidfd
        self.control = control
        """The host's end of the control channel. Whoever reads and writes it closes it."""
        self.output = output
        """The read ends of its stdout and stderr; they do not block."""
        self.forked = parent is not None
        """A template has made it, and it is about to be ready."""
        self.reaped: Ending | None = None
        """How it ended, once that was asked; from then on nothing is sent to its number any more."""
        self._parent = parent
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
            return is_over(self.pid)

    def ends_now(self) -> bool:
        """Whether the guest, whose channel has just been closed, has ended, or does within a millisecond.

        The kernel closes what a process had a tenth of that before it says that it has ended. Watcher's thread.
        """
        if self.pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(_ENDS_MS))

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
        try:
            if self.signal(signal.SIGSTOP):
                self.remember_descendants()
        except Exception:
            pass  # without memory or descriptors they can't be counted; it ends all the same
        finally:
            with self._lock:
                if self.reaped is None:
                    self._kill_group(reserved=self._parent is None)
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
                self._signal_group(number, reserved=is_child(self.pid))

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

    def try_reap(self) -> Ending | None:
        """Learn how the guest ended, kill what is left of its tree, and let the kernel forget it. Watcher's thread.

        None where it is not known yet: then `when_told` says when to ask again, and `reap` does without. The guest must
        have ended (its pidfd is readable).
        """
        return self._reaped_or(None)

    def reap(self) -> Ending:
        """As `try_reap`, with what is known by now."""
        ending = self._reaped_or(Ending())
        assert ending is not None
        return ending

    def _reaped_or(self, last: Ending | None) -> Ending | None:
        with self._lock:
            if self.reaped is None:
                ending = self._reap_child() if self._parent is None else self._ask(self._parent, last is not None)
                if ending is None and last is None:
                    return None
                self.reaped = ending or last
                if self._parent is not None:
                    self._parent.forget()
        self._kill_strays()
        return self.reaped

    def when_told(self, tell: Callable[[], object]) -> bool:
        """Call `tell` when `try_reap` knows more; False where nobody says when. Watcher's thread."""
        return self._parent is not None and self._parent.when_told(tell)

    def _ask(self, parent: Parent, at_last: bool) -> Ending | None:
        """Ask the parent, and where it does not answer in time the kernel, which knows less."""
        self._kill_group(reserved=False)
        ending = parent.ending()
        if ending is not None or not at_last:
            return ending
        status = status_unreaped(self.pid)
        if status is not None and self._signal(0):  # so its number was not another's
            return ending_of(status)
        return self._kept()

    def _kept(self) -> Ending | None:
        """How it ended, as the kernel keeps it; None where it has not said yet."""
        try:
            status = status_of(self.pidfd)
        except LookupError:
            return Ending()
        return None if status is None else ending_of(status)

    def _reap_child(self) -> Ending | None:
        self._kill_group(reserved=is_child(self.pid))
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            return self._kept()  # the kernel or another part of this program has reaped it
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


def begin(command: Sequence[str], environment: Mapping[str, str], lifeline: int) -> tuple[Process, Page, LaneEnd]:
    """Start a guest and return at once, long before it is ready. Any thread.

    Returns its process, the page shared with it, and the host's end of its first lane. The guest gets a session and a
    process group of its own, no terminal, and /dev/null as stdin.

    Raises OSError where the program can't be started or descriptors are used up; nothing is left then.
    """
    wiring = wire()
    try:
        pid = launch(command, environment, [*wiring.placed(), (lifeline, numbers.LIFELINE)])
        pidfd = -1
        if sys.platform == "linux":
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                pass  # it has ended already, and somebody else has taken its status
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
    except BaseException:
        wiring.close()
        raise
    wiring.close_theirs()
    return Process(pid, pidfd, wiring.control, wiring.output), wiring.page, wiring.lane
