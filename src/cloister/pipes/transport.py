"""What the front of a pipe needs of the system: the interface that one file per platform implements.

Here are `Transport`, one end of a connected pipe, `Listener`, a name under which clients are served, and `Peer`. Not
here: messages, strings, limits of size (`framing`), locks between threads and half-sent messages (`pipe`), names
(`names`). A transport moves bytes, and knows how to wait.

The functions of a platform, chosen in `native`:

``find_place(name, style) -> Place``: where a pipe of this name lies for the current user. Raises `BadName`.
``listen(place, *, max_instances, current_user_only) -> Listener``: raises `NameTaken`, `BadName`, `PipeError`;
``max_instances`` is None for no limit.
``connect_now(place, *, current_user_only) -> Transport``: one attempt without a wait, because who waits between
attempts does it in a thread or in an event loop. Raises `NotConnected` where no server is, `PipeBusy` where one is
without a free instance; both are worth another attempt. Raises `BadName` for what is not to be trusted, `PipeError`.
``pair() -> (Transport, Transport)``: both ends of a nameless pipe. Raises `PipeError`.
``adopt(descriptor) -> Transport``: an end that was inherited. Raises `PipeError`, and then has not closed it.

Rules for all of them:

1. A deadline is a moment of ``time.monotonic()``; None is never; one that has passed means: try, do not wait.
2. What an operation has taken in is returned, never lost: where data and a deadline, or data and a cancel, come at the
   same time, the data wins. A connection that came wins over a close in the same way.
3. `close` and `cancel` may be called from any thread, from a signal handler, and any number of times. What waits ends
   within 100 ms. A descriptor is closed only when nobody uses it any more, so that its number can't be met again by
   an operation that still runs.
4. At most one thread receives and one thread sends at a time; the caller sees to that.
5. Errors are `PipeError` and its subclasses; `errno` is set where the system gave one. After an error nothing of the
   bytes given to *that* call has been sent.
6. Descriptors are never inherited by a child process unless `detach` gave them away. In a forked child everything is
   closed, and use raises `WrongProcess`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cloister.errors import PipeError

__all__ = ["RECEIVE_BYTES", "Listener", "Peer", "Received", "Transport"]

RECEIVE_BYTES = 65536
"""How many bytes to ask for when the need is unknown: many small messages in one system call, without a large buffer
for a small one."""


class Peer(NamedTuple):
    """Who is at the other end, as the system says, at the time when the connection was made.

    For an inherited pair it is the process that made the pair. A number may belong to somebody else when the peer has
    ended: never send a signal to it on the strength of this.
    """

    pid: int | None
    """The process, or None where the system does not tell."""
    uid: int | None
    """The user, or None where the system does not tell (Windows)."""


class Received(NamedTuple):
    """A message that brought descriptors along."""

    message: bytes
    descriptors: list[int]
    """They are the receiver's own, to be closed by it; not inherited by children."""


class Transport(ABC):
    """One end of a connected pipe: a duplex stream of bytes between two processes on one machine."""

    taking = False
    """True from just before bytes are taken from the system until the caller, who clears it, has put them away. An
    interrupt (Ctrl-C) in between may have lost them; one while `receive_some` waits has not."""

    giving = False
    """The same for `send_some`: it may be unknown how much was sent."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """How often it was cancelled or closed. An operation notes it when it starts, and passes it on as `since`."""

    def begin(self) -> int:
        """The generation, for an operation that starts now.

        Raises `NotConnected` when closed, `WrongProcess` in a forked child.
        """
        if self.closed:
            self.fileno()  # raises, and says why
        return self.generation

    @abstractmethod
    def receive_some(self, limit: int, deadline: float | None, since: int) -> bytes:
        """Wait for bytes and take at least one and at most `limit` of them; b"" at the end of the stream.

        The end of the stream stays: asked again, it is b"" again.

        Raises `PipeTimeout` at the deadline, `PipeCancelled` after a `cancel` or a `close` since generation `since`,
        `NotConnected` when it was closed here before that, `WrongProcess` in a forked child, and `PipeError` for what
        else the system reports. An end by reset is an end of the stream, not an error.
        """

    @abstractmethod
    def send_some(self, data: bytes | memoryview, deadline: float | None, since: int) -> int:
        """Wait for room and send at least one byte of `data`, which is not empty; returns how many were sent.

        Raises as `receive_some`, and `PipeClosed` when the peer has gone. No signal is raised (SIGPIPE).
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the operations that have started and wait; the transport stays usable. Without any: no effect."""

    @abstractmethod
    def close(self) -> None:
        """Close this end: the peer reads what was sent before, and then the end of the stream. Never blocks."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it was closed on this side."""

    @property
    @abstractmethod
    def peer(self) -> Peer:
        """Who is at the other end. Known from the start, and stays known after a close."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor to select on (POSIX), or the handle (Windows). Only to wait for: do not read from it.

        Raises `NotConnected` when closed, `WrongProcess` in a forked child, and `PipeError` where there is none.
        """

    def detach(self) -> int:
        """Give the descriptor away, to be handed to a child process; this transport is closed afterwards.

        The caller owns it, and has to make it inheritable. Raises `PipeError` where there is none.
        """
        raise _unsupported(self, "can't be detached")

    def send_with_descriptors(
        self, data: bytes | memoryview, descriptors: Sequence[int], deadline: float | None, since: int
    ) -> int:
        """As `send_some`; the descriptors travel with the first byte. They stay open here.

        Raises as `send_some`, and `PipeError` where descriptors can't travel.
        """
        raise _unsupported(self, "can't pass descriptors")

    def receive_with_descriptors(
        self, limit: int, most: int, deadline: float | None, since: int
    ) -> tuple[bytes, list[int], bool]:
        """As `receive_some`, with the descriptors that came along, at most `most`, and whether they are all.

        False: more came than that, or this process has no room for them. Then the list is empty, and all are closed;
        the bytes are good. Raises as `receive_some`, and `PipeError` where descriptors can't travel.
        """
        raise _unsupported(self, "can't pass descriptors")

    # For event loops, which wait in their own way. A platform that has no such way leaves them out.

    def receive_now(self, limit: int) -> bytes | None:
        """As `receive_some` without any wait: None when there is nothing yet."""
        raise _unsupported(self, "can't be awaited")

    def send_now(self, data: bytes | memoryview) -> int:
        """As `send_some` without any wait: 0 when there is no room."""
        raise _unsupported(self, "can't be awaited")


class Listener(ABC):
    """A name that clients connect to. At most `max_instances` of its connections are open or wait to be accepted."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """How often it was cancelled or closed, as for a transport."""

    def begin(self) -> int:
        """The generation, for an accept that starts now. Raises as `Transport.begin`."""
        if self.closed:
            self.fileno()  # raises, and says why
        return self.generation

    @abstractmethod
    def accept(self, deadline: float | None, since: int) -> Transport:
        """Wait for a client, and for a free instance, and return this side's end of the new pipe.

        The instance is free again when that end is closed on this side. A client that came before is accepted at once.

        Raises `PipeTimeout`, `PipeCancelled` after a `cancel` or `close` since generation `since`, `NotConnected` when
        closed before that, `WrongProcess`, and `PipeError` for what else the system reports, such as a full descriptor
        table; then the client keeps its place, and the next accept tries again.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the accepts that have started and wait; the listener stays usable."""

    @abstractmethod
    def close(self) -> None:
        """Give up the name, end the accepts that wait. The pipes that were accepted stay open. Never blocks."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it was closed."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor (POSIX) or handle to wait on for a client, or -1 while all instances are taken.

        It changes when instances are taken and freed; see `watch`. Raises as `Transport.fileno`.
        """

    def watch(self, changed: Callable[[], None] | None) -> None:
        """Call `changed`, from any thread and briefly, when `fileno` changes or the listener closes; None: no more."""
        raise _unsupported(self, "can't be awaited")


def _unsupported(what: object, why: str) -> PipeError:
    return PipeError(f"{type(what).__name__} {why} on this platform")
