"""What happens to a domain, as objects: `domain.on(Ready, handler)`, ``for event in domain.events(Output)``.

Each event is given to its handlers once, in the order in which it happened, on a thread of cloister's that is not on
the way of any call. A handler that raises is logged, and told as an `UnhandledException`; one that is slow delays the
later events of its own domain only.

The order: `Building`, where there is something to build; `Connected`; `Ready`; `Unloading`, where it is unloaded and
was ready; `Exited`, always the last one. All others come between `Connected` and `Exited`, when they happen.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.report import Report

__all__ = [
    "Building",
    "Connected",
    "Event",
    "ExceptionRaised",
    "Exited",
    "ModuleLoaded",
    "Output",
    "ProcessExit",
    "Ready",
    "ResolveFailed",
    "Responsive",
    "Resumed",
    "Suspended",
    "UnhandledException",
    "Unloading",
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
class Suspended(Event):
    """`Domain.suspend` has stopped its process: nothing in it runs, and no beat is owed."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """Its process goes on, after `Domain.resume`, or because it is to end."""


@dataclass(frozen=True, slots=True)
class UnhandledException(Event):
    """Something was raised that no caller waits for: in a thread of the guest's own, in a task, in a one-way call, or
    by a handler of another event."""

    where: str
    """The name of the one-way call; ``"thread Thread-1"``, with the thread's name; ``"task"``; ``"main thread"``, which
    ends the domain; ``"a handler of Ready"``."""
    error: BaseException


@dataclass(frozen=True, slots=True)
class ExceptionRaised(Event):
    """Code in the domain has raised an exception, whether anybody catches it or not. Each is told once, where it was
    raised first; what is raised and caught in C is not seen, nor is what cloister itself raises.

    Told only where a handler or a stream asks for this very type, because it makes every exception of the domain
    slower; where it shares an interpreter, those of the others too, which are not told. It needs Python 3.12 in the
    domain."""

    kind: str
    """The type, as ``module.name``."""
    message: str
    """What ``str()`` gives, at most 1,000 characters."""
    file: str
    line: int
    function: str
    thread: str
    """The name of the thread."""


@dataclass(frozen=True, slots=True)
class ModuleLoaded(Event):
    """A module was loaded by code of the domain. Told only where a handler or a stream asks for this very type, because
    the guest watches its imports for it. One that is there already, as another domain has loaded it that shares the
    interpreter, is loaded by nobody."""

    module: str
    file: str
    """Empty where it has none."""


@dataclass(frozen=True, slots=True)
class ResolveFailed(Event):
    """Something was looked for in the domain, and neither found there nor answered by a handler of `on_resolve`. Told
    only where there is such a handler, or a handler or a stream asks for this very type."""

    kind: str
    """``"module"``, ``"type"`` or ``"resource"``."""
    name: str
    requested_by: str
    """The module whose code asked, as the guest says."""


@dataclass(frozen=True, slots=True)
class Unloading(Event):
    """The domain is about to be unloaded, and still works: its handlers may call it, and everything in it.

    First the handlers of its creator run, then those in the domain (see `CurrentDomain.on`), then it is asked to end.
    Together they have as long as `stop_timeout`. A domain that crashes, is killed, or was not ready yet, has none."""


@dataclass(frozen=True, slots=True)
class ProcessExit(Event):
    """The process that this code runs in ends, in order: an exit hook. Only for `CurrentDomain.on`; for the end of
    another domain there is `Exited`."""


@dataclass(frozen=True, slots=True)
class Exited(Event):
    """The domain has ended. Always the last event."""

    report: Report
