"""The server of a named pipe for threads: `PipeServer`. A connected pipe is in `pipe`, the same for asyncio in
`asynchronous`; what both have in common is in `claim`.

`accept` may be called by several threads: they take turns. `close` and `cancel` may come from any thread and from a
signal handler. In a forked child the server is closed, without giving up its name, and use raises `WrongProcess`.
"""

from __future__ import annotations

import threading
from types import TracebackType

from cloister.pipes.channel import Format
from cloister.pipes.claim import Claim
from cloister.pipes.deadline import deadline_after
from cloister.pipes.framing import DEFAULT_MAX_MESSAGE, FramingName
from cloister.pipes.names import Style
from cloister.pipes.pipe import Pipe, take_turn

__all__ = ["PipeServer"]


class PipeServer(Claim):
    """A name under which this process serves clients, from now until `close`.

    `name`: one word; see the rules of names. `style`: where it lies; "dotnet" is met by .NET programs. `framing`,
    `encoding`, `max_message` (bytes): how messages look on its pipes; clients must say the same. `descriptors`: how
    many a message may bring along; 0 takes none. `max_instances`: how many pipes of this server may be open at a time;
    None: no limit. One more client is told that the server is busy, and waits if it likes. `current_user_only`: clients
    of other users are refused before a byte of theirs is read.

    Raises `NameTaken` when another server lives there; a name is never stolen. Raises `BadName` for an impossible name
    or a place that is not to be trusted, `PipeError` for what else the system reports, ValueError and LookupError for
    impossible options. Nothing is left behind then.
    """

    def __init__(
        self,
        name: str,
        *,
        style: Style = "cloister",
        framing: FramingName = "length",
        encoding: str = "utf-8",
        max_message: int = DEFAULT_MAX_MESSAGE,
        descriptors: int = 0,
        max_instances: int | None = None,
        current_user_only: bool = True,
    ) -> None:
        form = Format(framing, encoding, max_message, descriptors)
        super().__init__(name, style, form, max_instances, current_user_only)
        self._turn = threading.Lock()

    def accept(self, timeout: float | None = None) -> Pipe:
        """Wait for a client and return the pipe to it; one that came before is accepted at once.

        With `max_instances` it also waits for a free instance, which is one whose pipe has been closed on this side.
        `timeout`: seconds; None waits for ever, 0 does not wait.

        Raises `PipeTimeout`; `PipeCancelled` when `cancel` or `close` comes while it waits, unless a client comes at
        the same time, which wins; `NotConnected` when the server was closed before; `WrongProcess`; and `PipeError` for
        what else the system reports, such as a full descriptor table. Then the client keeps its place, and the server
        can accept again. A client of another user is refused, logged, and not reported here.
        """
        since, deadline = self._listener.begin(), deadline_after(timeout)
        take_turn(self._turn, deadline, "accepts")
        try:
            return Pipe(self._listener.accept(deadline, since), self._format)
        finally:
            self._turn.release()

    def cancel(self) -> None:
        """End the accepts that wait now, with `PipeCancelled`; the server goes on. Raises `WrongProcess`."""
        self._listener.cancel()

    def close(self) -> None:
        """Give up the name and end the accepts that wait, from any thread; pipes that are open stay open.

        A client that was waiting in the queue sees the end of its pipe. A second time: no effect. Never raises.
        """
        self._listener.close()

    def __enter__(self) -> PipeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<cloister.pipes.PipeServer {self.name!r} {'closed' if self.closed else 'open'}>"
