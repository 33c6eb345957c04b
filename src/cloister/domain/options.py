"""All that a domain is created with, in one value; `Domain` documents each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloister import calling
from cloister.domain import level
from cloister.domain.events import Event, ProcessExit
from cloister.domain.setup import LONGEST_S, Setup, Watchdog

__all__ = ["Options", "check_event", "check_handler", "check_plain", "program_args"]

Handlers = tuple[tuple[type[Event], Callable[[Any], object]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one domain, checked."""

    level: str = "process"
    setup: Setup = field(default_factory=Setup)
    watchdog: Watchdog = field(default_factory=Watchdog)
    max_concurrency: int | None = None
    start_timeout: float = 60.0
    stop_timeout: float = 5.0
    echo: bool = True
    handlers: Handlers = ()
    max_guest_lanes: int = 256
    """Threads of the guest's own that may call the host; each needs two descriptors here."""

    def __post_init__(self) -> None:
        """Raises TypeError and ValueError for what is no such option."""
        limit = self.max_concurrency
        if limit is not None and type(limit) is not int:
            raise TypeError(f"max_concurrency is a whole number, or None for no limit, not {limit!r}")
        if limit is not None and limit < 1:
            raise ValueError(f"max_concurrency is a number from 1 up, or None for no limit, not {limit!r}")
        calling.seconds_from_0("start_timeout", self.start_timeout)
        calling.seconds_from_0("stop_timeout", self.stop_timeout)
        for event, handler in self.handlers:
            check_handler(event, handler)
        level.check(self.level, self)
        if self.stop_timeout > LONGEST_S:
            raise ValueError(
                f"stop_timeout is at most {LONGEST_S:,} s, not {self.stop_timeout!r}: every stop is bounded"
            )


def check_event(event: object, inside: bool = False) -> type[Event]:
    """Raise TypeError unless this is a type of event that a domain tells its creator; `inside`: its own code."""
    if not (isinstance(event, type) and issubclass(event, Event)):
        raise TypeError(f"a handler is for a type of cloister.events, such as Exited, not for {event!r}")
    if event is ProcessExit and not inside:
        raise TypeError("ProcessExit is the end of one's own process, for current_domain().on(); use Exited here")
    return event


def check_handler(event: object, handler: object) -> None:
    """Raise TypeError unless this is a type of event and something to call."""
    event = check_event(event)
    if not callable(handler):
        raise TypeError(f"the handler of {event.__name__} is to be called with the event; {handler!r} can't be called")
    check_plain(event, handler)


def check_plain(event: type[Event], handler: object) -> None:
    """Raise TypeError for a coroutine function: handlers run on a thread, where nobody awaits anything."""
    if inspect.iscoroutinefunction(handler):
        raise TypeError(
            f"the handler of {event.__name__} is called on a thread of cloister's, where nothing is awaited; let a task"
            f" iterate over the events, as cloister.aio has it: async for event in domain.events({event.__name__})"
        )


def program_args(args: Sequence[str]) -> list[str]:
    """The arguments of a program. Raises TypeError unless they are a list of texts."""
    if isinstance(args, str | bytes):
        raise TypeError(f"the arguments of a program are a list of texts, not the text {args!r}")
    words = list(args)
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"the arguments of a program are texts, not {word!r}, which is a {type(word).__name__}")
    return words
