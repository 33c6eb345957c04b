"""What this side has received: the proxies of the peer's objects, each at most once.

Here a reference becomes a proxy and the same object the same proxy; and here it is noted what to release when a proxy
dies. What the numbers of a release mean is told in `exports`.

Any thread may enter `receive`, `mention` and `take_dropped`. The garbage collector may run a finalizer anywhere, in the
middle of these, and a finalizer of the user's may make a call that comes back in here. So the lock can be taken again
by its own thread; nothing that could collect stands between a look and the change that relies on it; and our own
finalizer takes no lock and only appends to a queue.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import ProtocolError
from cloister.objects.marks import KNOWN
from cloister.objects.proxies import Proxy, make_class
from cloister.objects.schema import size_of

if TYPE_CHECKING:
    from cloister.objects.descriptions import Description
    from cloister.objects.proxies import Callee

__all__ = ["MAX_DESCRIPTIONS", "MAX_REFERENCES", "MAX_TYPES", "Imports"]

MAX_REFERENCES: Final = 1_000_000
"""Objects of one peer that may be held at once; past it the peer is taken to flood this side."""
MAX_TYPES: Final = 10_000
"""Types that one peer may describe."""
MAX_DESCRIPTIONS: Final = 64 * 1024 * 1024
"""What the descriptions of one peer may weigh together, in characters; pandas as a whole weighs about 5 million."""


class _Held(weakref.ref[Any]):
    """A weak reference to a proxy or handle that knows what to release."""

    __slots__ = ("number", "times")
    __hash__ = object.__hash__  # by identity: the referent may be unhashable, or gone
    number: int
    times: int


def _later() -> None:
    """It is heard of with the next beat."""


class Imports:
    """The objects of one peer that this side holds."""

    def __init__(self, peer: Callee) -> None:
        self._peer = peer
        self.make_class = make_class
        """Makes the classes of proxies; another one where calls are awaited."""
        self._expected: dict[str, type] = {}
        self._lock = threading.RLock()
        self._held: dict[int, _Held] = {}
        self._handles: set[_Held] = set()
        self._mentions: dict[int, int] = {}
        self._types: dict[int, type[Proxy]] = {}
        self._descriptions: dict[int, Description] = {}
        self._room = MAX_DESCRIPTIONS
        self._dropped: deque[_Held] = deque()
        self.hurry: Callable[[], object] = _later
        """Lets the peer hear soon of what was dropped. Called by finalizers: it takes no lock and raises nothing."""
        self.keep: weakref.ref[Any] | None = None
        """What each proxy keeps alive: the domain, which would be unloaded if nobody held it."""

    def __len__(self) -> int:
        return len(self._held) + len(self._handles)

    # -- objects -----------------------------------------------------------------------------------------------------

    def receive(self, number: int, type_number: int, description: Description | None) -> Proxy:
        """Return the proxy of an object that the peer sent. Raises ProtocolError where a bound is passed."""
        held_now = self._held
        with self._lock:
            while True:
                held = held_now[number] if number in held_now else None  # noqa: SIM401 - a call could collect garbage
                if held is not None:
                    known: Proxy | None = held()
                    if known is not None:
                        held.times += 1
                        return known
                proxy = self._make(number, type_number, description)
                made = _Held(proxy, self._dropped.append)
                made.number, made.times = number, 0
                if (held_now[number] if number in held_now else None) is held:  # noqa: SIM401 - as above
                    made.times = 1
                    held_now[number] = made
                    return proxy

    def _make(self, number: int, type_number: int, description: Description | None) -> Proxy:
        if len(self._held) >= MAX_REFERENCES:
            raise ProtocolError(f"more than {MAX_REFERENCES} objects are held at once")
        cls = self._types.get(type_number)
        if cls is None:
            cls = self._describe(type_number, description)
        proxy = object.__new__(cls)
        object.__setattr__(proxy, "_cloister_id", number)
        object.__setattr__(proxy, "_cloister_peer", self._peer)
        object.__setattr__(proxy, "_cloister_keep", None if self.keep is None else self.keep())
        return proxy

    def adopt(self, proxy: Proxy, fresh: Proxy) -> None:
        """Let a proxy of a peer that has ended stand for what `fresh` stands for, and be what is received for it.

        The number is set before the peer, because a call looks at the peer first.
        """
        number = fresh._cloister_id
        with self._lock:
            before = self._held[number]
            held = _Held(proxy, self._dropped.append)
            held.number, held.times = number, before.times
            before.times = 0  # its end releases nothing
            object.__dict__["__class__"].__set__(proxy, type(fresh))
            object.__setattr__(proxy, "_cloister_id", number)
            object.__setattr__(proxy, "_cloister_peer", self._peer)
            self._held[number] = held

    def expect_as(self, other: Imports) -> None:
        """Know the types of this side that another peer's imports know."""
        for name, cls in list(other._expected.items()):
            self.expect(name, cls)

    def held(self, number: int) -> Proxy | None:
        """The proxy of an object, where this side has one."""
        held = self._held.get(number)
        return None if held is None else held()

    def hold(self, handle: Any, number: int) -> None:
        """Note that a handle, received once, holds an object; it is released when the handle dies."""
        held = _Held(handle, self._let_go)
        held.number, held.times = number, 1
        self._handles.add(held)

    def _let_go(self, held: _Held) -> None:
        self._handles.discard(held)
        self._dropped.append(held)

    def mention(self, number: int, times: int = 1) -> None:
        """Note that an object is sent home; -1 takes back what was not sent after all."""
        with self._lock:
            mentions = self._mentions
            mentions[number] = mentions[number] + times if number in mentions else times

    def take_dropped(self) -> list[list[int]]:
        """Return [id, how often received, how often sent home] for each proxy and handle that died since last time."""
        dropped: list[list[int]] = []
        with self._lock:
            held_now = self._held
            while self._dropped:
                held = self._dropped.popleft()
                number = held.number
                if number in held_now and held_now[number] is held:
                    del held_now[number]
                if held.times:
                    dropped.append([number, held.times, self._mentions.pop(number, 0)])
        return dropped

    @property
    def waiting(self) -> int:
        """How many dropped proxies wait for `take_dropped`."""
        return len(self._dropped)

    # -- types -------------------------------------------------------------------------------------------------------

    def _describe(self, number: int, description: Description | None) -> type[Proxy]:
        if description is None:
            raise ProtocolError(f"type {number!r} was never described")
        self._room -= size_of(description)
        if len(self._types) >= MAX_TYPES or self._room < 0:
            raise ProtocolError(f"more than {MAX_TYPES} types are described, or at too great a length")
        self._descriptions[number] = description
        return self._types.setdefault(number, self.make_class(description, self._known(description)))

    def _known(self, description: Description) -> type | None:
        """The nearest base that this side has imported, of those that it has named or marked itself."""
        for base in description.bases:
            known = self._expected.get(base) or KNOWN.get(base)
            if known is not None:
                return known
        return None

    def expect(self, name: str, cls: type) -> None:
        """Note that this side knows a type: proxies of it, and of types that derive from it, are instances of it."""
        if "<locals>" in name:  # a class that travels as code arrives without the function around it
            self.expect(f"{cls.__module__}:{cls.__name__}", cls)
        with self._lock:
            if self._expected.get(name) is not cls:
                self._expected[name] = cls
                for number, description in list(self._descriptions.items()):
                    if name in description.bases:
                        self._types[number] = self.make_class(description, self._known(description))
