"""The other side of one wall, as the objects of this side see it.

A peer has what was handed out to it (`exports`), what was received from it (`imports`), and a way to call it, which is
given by who owns the lanes: the domain in a host, the guest's service in a guest. Any thread may enter.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from cloister.errors import DomainError
from cloister.lanes.conversation import Conversation
from cloister.objects import (
    dispatch,
    gone,
    handles,  # noqa: F401 - so that the handles of others are known as what they are
    targets,
)
from cloister.objects.exchange import Exchange
from cloister.objects.exports import Exports
from cloister.objects.files import Arrivals
from cloister.objects.imports import Imports
from cloister.objects.rule import Marshaller
from cloister.wire import exceptions
from cloister.wire.messages import SERVICE
from cloister.wire.registry import DEFAULT_REGISTRY
from cloister.wire.values import Codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.errors import ProtocolError
    from cloister.lanes.call_frames import Call
    from cloister.wire.limits import WireLimits

__all__ = ["Peer"]


class Peer:
    """The other side."""

    def __init__(
        self,
        name: str,
        below: bool,
        service: dict[str, Callable[..., Any]],
        limits: WireLimits,
        resolve: Callable[[str], type | None] | None = None,
    ) -> None:
        """`below`: the peer is a guest of this side, so it gets only what is granted, and nothing it sends runs here.

        `name` is the domain's name; `service` is what target 0 offers; `resolve` finds a by-value type by its name,
        and is None in a host.
        """
        self.name = name
        self.below = below
        self.exports = Exports(open_attributes=not below)
        self.imports = Imports(self)
        self._service = service
        self._limits = limits
        self._resolve = resolve
        self._table: dict[str, type[Exception]] = {}
        self._known = -1
        self.awaits = not below
        """A loop serves what the peer calls here, so async iterators and coroutines may be handed out to it."""
        self.arrivals = Arrivals()
        """The descriptors that the peer sent ahead of their references; only in a guest."""
        self.segments = Exchange()
        """What lies in shared memory; none, until a domain's host and guest have agreed on it."""
        self.unsent: deque[int] = deque()
        """The tokens of descriptors whose references may never arrive; the peer is told of them with the next beat."""
        self.version = targets.VERSION
        """The Python version of the other side, for code that goes there."""

    def call(self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int = 0) -> Any:
        """Call a method of an object over there. Raises what it raised, and the errors of calls and domains."""
        raise NotImplementedError

    def awaiting(self) -> bool:
        """Whether a call that is made here and now gives an awaitable."""
        return False

    def broken(self, error: ProtocolError, name: str) -> BaseException:
        """An answer of the peer breaks the rules: give it up, where this side may. Returns what to raise."""
        return error

    def send_descriptor(self, fd: int) -> int | None:
        """Send a twin of a descriptor to the peer; return its token, or None where this side sends none."""
        return None

    def converse(self) -> Conversation:
        """Start the conversation of a call lane, with the rule applied for this lane."""
        marshaller = Marshaller(self)
        return Conversation(self._codec(marshaller), self._copier(marshaller))

    def shared_codecs(self) -> tuple[Codec, Codec, Codec]:
        """The codecs of a shared lane: for hearing, for saying, and for saying what was asked for as a copy."""
        marshaller = Marshaller(self)
        return self._codec(marshaller), self._codec(marshaller), self._copier(marshaller)

    def _codec(self, marshaller: Marshaller) -> Codec:
        return Codec(
            self._limits,
            outbound=marshaller.outbound,
            withdraw=marshaller.withdraw,
            inbound=marshaller.inbound,
            resolve=self._resolve,
            clock=time.thread_time_ns if self.below else None,
            place=marshaller.place,
            unplace=marshaller.unplace,
            fetch=marshaller.fetch,
        )

    def _copier(self, marshaller: Marshaller) -> Codec:
        copier = self._codec(marshaller)
        copier.outbound = marshaller.outbound_copy
        return copier

    def invoke(self, call: Call) -> Any:
        """Serve a call of the peer on the calling thread: find the object and its method, and call it."""
        if call[1] != SERVICE:
            try:
                return dispatch.invoke(self.exports, call, self.rebuild)
            except DomainError as error:
                self.mark_ended(call, error)
                raise
        _, _, name, args, kwargs, _, _ = call
        function = self._service.get(name)
        if function is None:
            raise AttributeError(f"there is no service {name!r} here", name=name)
        return function(*args, **kwargs)

    def mark_ended(self, call: Call, error: BaseException | None) -> None:
        """Say so with an error of a call that went on to a third domain, where that has ended; see `gone`."""
        if isinstance(error, DomainError):
            gone.mark_ended(self.exports.held(call[1]), error)

    def describe(self, error: BaseException) -> Any:
        """Turn an exception into plain values. Raises nothing."""
        return exceptions.describe(error)

    def rebuild(self, described: Any) -> BaseException:
        """Turn plain values into the exception. Raises ProtocolError where they are malformed."""
        known = len(DEFAULT_REGISTRY.by_name)
        if known != self._known:  # a module that was imported since has registered some
            self._table, self._known = exceptions.exception_table(), known
        return exceptions.rebuild(described, self._table)
