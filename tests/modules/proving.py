"""What the tests of the checks run in domains of each level; at the level ``thread`` the host has this module too."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloister

_kept: list[Any] = []
_living: weakref.WeakSet[Customers] = weakref.WeakSet()


def place() -> tuple[str, int]:
    """The domain and the context that the running code is in."""
    return cloister.current_domain().name, cloister.current_context().id


@cloister.by_reference
class Customers:
    """Stays where it was made."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.made_in = (*place(), cloister.logical_thread())
        _living.add(self)

    def add(self, name: str) -> None:
        """One more."""
        self.names.append(name)

    def list(self) -> tuple[list[str], str]:
        """The names, and the domain in which this ran."""
        return list(self.names), place()[0]

    def itself(self) -> Customers:
        return self


@cloister.by_value
class CustomersByValue:
    """Is copied."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.made_in = place()[0]

    def list(self) -> tuple[list[str], str]:
        """The names, and the domain in which this ran."""
        return list(self.names), place()[0]


@cloister.by_value
class Locked:
    """Would be copied, but for what it holds."""

    def __init__(self) -> None:
        self.rows: list[Any] = [1, {"key": threading.Lock()}]

    def repair(self) -> None:
        """Drop what can't be copied."""
        self.rows.clear()


@cloister.synchronized
class Broker:
    """One thread at a time."""

    def __init__(self) -> None:
        self.made_in = (*place(), cloister.logical_thread())
        self.inside = self.most_inside = 0

    def where(self) -> tuple[str, int]:
        return place()

    def call(self, function: Callable[[], Any]) -> Any:
        """Call something out there, and note how many are in here meanwhile."""
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            return function()
        finally:
            self.inside -= 1

    def itself(self) -> Broker:
        return self

    def is_itself(self, other: object) -> bool:
        return other is self


@cloister.synchronized(reentrant=True)
class OpenBroker(Broker):
    """Others may come in while it calls out."""


class Agile:
    """Lives in no context."""

    def where(self) -> tuple[str, int]:
        return place()


def visit(broker: Broker) -> tuple[bool, int]:
    """What code of the default context sees of a broker: whether it is a proxy, and from which context."""
    return cloister.is_proxy(broker), place()[1]


def waiting(made: object) -> int:
    """How many threads wait for their turn in a synchronized object of this domain."""
    context = cloister.context_of(made)
    assert context is not None
    assert context._turn is not None
    return context._turn.waiting


class Made:
    """Made by somebody else, or by itself."""


@cloister.synchronized(cloister.Synchronization.REQUIRES_NEW)
class Maker:
    """Makes objects in its context."""

    def make(self, made: type) -> Any:
        return made()


def turns() -> dict[str, tuple[str, str]]:
    """Which turn an object of each mode gets that is made from a synchronized context, and from the default one."""

    def turn_of(made: object) -> object:
        context = cloister.context_of(made)
        return None if context is None else context._turn

    found = {}
    for mode in cloister.Synchronization:
        made: Any = cloister.synchronized(mode)(type("Made", (Made,), {}))
        maker = Maker()
        inner, plain = turn_of(maker.make(made)), turn_of(made())
        own = "none" if inner is None else "same" if inner is turn_of(maker) else "new"
        found[mode.name] = (own, "none" if plain is None else "new")
    return found


def slots() -> dict[str, Any]:
    """What becomes of a data slot of one context in another one."""
    one, other = cloister.context_of(Broker()), cloister.context_of(Broker())
    assert one is not None
    assert other is not None
    data = one.data
    data.allocate("colour")
    one.call(lambda: cloister.current_context().data.__setitem__("colour", "kept"))
    try:
        data.allocate("colour")
        twice = ""
    except ValueError as error:
        twice = type(error).__name__
    found = {
        "own": data["colour"],
        "other": other.call(lambda: cloister.current_context().data.get("colour")),
        "twice": twice,
        "inside": one.call(cloister.current_context) is one,
    }
    data.free("colour")
    data.allocate("colour")
    found["again"] = "colour" not in data or data["colour"] is None
    data.free("colour")
    return found


def same(one: object, other: object) -> bool:
    """Whether two arguments are one object."""
    return one is other


def give_back(value: Any) -> Any:
    """Return what came."""
    return value


def living() -> int:
    """How many customers by reference there are."""
    gc.collect()
    return len(_living)


def grow(mebibytes: int) -> None:
    """Take memory, every page of it, and keep it until the domain ends.

    In one piece: above 32 MiB the C library gives it back to the system; what it does with less is its own affair.
    """
    cloister.current_domain().set_data("grown", bytearray(b"x") * (mebibytes * 2**20))


def fail_with_group() -> None:
    """Raise a group of what is known and what is not."""
    raise ExceptionGroup("several", [ValueError("known"), Unknown("not known")])


class Unknown(Exception):
    """The host has not heard of it, where it does not share this module."""


def own_config() -> dict[str, Any]:
    """The configuration of this domain."""
    return dict(cloister.current_domain().config)


def resource(package: str, name: str) -> bytes:
    """A resource, as code in the domain asks for it."""
    return cloister.current_domain().resource(package, name)


def note(file: str, line: str) -> None:
    """Write a line into a file."""
    with Path(file).open("a") as stream:
        stream.write(f"{line}\n")


@cloister.by_value
class WontLeave:
    """Refuses in the middle of being copied."""

    def __init__(self) -> None:
        self.first = [1, 2, 3]

    def __getstate__(self) -> Any:
        raise RuntimeError("no state for you")


@cloister.by_value
class WontArrive:
    """Can be taken apart, and refuses to be put together."""

    def __init__(self) -> None:
        self.first = [1, 2, 3]

    def __getstate__(self) -> Any:
        return {"first": self.first}

    def __setstate__(self, state: Any) -> None:
        self.first = state["first"]
        raise RuntimeError("I won't be copied")


class WontBePickled:
    """Neither copied nor pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle of this")
