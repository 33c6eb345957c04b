"""What a domain promises and what it is doing: `Domain.guarantees` and `Domain.status()`.

The table of guarantees is the one of the documents, and the tests hold each cell of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cloister.domain import diagnosis

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["GUARANTEES", "Allocated", "Status", "guarantees_of", "look_at"]

_COPIES = "a codec that shares nothing: values are copied, objects stay where they are"
_INTERPRETER = "an interpreter of its own"
_PROCESS = "a process of its own"

GUARANTEES: Final[dict[str, dict[str, str]]] = {
    "own objects, values copied at the wall": {"thread": _COPIES, "interpreter": _COPIES, "process": _COPIES},
    "unhandled exception stays inside": {
        "thread": "threads of its own, whose exceptions go to the caller or to an event",
        "interpreter": _INTERPRETER,
        "process": _PROCESS,
    },
    "own modules, own sys.path": {"interpreter": _INTERPRETER, "process": _PROCESS},
    "own interpreter lock": {"interpreter": _INTERPRETER, "process": _PROCESS},
    "native crash, os._exit, out of memory stay inside": {"process": _PROCESS},
    "can always be stopped": {"process": "SIGKILL to its process group and descendants"},
    "own Python, own dependencies": {"process": "Setup(python=..., venv=..., requirements=...)"},
}
"""The table of the documents: each line, and what enforces it at the levels that promise it."""


def guarantees_of(level: str) -> dict[str, str]:
    """What a level holds back, each with what enforces it."""
    return {line: by[level] for line, by in GUARANTEES.items() if level in by}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A domain at one moment."""

    name: str
    state: str
    """``starting``, ``ready``, ``stopping`` or ``ended``."""
    pid: int
    python: str
    """The Python version inside; empty until it has said so."""
    uptime: float
    """Seconds since its start, or that it lived."""
    cpu_seconds: float | None
    """CPU time that it has used; None where it is not known."""
    memory: int | None
    """Its resident memory in bytes; None where it is not known."""
    peak_memory: int | None
    """The most resident memory that it has had, in bytes; None where it is not known."""
    last_beat: float
    """Seconds since its last sign of life."""
    responsive: bool
    """False while beats that are owed do not come."""
    suspended: bool
    """Whether `Domain.suspend` lets it stand still; then no beat is owed."""
    calls: tuple[str, ...]
    """The calls that this program waits for."""
    running: int
    """How many calls were running over there at its last beat: what it works on, as it says itself."""
    working: bool
    """False where a call that this program waits for has not been taken up over there for two beats: the domain lives,
    but the thread that should serve the call does something else."""
    shared_memory: int
    """Bytes of shared memory that this program has made for large buffers, in both directions."""
    large_by_pipe: int
    """Large buffers that went through the pipe, because no shared memory was to be had when they were sent."""


@dataclass(frozen=True, slots=True)
class Allocated:
    """What the Python code of a domain has allocated since counting began."""

    size: int
    """Bytes that are in use."""
    peak: int
    """The most bytes that were in use at once."""


def look_at(life: Life) -> Status:
    """The status of a domain at this moment, from what is known in this process."""
    now = time.monotonic()
    report = life.report
    vitals = life.guard.vitals
    cpu = memory = peak = None  # of a domain in this process nobody knows its share
    if report is not None:
        cpu, peak = report.cpu_seconds, report.peak_memory
    elif not life.inside:
        pid = life.process.pid
        (cpu, _), memory, peak = diagnosis.cpu_and_state(pid), diagnosis.memory(pid), diagnosis.peak_memory(pid)
    return Status(
        name=life.name,
        state=life.state.value,
        pid=life.process.pid,
        python=life.python,
        uptime=now - life.started if report is None else report.seconds,
        cpu_seconds=cpu,
        memory=memory,
        peak_memory=peak,
        last_beat=max(0.0, now - life.guard.last_beat(now)),  # a beat may have come since we looked at the clock
        responsive=not vitals.unresponsive,
        suspended=life.suspension.on and report is None,
        calls=life.peer.calls(),
        running=len(vitals.running),
        working=vitals.working,
        shared_memory=life.peer.segments.size,
        large_by_pipe=life.peer.segments.missed,
    )
