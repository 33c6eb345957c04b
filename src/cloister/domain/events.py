"""What happens to a domain, as objects: `domain.on(Ready, handler)`.

Each event is given to its handlers once, in the order in which it happened, on a thread of cloister's that is not on
the way of any call. A handler that raises is logged; one that is slow delays the later events of its own domain only.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.report import Report

__all__ = [
    "Building",
    "Connected",
    "Event",
    "Exited",
    "ModuleLoaded",
    "Output",
    "Ready",
    "ResolveFailed",
    "Responsive",
    "UnhandledException",
    "Unresponsive",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a domain."""

    domain: str
    """The domain's name."""
    pid: int | None
    """Its process, where it has one of its own."""


@dataclass(frozen=True, slots=True)
class Building(Event):
    """The virtual environment of the domain is being made; only before `Connected`, and only where it was not there."""

    line: str
    """What is done, in words for people: what uv says, and what cloister does around it."""


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """The guest has said who it is; once for each domain."""

    python: str
    """The Python version that it runs, such as ``3.12.1``."""


@dataclass(frozen=True, slots=True)
class Ready(Event):
    """The set-up is done, the initializer has run: calls are served."""


@dataclass(frozen=True, slots=True)
class Output(Event):
    """The guest wrote a line. The event comes beside the line's way to `sys.stdout` or `sys.stderr`."""

    stream: str
    """``"stdout"`` or ``"stderr"``."""
    line: str
    """Without its end; bytes that are no UTF-8 are shown as ``\\xff``."""


@dataclass(frozen=True, slots=True)
class Unresponsive(Event):
    """No beat came for as many periods as the watchdog allows. The domain goes on, unless the policy says otherwise."""

    why: str
    """``"busy"``: it uses the CPU, so native code holds the interpreter lock. ``"stopped"``: a signal stopped it.
    ``"silent"``: it uses no CPU and says nothing."""
    missed: int
    """Periods without a beat."""
    cpu_seconds: float
    """CPU time that it used since its last beat."""
    stacks: str
    """The stacks of all its threads; empty where it could not write them, as while it is stopped."""


@dataclass(frozen=True, slots=True)
class Responsive(Event):
    """Beats come again after `Unresponsive`."""

    silent_seconds: float
    """How long there was none."""


@dataclass(frozen=True, slots=True)
class UnhandledException(Event):
    """The guest raised something that no caller waits for: in a thread of its own, or in a one-way call."""

    where: str
    """The name of the call, or ``"unhandled_exception"`` for a thread."""
    error: BaseException


@dataclass(frozen=True, slots=True)
class ModuleLoaded(Event):
    """A module was loaded in the domain. Told only where a handler of this very type was given with ``on=``, because
    the guest watches its imports for it."""

    module: str
    file: str
    """Empty where it has none."""


@dataclass(frozen=True, slots=True)
class ResolveFailed(Event):
    """Something was looked for in the domain, and neither found there nor answered by a handler of `on_resolve`. Told
    only where there is such a handler, or one of this very type was given with ``on=``."""

    kind: str
    """``"module"``, ``"type"`` or ``"resource"``."""
    name: str
    requested_by: str
    """The module whose code asked, as the guest says."""


@dataclass(frozen=True, slots=True)
class Exited(Event):
    """The domain has ended. Always the last event."""

    report: Report
