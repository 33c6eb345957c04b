"""Who is using a descriptor, how they are woken, and when it may be closed.

A thread that waits in ``poll`` does not notice that another thread closes the descriptor, and the number is soon used
for something else. So every operation passes a `Gate`: it enters, polls its own descriptor and `Gate.wake_fd`, and
leaves. `cancel` and `close` make `wake_fd` readable; the descriptors are closed when the last operation has left.

Invariants, all under the gate's lock:

1. `inside` counts the operations between `enter` and `leave`; `behind` counts those of them that entered before the
   last `cancel`. `wake_fd` is readable while `behind` is more than 0.
2. An operation that is behind leaves at its next look, so `behind` reaches 0 by itself.
3. What `on_release` was given is called once, when the gate is closed and nobody is inside.

Any thread may call everything, and so may a signal handler: the lock is re-entrant.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # before the imports: a type checker for Windows leaves the rest out

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Callable

from cloister.errors import NotConnected, PipeCancelled, PipeError, WrongProcess

__all__ = ["Gate", "system_error"]

_live: weakref.WeakSet[Gate] = weakref.WeakSet()


class Gate:
    """Lets operations in and out, wakes them, and has the descriptors closed after the last one.

    `what` names the thing for messages ("the pipe"). A gate is made before the thing it guards, so that a full
    descriptor table is noticed while nothing has to be undone: making one raises `PipeError` then.
    """

    def __init__(self, what: str) -> None:
        self.generation = 0
        self.closed = False
        self._what = what
        self._release: Callable[[], None] | None = None
        self._inside = 0
        self._behind = 0
        self.foreign = False
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        try:
            self.wake_fd, self._ring_fd = _wake_pair()
        except OSError as error:
            raise system_error(error, f"{what} can't be opened") from None
        _live.add(self)

    def on_release(self, release: Callable[[], None]) -> None:
        """Have `release` close the descriptors: called once, from any thread; it must neither block nor raise."""
        self._release = release

    def enter(self, since: int) -> None:
        """Begin an operation that noted generation `since`; `leave` must follow.

        Raises `NotConnected`, `PipeCancelled` or `WrongProcess`, and then the operation has not begun.
        """
        if self.foreign:
            raise self._wrong_process()
        with self.lock:
            if since != self.generation:  # first: who began before the close was cancelled by it
                self.check(since)
            if self.closed:
                raise NotConnected(f"{self._what} is closed on this side")
            self._inside += 1

    def leave(self, since: int) -> None:
        """End an operation; never raises."""
        if self.foreign:
            return
        with self.lock:
            self._inside -= 1
            if since != self.generation:
                self._behind -= 1
                if not self._behind:
                    self._quieten()
                    self._changed.notify_all()
                self._finish()

    def check(self, since: int) -> None:
        """Raises `PipeCancelled` when the operation has been cancelled or its gate closed since it began."""
        if since != self.generation:
            how = "closed on this side" if self.closed else "cancelled"
            raise PipeCancelled(f"the operation on {self._what} was {how} while it waited")

    def settle(self, since: int) -> None:
        """After a wake-up: raise as `check`, or see to it that `wake_fd` is quiet before the next wait."""
        with self._changed:
            self.check(since)
            if self._behind:  # others are on their way out; it takes them microseconds
                self._changed.wait_for(lambda: not self._behind, timeout=1)
            else:
                self._quieten()

    def nudge(self) -> None:
        """Make the operations that wait look again, without cancelling them."""
        with self._changed:
            if self._inside:
                self._ring()

    def cancel(self) -> None:
        """End the operations inside with `PipeCancelled`; those that begin later are not touched."""
        if self.foreign:
            raise self._wrong_process()
        with self._changed:
            self._cancel_all_inside()

    def close(self) -> bool:
        """Let nobody in any more, end those inside, have the descriptors released after the last. True the first time.

        In a forked child there is nothing left to close, and that is no error.
        """
        if self.foreign:
            return False
        with self._changed:
            if self.closed:
                return False
            self.closed = True
            self._cancel_all_inside()
            self._finish()
            return True

    def require_open(self) -> None:
        """Raises `NotConnected` when closed, `WrongProcess` in a forked child."""
        if self.foreign:
            raise self._wrong_process()
        if self.closed:
            raise NotConnected(f"{self._what} is closed on this side")

    def _cancel_all_inside(self) -> None:
        self.generation += 1
        self._behind = self._inside
        if self._behind:
            self._ring()

    def _finish(self) -> None:
        if self.closed and not self._inside and self.wake_fd >= 0:
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        for fd in {self.wake_fd, self._ring_fd}:
            os.close(fd)
        self.wake_fd = self._ring_fd = -1
        if self._release is not None:
            self._release()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: then it is readable, which is all that we want
            os.write(self._ring_fd, b"\1\0\0\0\0\0\0\0")

    def _quieten(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_fd, 4096)

    def _wrong_process(self) -> WrongProcess:
        return WrongProcess(
            f"{self._what} belongs to the process that opened it, and this is a forked child: "
            "open another one here, or detach() it before the fork"
        )

    def abandon(self) -> None:
        """In a forked child: close the child's copies, so that the peer learns of the owner's end. No lock is taken:
        whoever held it does not exist here."""
        self.foreign = True
        self.generation += 1
        if self.wake_fd >= 0:
            self.closed = True
            self._close_descriptors()


def system_error(error: OSError, what: str) -> PipeError:
    """The system's error as ours, with its number, and advice where there is some."""
    advice = ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "; close some descriptors, or raise the limit (ulimit -n), and try again"
    return PipeError(error.errno, f"{what}: {error.strerror or error}{advice}")


def _wake_pair() -> tuple[int, int]:
    """A descriptor to wait on and one to ring with; the same one where the system has such a thing."""
    if sys.platform == "linux":
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _abandon_all() -> None:
    for gate in list(_live):
        gate.abandon()


os.register_at_fork(after_in_child=_abandon_all)
