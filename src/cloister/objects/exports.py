"""What this side has handed out: the objects that the peer may reach, and what it may do with each.

Here an object gets its id, is kept alive as long as the peer holds it, and is let go. What may be handed out is decided
in `rule`; how a call finds its way to the object is in `dispatch`. Any thread may enter, also from a finalizer that the
garbage collector runs in the middle of one of these methods: the lock can be taken again by its own thread, and what
must not be torn apart contains nothing that could run other code.

Counting. Messages take many ways - call lanes, shared lanes, the control channel - so that two of them arrive in any
order. Two sums on either side make that harmless:

- `count`: how often the object was sent, less how often the peer says that it had received it when it dropped it. A
  release that crosses a fresh mention of the object leaves it alive.
- `arrived` and `announced`: how often the peer has sent the object home, as it arrived here, and as the peer says with
  its release. A release that overtakes such a message waits for it.

An object is let go when its count is 0 and everything that was announced has arrived. What a lost message mentioned (a
lane that was given up) stays until the peer ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.objects.descriptions import SPECIAL_METHODS, Description, describe_type
from cloister.objects.file_proxies import FILE_METHODS
from cloister.objects.gone import marked
from cloister.objects.leases import Grant, Lease, grant_for
from cloister.objects.misaimed import Misaimed
from cloister.objects.streams import Puller

__all__ = ["CALLABLE", "Exported", "Exports", "Misaimed"]

CALLABLE: Final = Description(
    "builtins:function", ("builtins:function",), "A function of the other side.", specials=("__call__",)
)
"""How each function and bound method is described: that one callable, nothing else of its object."""
_ITERATION: Final = frozenset(("__iter__", "__next__", "__aiter__", "__anext__"))
_FILE_SPECIALS: Final = frozenset(("__iter__", "__next__", "__enter__", "__exit__"))
_PULLED: Final = frozenset(("__next__", "__anext__"))


class Exported:
    """One object that the peer may reach."""

    __slots__ = (
        "announced", "arrived", "count", "description", "key", "lease", "names", "number", "plain", "puller", "value"
    )  # fmt: skip

    def __init__(self, number: int, key: tuple[int, Description], value: Any) -> None:
        self.number = number
        self.key = key
        self.value = value
        self.description = key[1]
        self.names = self.description.callable_names
        """The methods that the peer may call."""
        self.lease: Grant | None = None
        """When it is let go though the peer holds it; None for almost all."""
        self.count = 0
        self.arrived = 0
        self.announced = 0
        self.puller = Puller() if not self.names.isdisjoint(_PULLED) else None
        """The state of the stream, where the object is an iterator."""
        self.plain = self.names - SPECIAL_METHODS if self.puller is None else frozenset()
        """Those of `names` that are called by their names, and nothing more is to be done."""


class Exports:
    """The objects of this side that one peer holds."""

    def __init__(self, open_attributes: bool) -> None:
        """`open_attributes`: the peer may also read and set public attributes. A guest grants that, a host never."""
        self.open_attributes = open_attributes
        self._lock = threading.RLock()
        self._by_number: dict[int, Exported] = {}
        self._by_key: dict[tuple[int, Description], Exported] = {}
        self._views: dict[type, Description] = {}
        self._iterators: dict[type, Description] = {}
        self._files: dict[type, Description] = {}
        self._types: dict[Description, int] = {}
        self._last = 0
        self._expired: dict[int, int] = {}
        """What was let go at the end of its lease and is still held over there: how often it was sent."""
        self.bury: Callable[[list[Any]], None] = list.clear
        """Takes what was let go of, and drops it where destructors may run. By default at once, on the same thread."""

    def __len__(self) -> int:
        return len(self._by_number)

    def view(self, cls: type) -> Description:
        """What the peer gets to see of a class: all that is public; from a host its methods only."""
        found = self._views.get(cls)
        if found is None:
            # What is passed on from a third domain is described as that one did.
            found = cls.__dict__.get("_cloister_description") or describe_type(cls)
            if not self.open_attributes:
                found = replace(found, attributes=())
            found = self._views.setdefault(cls, found)
        return found

    def view_of_iteration(self, cls: type) -> Description:
        """The same for an object that is handed out as an iterator and nothing else."""
        found = self._iterators.get(cls)
        if found is None:
            found = self.view(cls)
            specials = tuple(name for name in found.specials if name in _ITERATION)
            found = self._iterators.setdefault(cls, replace(found, methods=(), specials=specials))
        return found

    def view_of_file(self, cls: type) -> Description:
        """The same for an object that is handed out as a file and nothing else."""
        found = self._files.get(cls)
        if found is None:
            found = self.view(cls)
            methods = tuple(method for method in found.methods if method.name in FILE_METHODS)
            specials = tuple(name for name in found.specials if name in _FILE_SPECIALS)
            found = self._files.setdefault(cls, replace(found, methods=methods, specials=specials))
        return found

    def hand_out(self, value: Any, description: Description, lease: Lease | None = None) -> Exported:
        """Note that `value` is sent once more; return its entry. `lease`: its terms, beside those of its type.

        An object keeps its id as long as the peer holds it. One that is handed out under two descriptions has two.
        """
        key = (id(value), description)
        with self._lock:
            entry = self._by_key.get(key)
            if entry is None:
                self._last += 1
                made = Exported(self._last, key, value)
                entry = self._by_key.setdefault(key, made)
                self._by_number[entry.number] = entry
                if entry.lease is None:
                    entry.lease = grant_for(value, lease, self, entry.number)
            elif entry.lease is not None:
                entry.lease.keep(entry.lease.terms.seconds)
            entry.count += 1
            return entry

    def withdraw(self, number: int) -> None:
        """Note that what was handed out last was not sent."""
        with self._lock:
            entry = self._by_number[number]
            entry.count -= 1
            self._let_go(entry)

    def type_number(self, description: Description) -> int:
        """The number by which the peer knows a description."""
        with self._lock:
            return self._types.setdefault(description, len(self._types) + 1)

    def find(self, number: int) -> Exported:
        """The entry of an id that the peer named.

        Raises MarshalError where the object was handed out once and released since, and ProtocolError for an id that
        was never handed out.
        """
        entry = self._by_number.get(number)
        if entry is not None:
            return entry
        if number in self._expired:
            raise marked(
                MarshalError(f"object #{number} is gone: its lease ran out, because nobody used it for so long")
            )
        if type(number) is int and 0 < number <= self._last:
            raise marked(MarshalError(f"object #{number} is gone: the last proxy of it was dropped"))
        raise Misaimed(f"object {number!r} was never handed out")

    def held(self, number: int) -> Any:
        """The object of an id that the peer named; None where it is not there any more."""
        entry = self._by_number.get(number)
        return None if entry is None else entry.value

    def arrive(self, number: int) -> Exported:
        """The entry of an object that the peer sent home. Raises as `find`."""
        with self._lock:
            entry = self.find(number)
            entry.arrived += 1
            return self._let_go(entry)

    def release(self, dropped: Any) -> None:
        """Take back what the peer has dropped: a list of [id, how often received, how often sent home].

        Raises ProtocolError where the list is malformed or takes back more than was sent.
        """
        gone: list[Any] = []  # destructors run after the lock is free, because they may be anything
        with self._lock:
            for number, times, mentions in _releases(dropped):
                entry = self._by_number.get(number)
                if entry is None and times <= self._expired.get(number, 0):
                    self._expired[number] -= times
                    if not self._expired[number]:
                        del self._expired[number]
                    continue
                if entry is None or times > entry.count:
                    raise ProtocolError(f"object {number} was released {times} times, more often than it was sent")
                entry.count -= times
                entry.announced += mentions
                gone.append(self._let_go(entry))
                del entry
        self.bury(gone)

    def _let_go(self, entry: Exported) -> Exported:
        if not entry.count and entry.arrived >= entry.announced:
            self._by_number.pop(entry.number, None)
            self._by_key.pop(entry.key, None)
        return entry

    def expire(self, number: int) -> None:
        """Let an object go that the peer still holds: its lease has run out. Ignored where it is gone already."""
        with self._lock:
            entry = self._by_number.pop(number, None)
            if entry is None:
                return
            self._by_key.pop(entry.key, None)
            self._expired[number] = entry.count
        gone: list[Any] = [entry]
        del entry
        self.bury(gone)

    def clear(self) -> None:
        """Let everything go: the peer is gone."""
        with self._lock:
            gone = list(self._by_number.values())
            self._by_number.clear()
            self._by_key.clear()
            self._expired.clear()
        gone.clear()


def _releases(dropped: Any) -> list[tuple[int, int, int]]:
    try:
        releases = [(number, times, mentions) for number, times, mentions in dropped]
    except (TypeError, ValueError):
        raise ProtocolError("a release is a list of [object, how often received, how often sent home]") from None
    numbers = all(type(part) is int for release in releases for part in release)
    if not numbers or not all(times > 0 for _, times, _ in releases):
        raise ProtocolError("a release consists of whole numbers, and was received at least once")
    return releases
