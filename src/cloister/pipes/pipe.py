"""A connected pipe for threads: read and write bytes, messages and strings, each with a time limit.

Here are `Pipe`, and `connect`, `pair` and `from_fd`, which make one. The server's side is in `server`, the same for
asyncio in `asynchronous`, what both share in `channel`.

The four ways in which an operation can end without a result are four exceptions, and "" is only ever an empty message:

=================  ====================================================================================================
`PipeTimeout`      the time was used up. Nothing is lost, and the pipe can be used again
`PipeCancelled`    this side said `cancel()`, or closed the pipe, while the operation waited. Nothing is lost
`PipeClosed`       the peer closed its end or is gone, and everything it had sent has been read
`NotConnected`     the pipe was closed on this side before, or an interrupt tore its stream
=================  ====================================================================================================

Threads: one may read while another writes. Two that read take turns, and so do two that write; who waits for its turn
keeps its time limit. `cancel` and `close` may come from any thread and from a signal handler. In a forked child the
pipe is closed, and use raises `WrongProcess`.

A write that ends early never tears a message: `outbox` has the rule, and ``error.begun`` says which way it went.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from cloister.errors import NotConnected, PipeBusy, PipeClosed, PipeError, PipeTimeout
from cloister.pipes import native
from cloister.pipes.channel import Channel, Format
from cloister.pipes.deadline import deadline_after, pauses, seconds_left
from cloister.pipes.framing import DEFAULT_MAX_MESSAGE, FramingName
from cloister.pipes.names import Style
from cloister.pipes.transport import RECEIVE_BYTES, Received, Transport

__all__ = ["Pipe", "connect", "from_fd", "pair"]


class Pipe(Channel):
    """One end of a connected pipe. Made by `connect`, `pair`, `from_fd` and `PipeServer.accept`.

    Every `timeout` is in seconds: None waits for ever, 0 does not wait; a negative one raises ValueError. It is a
    context manager that closes, and an iterator over messages until the peer closes.
    """

    def __init__(self, transport: Transport, form: Format) -> None:
        super().__init__(transport, form)
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()

    # -- reading ------------------------------------------------------------------------------------------------------

    def read_message(self, timeout: float | None = None) -> bytes:
        """Wait for the next message and return it; b"" is an empty message.

        Raises the four of the module's table, and `MessageTooLarge` for one beyond the limit, which is passed over: the
        next read gives the message after it.
        """
        if self._format.descriptors:
            return self._read_with_descriptors(timeout, keep=False).message
        transport = self._transport
        since = transport.begin()
        deadline = None if timeout is None else deadline_after(timeout)
        if not self._read_lock.acquire(blocking=False):
            take_turn(self._read_lock, deadline, "reads")
        try:
            message = self._next_message()
            while message is None:
                data = transport.receive_some(self._receive_limit(), deadline, since)
                message = self._take_in(data)
                transport.taking = False
            return message
        except BaseException as error:
            self._reading_stopped(error)
            raise
        finally:
            self._read_lock.release()

    def read_string(self, timeout: float | None = None) -> str:
        """As `read_message`, decoded.

        Raises UnicodeDecodeError for a message that is no text in this encoding; it has been taken from the pipe, and
        is in the error's ``object``. Raises ValueError with framing 'raw', which may cut a character.
        """
        self._require_text()
        return self._decode(self.read_message(timeout))

    def read_bytes(self, limit: int = RECEIVE_BYTES, timeout: float | None = None) -> bytes:
        """Wait for bytes and return at least one and at most `limit` of them, whatever the framing is.

        Between messages of another framing it takes what came next, headers and all: for a change of protocol. Raises
        the four of the module's table, and ValueError for a limit below 1.
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}: it is a number of bytes, at least 1")
        transport = self._transport
        since, deadline = transport.begin(), deadline_after(timeout)
        take_turn(self._read_lock, deadline, "reads")
        try:
            self._require_whole()
            data = self._framing.take_bytes(limit)
            while not data:
                self._take_in_bytes(transport.receive_some(limit, deadline, since))
                transport.taking = False
                data = self._framing.take_bytes(limit)
            return data
        except BaseException as error:
            self._reading_stopped(error)
            raise
        finally:
            self._read_lock.release()

    def receive_descriptors(self, timeout: float | None = None) -> Received:
        """Wait for the next message and return it with the descriptors that came with it, if any; they are yours.

        Raises as `read_message`; ValueError when this end was opened without ``descriptors=``; and `PipeError` when the
        message came but not its descriptors, because there were too many or this process has no room for them.
        """
        if not self._format.descriptors:
            raise ValueError("this end takes no descriptors: open it with descriptors=, the most that a message brings")
        return self._read_with_descriptors(timeout, keep=True)

    def _read_with_descriptors(self, timeout: float | None, *, keep: bool) -> Received:
        transport = self._transport
        since, deadline = transport.begin(), deadline_after(timeout)
        take_turn(self._read_lock, deadline, "reads")
        try:
            message = self._next_message()
            while message is None:
                data, came, whole = transport.receive_with_descriptors(
                    self._receive_limit(), self._format.descriptors, deadline, since
                )
                self._take_in_descriptors(came, whole)
                message = self._take_in(data)
                transport.taking = False
            if keep:
                return Received(message, self._give_descriptors())
            self._drop_descriptors()
            return Received(message, [])
        except BaseException as error:
            self._reading_stopped(error)
            raise
        finally:
            self._read_lock.release()
            if transport.closed:
                self._drop_unread()

    def __iter__(self) -> Iterator[bytes]:
        """The messages until the peer closes its end; raises `PipeClosed` when it does so in the middle of one."""
        while True:
            try:
                message = self.read_message()
            except PipeClosed:
                if self._framing.unfinished:
                    raise
                return
            yield message

    # -- writing ------------------------------------------------------------------------------------------------------

    def write_message(self, message: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send one message, and return when the system has all of it; the peer need not have read it.

        Raises the four of the module's table; `MessageTooLarge` before a byte is sent; ValueError for a message that
        the framing can't carry, such as a line break in a line. When it fails with a `PipeError`, ``error.begun`` tells
        whether the message will still go out whole (True), or not at all (False).
        """
        self._write(*self._framing.frame_parts(message), timeout=timeout)

    def write_string(self, text: str, timeout: float | None = None) -> None:
        """As `write_message`, encoded. Raises UnicodeEncodeError for what the encoding can't write; nothing is sent."""
        self.write_message(self._encode(text), timeout)

    def write_bytes(self, data: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send bytes as they are, whatever the framing is; as `write_message` besides, without a limit of size."""
        self._write(data if isinstance(data, bytes) else bytes(memoryview(data)), timeout=timeout)

    def send_descriptors(
        self,
        descriptors: Sequence[int],
        message: bytes | bytearray | memoryview = b"",
        timeout: float | None = None,
    ) -> None:
        """Send a message with descriptors, which the peer gets as its own; they stay open here.

        The peer must have been opened with ``descriptors=`` of at least so many, otherwise it gets none. Raises as
        `write_message`; ValueError with a framing that has no sizes; `PipeError` where descriptors can't travel, or one
        of them is not open.
        """
        if not self._framing.counts_ahead:
            raise ValueError(f"framing {self._format.framing!r} can't carry descriptors: use framing='length'")
        self._write(self._framing.frame(message), timeout=timeout, descriptors=descriptors)

    def flush(self, timeout: float | None = None) -> None:
        """Send the rest of a message that left in part, if there is one. Raises the four of the module's table."""
        self._write(b"", timeout=timeout)

    def _write(
        self, data: bytes, after: memoryview | None = None, *, timeout: float | None, descriptors: Sequence[int] = ()
    ) -> None:
        transport, outbox = self._transport, self._outbox
        since = transport.begin()
        deadline = None if timeout is None else deadline_after(timeout)
        if not self._write_lock.acquire(blocking=False):
            take_turn(self._write_lock, deadline, "writes")
        mine = False
        try:
            if outbox.rest is not None:
                self._send_rest(deadline, since)
            mine = True
            outbox.put(data, after)
            if descriptors and outbox.rest is not None:
                outbox.sent(transport.send_with_descriptors(outbox.rest, descriptors, deadline, since))
                transport.giving = False
            self._send_rest(deadline, since)
        except BaseException as error:
            if transport.giving and not isinstance(error, PipeError):
                outbox.broken = True
            outbox.stopped(error, mine=mine)
            raise
        finally:
            self._write_lock.release()

    def _send_rest(self, deadline: float | None, since: int) -> None:
        outbox, transport = self._outbox, self._transport
        rest = outbox.rest
        while rest is not None:
            outbox.sent(transport.send_some(rest, deadline, since))
            transport.giving = False
            rest = outbox.rest

    # -- the whole pipe -----------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the reads and writes that wait now, with `PipeCancelled`; the pipe stays usable.

        Those that begin later are not touched. From any thread, and from a signal handler. Raises `WrongProcess`.
        """
        self._transport.cancel()

    def close(self) -> None:
        """Close this end; what waits on it ends with `PipeCancelled`. A second time: no effect. Never raises.

        The peer reads what was sent, and then the end. The rest of a message that left in part is lost, and the peer
        is told that it was torn; `flush` first when that matters.
        """
        self._transport.close()
        self._drop_unread()

    def _drop_unread(self) -> None:
        """Close the descriptors of a message that nobody will get. Of two that come here, the later one does it."""
        if self._read_lock.acquire(blocking=False):
            self._drop_descriptors()
            self._read_lock.release()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take_turn(lock: threading.Lock, deadline: float | None, what: str) -> None:
    """Take a lock, waiting for the thread that holds it. Raises `PipeTimeout`."""
    while not lock.acquire(timeout=seconds_left(deadline)):
        if not seconds_left(deadline):
            raise PipeTimeout(f"another thread {what}, and did not finish in the time given")


def connect(
    name: str,
    timeout: float | None = None,
    *,
    style: Style = "cloister",
    framing: FramingName = "length",
    encoding: str = "utf-8",
    max_message: int = DEFAULT_MAX_MESSAGE,
    descriptors: int = 0,
    current_user_only: bool = True,
) -> Pipe:
    """Connect to the server of this name, waiting until it appears and has a free instance.

    `timeout`: seconds; None waits for ever, 0 tries once. `style`: where the name lies; "dotnet" meets .NET programs.
    `framing`, `encoding`, `max_message` (bytes): how messages look; the server must say the same. `descriptors`: how
    many a message may bring along; 0 takes none. `current_user_only`: refuse a server of another user, before a byte is
    sent.

    Raises, at the end of the time, `NotConnected` when no server was there, and `PipeBusy` when one was, with all its
    instances in use. Raises at once `BadName` for an impossible name or a place that is not to be trusted, `PipeError`
    for what else the system reports, ValueError and LookupError for impossible options.
    """
    form = Format(framing, encoding, max_message, descriptors)
    form.check()
    place = native.find_place(name, style)
    deadline = deadline_after(timeout)
    for pause in pauses():
        try:
            return Pipe(native.connect_now(place, current_user_only=current_user_only), form)
        except (NotConnected, PipeBusy) as error:
            left = seconds_left(deadline)
            if not left:
                raise with_time(error, timeout) from None
        time.sleep(min(pause, left))
    raise AssertionError("the pauses never end")


def with_time(error: PipeError, timeout: float | None) -> PipeError:
    """The error of the last attempt, with how long was waited."""
    return type(error)(error.errno, f"{error.strerror} (waited {timeout:g} s)") if timeout else error


def pair(
    *,
    framing: FramingName = "length",
    encoding: str = "utf-8",
    max_message: int = DEFAULT_MAX_MESSAGE,
    descriptors: int = 0,
) -> tuple[Pipe, Pipe]:
    """Both ends of a nameless pipe; `detach` one of them to hand it to a child process.

    Options as for `connect`. Raises `PipeError` when the system has no descriptor left, ValueError and LookupError for
    impossible options.
    """
    form = Format(framing, encoding, max_message, descriptors)
    form.check()
    left, right = native.pair()
    return Pipe(left, form), Pipe(right, form)


def from_fd(
    descriptor: int,
    *,
    framing: FramingName = "length",
    encoding: str = "utf-8",
    max_message: int = DEFAULT_MAX_MESSAGE,
    descriptors: int = 0,
) -> Pipe:
    """The pipe whose descriptor (on Windows, handle) this process inherited or was given; it is taken over.

    Options as for `connect`. Raises `PipeError` when it is no end of a pipe, ValueError and LookupError for impossible
    options; then it stays open.
    """
    form = Format(framing, encoding, max_message, descriptors)
    form.check()
    return Pipe(native.adopt(descriptor), form)
