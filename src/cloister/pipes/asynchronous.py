"""Pipes for asyncio: the same names, the same errors, awaited. `cloister.aio` is where users find them.

Here are `Pipe`, `PipeServer`, `connect`, `pair` and `from_fd`. What an operation promises is said in `pipe` and
`server`; here is what differs. What both share is in `channel`.

No thread: the event loop waits for the descriptor, and the bytes are taken in the very step that hands them on, so a
cancelled task has taken either nothing or everything. (The loop's own ``sock_recv`` can lose what it read when its task
is cancelled in the same turn.) uvloop works too. On Windows the loop can't wait for a pipe's handle; there, use the
blocking pipe in a thread, ``asyncio.to_thread(pipe.read_message)`` and `Pipe.cancel`.

Everything here belongs to the thread of one event loop, the one in which it is first awaited. Several tasks may read:
they take turns, as do several that write.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from cloister.errors import NotConnected, PipeBusy, PipeCancelled, PipeClosed, PipeError, PipeTimeout
from cloister.pipes import native
from cloister.pipes.channel import Channel, Format
from cloister.pipes.claim import Claim
from cloister.pipes.deadline import PAST, deadline_after, pauses, seconds_left
from cloister.pipes.framing import DEFAULT_MAX_MESSAGE, FramingName
from cloister.pipes.names import Style
from cloister.pipes.pipe import with_time
from cloister.pipes.transport import RECEIVE_BYTES, Transport

__all__ = ["Pipe", "PipeServer", "connect", "from_fd", "pair"]


class _Waiters:
    """The tasks that wait for one pipe or server, and how they end."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Callable[[], object]] = {}

    async def wait(self, fd: int, writing: bool, deadline: float | None, otherwise: str, watch: bool = False) -> None:
        """Return when `fd` is ready, or may be; with fd -1, when woken. Raises `PipeTimeout` and `PipeCancelled`."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        stop: Callable[[], object] = _nothing
        if fd >= 0 and writing:
            loop.add_writer(fd, _resolve, ready)
            stop = _bind(loop.remove_writer, fd)
        elif fd >= 0:
            loop.add_reader(fd, _resolve, ready)
            stop = _bind(loop.remove_reader, fd)
        self._waiting[ready] = stop
        timer = None
        if deadline is not None:
            late = PipeTimeout(f"{otherwise} in the time given")
            timer = loop.call_later(seconds_left(deadline, math.inf), _fail, ready, late)
        try:
            await ready
        finally:
            if timer is not None:
                timer.cancel()
            if self._waiting.pop(ready, None) is not None:
                stop()

    def wake(self) -> None:
        """Make all that wait look again."""
        for ready in self._waiting:
            _resolve(ready)

    def end(self, why: str) -> None:
        """End all that wait with `PipeCancelled`; the loop no longer looks at their descriptors."""
        for ready, stop in self._waiting.items():
            stop()
            _fail(ready, PipeCancelled(why))
        self._waiting.clear()


def _nothing() -> None:
    pass


def _bind(remove: Callable[[int], bool], fd: int) -> Callable[[], object]:
    return lambda: remove(fd)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _fail(ready: asyncio.Future[None], error: PipeError) -> None:
    if not ready.done():
        ready.set_exception(error)


@contextlib.asynccontextmanager
async def _turn(lock: asyncio.Lock, deadline: float | None, what: str) -> AsyncIterator[None]:
    try:
        # Also where the lock is free: a task that waits longer, and has not run since, has its turn first.
        async with asyncio.timeout(None if deadline is None else seconds_left(deadline, math.inf)):
            await lock.acquire()
    except TimeoutError:
        raise PipeTimeout(f"another task {what}, and did not finish in the time given") from None
    try:
        yield
    finally:
        lock.release()


class Pipe(Channel):
    """One end of a connected pipe, for asyncio. Made by `connect`, `pair`, `from_fd` and `PipeServer.accept`.

    Every `timeout` is in seconds: None waits for ever, 0 does not wait; a negative one raises ValueError. It is an
    asynchronous context manager that closes, and an asynchronous iterator over messages until the peer closes.
    Descriptors can't be passed here; use the blocking pipe.
    """

    def __init__(self, transport: Transport, form: Format) -> None:
        super().__init__(transport, form)
        self._waiters = _Waiters()
        self._read_turn = asyncio.Lock()
        self._write_turn = asyncio.Lock()

    async def read_message(self, timeout: float | None = None) -> bytes:
        """Wait for the next message; as the blocking ``read_message``."""
        since, deadline = self._transport.begin(), deadline_after(timeout)
        async with _turn(self._read_turn, deadline, "reads"):
            message = self._next_message()
            while message is None:
                message = self._take_in(await self._receive(self._receive_limit(), deadline, since))
            return message

    async def read_string(self, timeout: float | None = None) -> str:
        """As `read_message`, decoded; as the blocking ``read_string``."""
        self._require_text()
        return self._decode(await self.read_message(timeout))

    async def read_bytes(self, limit: int = RECEIVE_BYTES, timeout: float | None = None) -> bytes:
        """Wait for at least one and at most `limit` bytes; as the blocking ``read_bytes``."""
        if limit < 1:
            raise ValueError(f"limit is {limit}: it is a number of bytes, at least 1")
        since, deadline = self._transport.begin(), deadline_after(timeout)
        async with _turn(self._read_turn, deadline, "reads"):
            data = self._framing.take_bytes(limit)
            while not data:
                self._take_in_bytes(await self._receive(limit, deadline, since))
                data = self._framing.take_bytes(limit)
            return data

    async def _receive(self, limit: int, deadline: float | None, since: int) -> bytes:
        while True:
            self._require_open()
            data = self._transport.receive_now(limit)
            if data is not None:
                return data  # nobody can be cancelled between here and where it is kept: no await lies between
            await self._wait(False, deadline, since, "no data came")

    async def write_message(self, message: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send one message; as the blocking ``write_message``. A cancelled task sets nothing on its error: `unsent`
        tells whether a part has left."""
        await self._write(*self._framing.frame_parts(message), timeout=timeout)

    async def write_string(self, text: str, timeout: float | None = None) -> None:
        """As `write_message`, encoded; as the blocking ``write_string``."""
        await self.write_message(self._encode(text), timeout)

    async def write_bytes(self, data: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send bytes as they are; as the blocking ``write_bytes``."""
        await self._write(data if isinstance(data, bytes) else bytes(memoryview(data)), timeout=timeout)

    async def flush(self, timeout: float | None = None) -> None:
        """Send the rest of a message that left in part, if there is one."""
        await self._write(b"", timeout=timeout)

    async def _write(self, data: bytes, after: memoryview | None = None, *, timeout: float | None) -> None:
        since, deadline = self._transport.begin(), deadline_after(timeout)
        async with _turn(self._write_turn, deadline, "writes"):
            outbox = self._outbox
            mine = False
            try:
                if outbox.rest is not None:
                    await self._send_rest(deadline, since)
                mine = True
                outbox.put(data, after)
                await self._send_rest(deadline, since)
            except BaseException as error:
                outbox.stopped(error, mine=mine)
                raise

    async def _send_rest(self, deadline: float | None, since: int) -> None:
        outbox = self._outbox
        while outbox.rest is not None:
            self._require_open()
            sent = self._transport.send_now(outbox.rest)
            if sent:
                outbox.sent(sent)
            else:
                await self._wait(True, deadline, since, "the peer does not read")

    def _require_open(self) -> None:
        """Raises `PipeCancelled` when it was closed since the operation began."""
        if self.closed:
            raise PipeCancelled("the operation on the pipe was closed on this side while it waited")

    async def _wait(self, writing: bool, deadline: float | None, since: int, otherwise: str) -> None:
        if since != self._transport.generation:
            raise PipeCancelled("the operation on the pipe was cancelled before it began to wait")
        await self._waiters.wait(self._transport.fileno(), writing, deadline, otherwise)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The messages until the peer closes its end; raises `PipeClosed` when it does so in the middle of one."""
        while True:
            try:
                message = await self.read_message()
            except PipeClosed:
                if self._framing.unfinished:
                    raise
                return
            yield message

    def cancel(self) -> None:
        """End the reads and writes that wait now, with `PipeCancelled`; from the loop's thread only."""
        self._transport.cancel()
        self._waiters.end("the operation on the pipe was cancelled while it waited")

    def close(self) -> None:
        """Close this end; what waits on it ends with `PipeCancelled`. A second time: no effect. Does not wait."""
        self._waiters.end("the operation on the pipe was closed on this side while it waited")
        self._transport.close()

    async def __aenter__(self) -> Pipe:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PipeServer(Claim):
    """A name under which this process serves clients, for asyncio; options and errors as ``cloister.pipes.PipeServer``.

    The name is claimed at once, in the constructor. A context manager, with ``async with`` or plain ``with``.
    """

    def __init__(
        self,
        name: str,
        *,
        style: Style = "cloister",
        framing: FramingName = "length",
        encoding: str = "utf-8",
        max_message: int = DEFAULT_MAX_MESSAGE,
        max_instances: int | None = None,
        current_user_only: bool = True,
    ) -> None:
        super().__init__(name, style, Format(framing, encoding, max_message), max_instances, current_user_only)
        self._waiters = _Waiters()
        self._turn = asyncio.Lock()

    async def accept(self, timeout: float | None = None) -> Pipe:
        """Wait for a client, and for a free instance; as the blocking ``accept``."""
        since, deadline = self._listener.begin(), deadline_after(timeout)
        loop = asyncio.get_running_loop()
        async with _turn(self._turn, deadline, "accepts"):
            # Instances may be freed by pipes that other threads close.
            self._listener.watch(lambda: _tell(loop, self._waiters))
            try:
                while True:
                    try:
                        return Pipe(self._listener.accept(PAST, since), self._format)
                    except PipeTimeout:
                        pass
                    await self._waiters.wait(self._listener.fileno(), False, deadline, "no client came")
            finally:
                self._listener.watch(None)

    def cancel(self) -> None:
        """End the accepts that wait now, with `PipeCancelled`; from the loop's thread only."""
        self._listener.cancel()
        self._waiters.end("the accept was cancelled while it waited")

    def close(self) -> None:
        """Give up the name and end the accepts that wait; pipes that are open stay open. Does not wait."""
        self._waiters.end("the server was closed on this side while the accept waited")
        self._listener.close()

    async def __aenter__(self) -> PipeServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<cloister.aio.PipeServer {self.name!r} {'closed' if self.closed else 'open'}>"


def _tell(loop: asyncio.AbstractEventLoop, waiters: _Waiters) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits in it
        loop.call_soon_threadsafe(waiters.wake)


async def connect(
    name: str,
    timeout: float | None = None,
    *,
    style: Style = "cloister",
    framing: FramingName = "length",
    encoding: str = "utf-8",
    max_message: int = DEFAULT_MAX_MESSAGE,
    current_user_only: bool = True,
) -> Pipe:
    """Connect to the server of this name, waiting until it appears, for at most `timeout` seconds.

    Options and errors as the blocking ``connect``.
    """
    form = Format(framing, encoding, max_message)
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
        await asyncio.sleep(min(pause, left))
    raise AssertionError("the pauses never end")


def pair(
    *, framing: FramingName = "length", encoding: str = "utf-8", max_message: int = DEFAULT_MAX_MESSAGE
) -> tuple[Pipe, Pipe]:
    """Both ends of a nameless pipe; as the blocking ``pair``."""
    form = Format(framing, encoding, max_message)
    form.check()
    left, right = native.pair()
    return Pipe(left, form), Pipe(right, form)


def from_fd(
    descriptor: int,
    *,
    framing: FramingName = "length",
    encoding: str = "utf-8",
    max_message: int = DEFAULT_MAX_MESSAGE,
) -> Pipe:
    """The pipe whose descriptor this process inherited or was given; as the blocking ``from_fd``."""
    form = Format(framing, encoding, max_message)
    form.check()
    return Pipe(native.adopt(descriptor), form)
