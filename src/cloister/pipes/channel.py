"""What a pipe is apart from waiting: a transport, its framing, what is still to be sent, who is at the other end.

Here are `Format`, how messages look on a pipe, and `Channel`, the part that the blocking pipe (`pipe`) and the one for
asyncio (`asynchronous`) share. Not here: locks, waiting, and the loops that read and write.

Any thread may look; who may read and write is said by the two fronts.
"""

from __future__ import annotations

import os
import warnings
from typing import NamedTuple

from cloister.errors import MessageTooLarge, NotConnected, PipeClosed, PipeError
from cloister.pipes.framing import DEFAULT_MAX_MESSAGE, FramingName, make_framing
from cloister.pipes.outbox import Outbox
from cloister.pipes.transport import RECEIVE_BYTES, Peer, Transport

__all__ = ["Channel", "Format"]

_LARGEST_RECEIVE = 4 * RECEIVE_BYTES
"""For the body of a large message. The kernel holds about this much of one socket; asking for more only allocates."""

MOST_DESCRIPTORS = 253
"""The kernel's own limit for one message (SCM_MAX_FD, unix(7))."""


class Format(NamedTuple):
    """How messages look on a pipe; both ends must agree, nothing of it is negotiated."""

    framing: FramingName = "length"
    encoding: str = "utf-8"
    max_message: int = DEFAULT_MAX_MESSAGE
    descriptors: int = 0

    def check(self) -> None:
        """Raises ValueError or LookupError for what can't be, before anything is opened."""
        framing = make_framing(self.framing, encoding=self.encoding, max_message=self.max_message)
        if not 0 <= self.descriptors <= MOST_DESCRIPTORS:
            raise ValueError(f"descriptors is {self.descriptors}: from 0 to {MOST_DESCRIPTORS} can come with a message")
        if self.descriptors and not framing.counts_ahead:
            raise ValueError(
                f"framing {self.framing!r} can't tell which message descriptors belong to: use framing='length'"
            )


class Channel:
    """One end of a pipe, and the state of its messages."""

    def __init__(self, transport: Transport, form: Format) -> None:
        self._transport = transport
        self._format = form
        self._framing = make_framing(form.framing, encoding=form.encoding, max_message=form.max_message)
        self._outbox = Outbox()
        self._came: list[int] = []  # descriptors of the message that is being read
        self._came_whole = True
        self._torn = False  # an interrupt came while bytes were taken in

    # -- what can be asked --------------------------------------------------------------------------------------------

    @property
    def peer(self) -> Peer:
        """The process and the user at the other end, as the system told when the pipe was made.

        For a nameless pair, and a Linux server, it is the process that made the pair or the server.
        """
        return self._transport.peer

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side. That the peer closed is only seen by reading or writing."""
        return self._transport.closed

    @property
    def max_message(self) -> int:
        """The limit of a message in encoded bytes, both ways."""
        return self._framing.max_message

    @property
    def unsent(self) -> int:
        """Bytes of a message that has left in part; they go first with the next write or `flush`. Usually 0."""
        return self._outbox.unsent

    def fileno(self) -> int:
        """The descriptor, to wait on with ``select`` or an event loop; do not read from it.

        Readable means that a read makes progress, not that a whole message is there: read with ``timeout=0`` until
        `PipeTimeout`, and mind that messages that have been taken in already don't make it readable again. Raises
        `NotConnected` when closed, `WrongProcess` in a forked child, `PipeError` where there is no descriptor.
        """
        return self._transport.fileno()

    def detach(self) -> int:
        """Give the descriptor away, for a child process; this pipe is closed afterwards, and the caller owns it.

        It is not inheritable: pass it with ``subprocess.Popen(pass_fds=…)``, and adopt it over there with `from_fd`.
        Raises `PipeError` when something was read ahead or is unsent, which the other process would miss; then the
        pipe stays as it is. Raises as `fileno` besides.
        """
        if self._framing.held or self._outbox.unsent:
            raise PipeError("the pipe can't be detached: it holds a part of a message, or what was read ahead")
        return self._transport.detach()

    def __repr__(self) -> str:
        peer = self._transport.peer
        state = "closed" if self.closed else "open"
        return f"<{type(self).__module__}.{type(self).__qualname__} {state}, peer pid={peer.pid} uid={peer.uid}>"

    def __del__(self) -> None:
        transport: Transport | None = getattr(self, "_transport", None)
        if transport is not None and not transport.closed:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            transport.close()
        if getattr(self, "_came", None):
            self._drop_descriptors()

    # -- coming in ----------------------------------------------------------------------------------------------------

    def _require_whole(self) -> None:
        """Raises `NotConnected` when an interrupt may have lost what was taken in."""
        if self._torn:
            raise NotConnected(
                "an interrupt came in the middle of reading, so the stream is torn: close the pipe and open another"
            )

    def _reading_stopped(self, error: BaseException) -> None:
        """A read ended with `error`. An interrupt that came between taking bytes and keeping them tears the stream."""
        if self._transport.taking:
            self._transport.taking = False
            self._torn = not isinstance(error, PipeError)
        if isinstance(error, MessageTooLarge):
            self._drop_descriptors()

    def _next_message(self) -> bytes | None:
        """A message that is here already; its descriptors stay in `_came`. Raises `MessageTooLarge`, `NotConnected`."""
        if self._torn:
            self._require_whole()
        return self._framing.next_message()

    def _receive_limit(self) -> int:
        """How many bytes to ask the transport for. With descriptors never beyond the message that they belong to."""
        wanted = self._framing.wanted
        if self._format.descriptors:
            return min(wanted, _LARGEST_RECEIVE)
        return RECEIVE_BYTES if wanted <= RECEIVE_BYTES else min(wanted, _LARGEST_RECEIVE)

    def _take_in(self, data: bytes) -> bytes | None:
        """Keep what a receive returned; the message that it completes, if it does.

        Raises `PipeClosed` for b"", the end of the stream, and `MessageTooLarge`.
        """
        if data:
            return self._framing.next_after(data)
        raise self._ended()

    def _take_in_bytes(self, data: bytes) -> None:
        """Keep what a receive returned, without looking for a message. Raises `PipeClosed` for b""."""
        if not data:
            raise self._ended()
        self._framing.feed(data)

    def _ended(self) -> PipeClosed:
        self._drop_descriptors()
        unfinished = self._framing.unfinished
        if unfinished:
            return PipeClosed(f"the peer closed its end in the middle of a message ({unfinished} bytes of it came)")
        return PipeClosed("the peer closed its end; all that it sent has been read")

    def _take_in_descriptors(self, descriptors: list[int], whole: bool) -> None:
        self._came += descriptors
        if not (whole and self._came_whole and len(self._came) <= self._format.descriptors):
            self._drop_descriptors()
            self._came_whole = False

    def _drop_descriptors(self) -> None:
        for fd in self._came:
            os.close(fd)
        self._came = []
        self._came_whole = True

    def _give_descriptors(self) -> list[int]:
        descriptors, whole = self._came, self._came_whole
        self._came, self._came_whole = [], True
        if not whole:
            raise PipeError(
                "a message came without its descriptors: there were more of them than this end allows (descriptors=), "
                "or this process has no room for them"
            )
        return descriptors

    # -- text ---------------------------------------------------------------------------------------------------------

    def _decode(self, message: bytes) -> str:
        return message.decode(self._format.encoding)

    def _encode(self, text: str) -> bytes:
        return text.encode(self._format.encoding)

    def _require_text(self) -> None:
        if self._format.framing == "raw":
            raise ValueError("framing 'raw' may cut a character in two: read bytes, or use another framing")
