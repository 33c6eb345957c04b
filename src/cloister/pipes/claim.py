"""A claimed name: what the servers of named pipes have in common, whichever way they wait for clients.

Here is what a server is asked and how it ends; accepting is in `server` for threads, in `asynchronous` for asyncio. How
a name is claimed and kept is in the listener of the platform. Any thread may enter.
"""

from __future__ import annotations

import warnings

from cloister.pipes import native
from cloister.pipes.channel import Format
from cloister.pipes.names import Place, Style
from cloister.pipes.transport import Listener

__all__ = ["Claim"]


class Claim:
    """A name that this process has, and listens under."""

    def __init__(
        self, name: str, style: Style, form: Format, max_instances: int | None, current_user_only: bool
    ) -> None:
        form.check()
        if max_instances is not None and max_instances < 1:
            raise ValueError(f"max_instances is {max_instances}: at least 1, or None for no limit")
        self._format = form
        self._place: Place = native.find_place(name, style)
        self._listener: Listener = native.listen(
            self._place, max_instances=max_instances, current_user_only=current_user_only
        )

    @property
    def name(self) -> str:
        """The name, as it was given."""
        return self._place.name

    @property
    def path(self) -> str:
        """The path at which programs without cloister find the pipe."""
        return self._place.path

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._listener.closed

    def fileno(self) -> int:
        """A descriptor that is readable while a client waits, -1 while all instances are in use.

        It may change whenever an instance is taken or freed. Raises `NotConnected`, `WrongProcess`, `PipeError`.
        """
        return self._listener.fileno()

    def __del__(self) -> None:
        listener: Listener | None = getattr(self, "_listener", None)
        if listener is not None and not listener.closed:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            listener.close()
