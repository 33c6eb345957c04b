"""Where the running code is: the identity of the domain that it is in.

In a host it is the default domain; a guest with an interpreter of its own enters its domain once, for all of it. At the
thread level the domain is bound to the context of the guest's threads, and what they call inherits it; the threads that
the code there starts itself are bound by `own_threads`. `cloister.current_domain` reads it. Any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from cloister.guest.notices import Notices

__all__ = ["Place", "bind", "enter", "get_data", "here", "set_data", "shared", "shares"]

DEFAULT_NAME = "default"


@dataclass(slots=True, eq=False)
class Place:
    """One domain, as the code in it sees it."""

    name: str = DEFAULT_NAME
    identity: int = 0
    """0 is the default domain, a host counts its domains from 1."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The configuration that the creator gave."""
    base: str = ""
    """The application base that the creator gave; empty in a host, which has its own."""
    data: dict[str, Any] = field(default_factory=dict)
    """The data slots of the domain."""
    notices: Notices = field(default_factory=Notices)
    """What its code wants to know of its end."""
    events: Any = None
    """Who in it wants to be told of its events; see `cloister.domain.own_events`."""
    unhandled: list[Callable[[str, BaseException], None]] = field(default_factory=list)
    """Where it shares its interpreter: who is told of its unhandled exceptions; see `cloister.guest.unhandled`."""
    loaded: list[Callable[[str, str], None]] = field(default_factory=list)
    """Who is told of the modules that its code loads; see `cloister.guest.loads`."""
    raised: list[Callable[[Any], None]] = field(default_factory=list)
    """Who is told of each exception that its code raises; see `cloister.guest.raised`."""

    ends: list[Callable[[], object]] = field(default_factory=list)
    """Where it shares its interpreter: what is to be ended with it, such as domains that its code has made."""

    def end_what_is_its_own(self) -> None:
        """End what would outlive it; the last one first."""
        while self.ends:
            self.ends.pop()()

    def tell_unhandled(self, where: str, error: BaseException) -> None:
        """Tell of an exception that nobody in this domain handles."""
        for tell in list(self.unhandled):
            try:
                tell(where, error)
            except Exception:
                logging.getLogger("cloister").exception("what tells of unhandled exceptions raised")


_process = Place()
_bound: ContextVar[Place | None] = ContextVar("cloister.domain", default=None)


def here() -> Place:
    """The domain that the running code is in."""
    return _bound.get() or _process


def shares() -> bool:
    """Whether the running code is in a domain that shares its interpreter with another one."""
    return _bound.get() is not None


def shared() -> Place | None:
    """The domain that the running code is in, where that shares its interpreter with another one; else None."""
    return _bound.get()


def enter(place: Place) -> None:
    """Say which domain this interpreter is; called once, before any code of the user's runs."""
    global _process
    _process = place


def bind(place: Place) -> None:
    """Say in which domain the calling thread is, and what inherits its context."""
    _bound.set(place)


def set_data(slot: str, value: Any) -> None:
    """Put a value into a data slot."""
    if not isinstance(slot, str):
        raise TypeError(f"the name of a data slot is a text, not {slot!r}")
    here().data[slot] = value


def get_data(slot: str) -> Any:
    """The value of a data slot; None where nothing is in it."""
    return here().data.get(slot)
