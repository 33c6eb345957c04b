"""What a domain promises and what it is doing: `Domain.guarantees` and `Domain.status()`.

The table of guarantees is the one of the documents, and the tests hold each cell of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloister.domain import diagnosis

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["Allocated", "Status", "guarantees_of", "look_at"]

_PROCESS = {
    "own objects, values copied at the wall": "a process of its own; a codec that shares nothing",
    "unhandled exception stays inside": "a process of its own",
    "own modules, own sys.path": "an interpreter of its own",
    "own interpreter lock": "an interpreter of its own",
    "native crash, os._exit, out of memory stay inside": "a process of its own",
    "can always be stopped": "SIGKILL to its process group and descendants",
    "own Python, own dependencies": "Setup(python=...)",
}


def guarantees_of(level: str) -> dict[str, str]:
    """What a level holds back, each with what enforces it."""
    return dict(_PROCESS) if level == "process" else {}


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
    if report is None:
        cpu, _ = diagnosis.cpu_and_state(life.process.pid)
    else:
        cpu = report.cpu_seconds
    return Status(
        name=life.name,
        state=life.state.value,
        pid=life.process.pid,
        python=life.python,
        uptime=now - life.started if report is None else report.seconds,
        cpu_seconds=cpu,
        memory=diagnosis.memory(life.process.pid) if report is None else None,
        peak_memory=diagnosis.peak_memory(life.process.pid) if report is None else report.peak_memory,
        last_beat=now - vitals.last_beat,
        responsive=not vitals.unresponsive,
        suspended=life.suspension.on and report is None,
        calls=life.peer.calls(),
        running=len(vitals.running),
        working=vitals.working,
        shared_memory=life.peer.segments.size,
        large_by_pipe=life.peer.segments.missed,
    )
