"""What is still to be sent: the message that is under way, and never half of one.

The rule of a pipe that can't send everything in the time given (or is cancelled, or meets an error): a message of which
nothing has left is forgotten, and may be written again; a message of which a part has left stays here, and its rest
goes first when anything is written next. So the peer never sees a torn message. `begun` on the error tells which it
was.

Pure, and not safe for threads: it belongs to the thread that writes.
"""

from __future__ import annotations

from cloister.errors import NotConnected, PipeError

__all__ = ["Outbox"]


class Outbox:
    """At most one message, in one part or two, with a mark up to where it has been sent."""

    def __init__(self) -> None:
        self.rest: bytes | memoryview | None = None
        """What is to be sent next, never empty; None when all is sent."""
        self._after: memoryview | None = None
        self._started = False
        self.broken = False
        """Whether it is unknown how much has left."""

    @property
    def unsent(self) -> int:
        """How many bytes of a message whose beginning has left are still here."""
        if self.rest is None or not self._started:
            return 0
        return len(self.rest) + (0 if self._after is None else len(self._after))

    def put(self, data: bytes, after: memoryview | None = None) -> None:
        """The next message; the one before has been sent. `after`, its second part, is only looked at until the write
        ends. Raises `NotConnected` when the stream is broken."""
        if self.broken:
            self.require_whole()
        self.rest = data or None
        self._after = after
        self._started = False

    def require_whole(self) -> None:
        """Raises `NotConnected` when it is not known how much has left."""
        if self.broken:
            raise NotConnected(
                "an interrupt came in the middle of sending, so the stream is torn: close the pipe and open another"
            )

    def sent(self, count: int) -> None:
        """`count` bytes of `rest` have left."""
        rest = self.rest
        assert rest is not None
        self._started = True
        if count < len(rest):
            self.rest = memoryview(rest)[count:]
        else:
            self.rest, self._after = self._after, None

    def stopped(self, error: BaseException, *, mine: bool) -> None:
        """Sending ended with `error`; `mine`: while the message that was written now was under way, not an older one.

        Sets `begun` on a `PipeError`.
        """
        if not self._started:
            self.rest = self._after = None
        else:
            if isinstance(error, PipeError):
                error.begun = mine and self.unsent > 0
            if self._after is not None:  # the caller may change it from now on
                self._after = memoryview(bytes(self._after))
            elif self.rest is not None:
                self.rest = bytes(self.rest)
