"""What is known about the end of a domain, and how a person reads it.

Here are the enum of reasons and the report itself, plain data that can be pickled. Who finds the facts is
`levels` (the kernel's side) and `domain` (our own). Pure; any thread may enter.

The first cause wins: what this program did itself (unload, kill, watchdog, start time-out), then a bad message, then
what the guest said last, then what the kernel says. Where the kernel has lost the status, the reason is ``unknown``.
"""

from __future__ import annotations

import re
import signal as signals
from dataclasses import dataclass
from enum import Enum

__all__ = ["Reason", "Report", "signal_text", "visible"]


class Reason(Enum):
    """Why a domain ended. The value is the word that reports print."""

    UNLOADED = "unloaded"
    """It was asked to end, and did."""
    STOP_TIMEOUT = "stop time-out"
    """It was asked to end, did not within the time given, and was killed."""
    KILLED = "killed"
    """This program killed it with `Domain.kill`."""
    WATCHDOG = "watchdog"
    """The watchdog killed it, because it gave no sign of life and the policy says kill."""
    CANCELLED = "cancelled"
    """This program killed it, because a call that was given up did not stop within the `kill_after` of its caller."""
    START_TIMEOUT = "start time-out"
    """It was not ready within the time given, and was killed."""
    START_FAILED = "start failed"
    """Its set-up failed: the interpreter, a path, the initializer."""
    BAD_MESSAGE = "bad message"
    """It sent what the protocol forbids, and was killed."""
    EXITED = "exited"
    """It ended by itself with an exit code, `os._exit` or the end of its main thread."""
    RAISED = "raised"
    """An exception that nobody caught ended it."""
    OUT_OF_MEMORY = "out of memory"
    """It had no memory left, or the kernel killed it to have some."""
    CPU_LIMIT = "cpu limit"
    """It used up its CPU time."""
    SIGNAL = "signal"
    """A signal ended it that this program did not send."""
    HOST_GONE = "host gone"
    """Its host ended."""
    UNKNOWN = "unknown"
    """The kernel lost the status: another part of this program took it, and the kernel can't tell it twice."""


def _indent(text: str, mark: str) -> str:
    return "\n".join((mark + line).rstrip() for line in text.splitlines())


_OWN_FOLDER = __file__.replace("\\", "/").rpartition("/")[0] + "/"
_COMMANDS = _OWN_FOLDER + "cli/"
"""What the command line runs in domains is no different from a user's modules."""
_FRAME = re.compile(r'  File "(.*)", line \d+ in ')


def _users(stacks: str, cause: str) -> str:
    """Stacks without our own frames, threads that have no others, and what `cause` says already.

    As they are where nothing is left.
    """
    kept: list[str] = []
    for thread in re.split(r"\n\s*\n", stacks.strip("\n")):
        fatal = thread.startswith("Fatal Python error: ") and thread.partition(": ")[2] not in cause
        lines, frames, ours = [], int(fatal), False
        for line in thread.splitlines():
            frame = _FRAME.match(line)
            if frame:
                path = frame[1].replace("\\", "/")
                # What follows a frame of ours and is not a module is how our guest was started.
                inside = path.startswith(_OWN_FOLDER) and not path.startswith(_COMMANDS)
                ours = inside or (ours and path == "<string>")
                if ours:
                    continue
                frames += not path.endswith("/threading.py")
            lines.append(line)
        if frames:
            kept.append("\n".join(lines))
    return "\n".join(kept) or stacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known about the end of one domain. ``str(report)`` is a short text for a person."""

    domain: str
    """The name of the domain."""
    level: str = "process"
    """The level that it ran at."""
    pid: int | None = None
    """Its process, or None where nothing was started."""
    reason: Reason
    """The first cause."""
    exit_code: int | None = None
    """What it gave to `exit`, 0 to 255; None when a signal ended it or the status is lost."""
    signal: int | None = None
    """The number of the signal that ended it, else None."""
    detail: str = ""
    """One sentence that says more than the reason does; may be empty."""
    calls: tuple[str, ...] = ()
    """The calls that this program was waiting for when it ended, outermost first for each thread."""
    stacks: str = ""
    """The stacks of all its threads at a fatal signal or a time-out, as the guest's `faulthandler` wrote them. The text
    of a report leaves out the frames of cloister itself."""
    output: tuple[str, ...] = ()
    """The last lines of its stdout and stderr, oldest first."""
    seconds: float = 0.0
    """How long it lived, from its start, in seconds."""
    cpu_seconds: float | None = None
    """User and system time that it used, in seconds; None where the kernel did not tell."""
    peak_memory: int | None = None
    """Its largest resident set, in bytes; None where the kernel did not tell."""

    @property
    def cause(self) -> str:
        """The reason in a few words, with the signal's name or the exit code: ``SIGSEGV (Segmentation fault)``."""
        if self.reason is Reason.SIGNAL and self.signal is not None:
            return signal_text(self.signal)
        if self.reason is Reason.EXITED and self.exit_code is not None:
            return f"exited with code {self.exit_code}"
        return self.reason.value

    def __str__(self) -> str:
        process = "" if self.pid is None else f" (process {self.pid})"
        lines = [f"domain {self.domain!r}{process} ended: {self.cause}"]
        if self.detail:
            lines.append(_indent(self.detail, "  "))
        if self.calls:
            lines.append(f"  while it served: {', '.join(self.calls)}")
        if self.stacks:
            lines += ["  its stacks:", _indent(_users(self.stacks, self.cause), "    ")]
        if self.output:
            lines += ["  its last output:", _indent("\n".join(self.output), "    | ")]
        lived = f"  it lived {self.seconds:.2f} s"
        if self.cpu_seconds is not None:
            lived += f", used {self.cpu_seconds:.2f} s of CPU"
        if self.peak_memory is not None:
            lived += f", took at most {self.peak_memory / 2**20:.1f} MiB"
        lines.append(lived)
        return "\n".join(lines)


def signal_text(number: int) -> str:
    """The name of a signal with the system's words for it, such as ``SIGSEGV (Segmentation fault)``."""
    try:
        name = signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
    words = signals.strsignal(number)
    return f"{name} ({words})" if words else name


_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def visible(text: str, colours: bool = False) -> str:
    """The text with its control characters written out, so that they do a terminal no harm.

    Tab and the end of a line stay. `colours`: so do the sequences that choose colours.
    """
    if not colours:
        return text.translate(_SHOWN)
    pieces = _COLOUR.split(text)
    pieces[::2] = [piece.translate(_SHOWN) for piece in pieces[::2]]
    return "".join(pieces)
