"""Why a domain ended: what this program did, what the guest said last, and what the kernel knows, put together.

`reason` is the rule of "the first cause wins", `verdict` what callers are told; the rest asks the kernel. Any thread
may enter.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from cloister.domain import shortage
from cloister.errors import CannotUnload, DomainCrashed, DomainUnloaded, StartFailed
from cloister.report import Reason, Report, signal_text

if TYPE_CHECKING:
    from cloister.levels.process import Ending

__all__ = [
    "cpu_and_state",
    "killed_for_memory",
    "memory",
    "oom_kills_lately",
    "peak_memory",
    "reason",
    "still_there",
    "verdict",
]

_SIGKILL = 9
"""Its number everywhere; Windows has no name for it."""
_KILLING = (Reason.KILLED, Reason.WATCHDOG, Reason.STOP_TIMEOUT, Reason.CANCELLED)
"""The reasons whose deed is a SIGKILL at once, and nothing before it."""
LATELY_S = 0.5
"""How long a count of the kernel's is good: every sign of life asks for one, and each takes 50 µs."""

_VMSTAT_BYTES = 64 * 1024
_NEAR_BYTES = 256
_line_at = 0
"""Where the line was in ``/proc/vmstat``; it moves a little, as the numbers before it get longer."""
_counted = (0.0, 0)
"""When the kernel was asked last, and its answer."""
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def reason(
    doom: tuple[Reason, str] | None,
    words: tuple[Reason, int | None, str] | None,
    ending: Ending,
    out_of_memory: bool,
) -> tuple[Reason, int | None, str]:
    """Return the reason of an end, the exit code and a sentence.

    `doom` is what this program did to the domain, `words` the guest's last, `ending` what the kernel says;
    `out_of_memory`: the kernel killed a process for memory while the domain lived.
    """
    code = ending.exit_code
    if doom is not None:
        why, detail = doom
        if why is Reason.UNLOADED:
            return why, code, _bad_end(ending)
        if why not in _KILLING or not ending.known or ending.signal == _SIGKILL:
            return why, code, detail
        # It ended by itself in the moment in which this program decided to kill it.
        if why is Reason.STOP_TIMEOUT:
            return Reason.UNLOADED, code, _bad_end(ending)
    if words is not None and (ending.signal is None or not ending.known):
        return words[0], code if code is not None else words[1], words[2]
    if not ending.known:
        return Reason.UNKNOWN, None, "the kernel lost its status: this program ignores SIGCHLD or waits for any child"
    if ending.signal is None:
        return Reason.EXITED, code, ""
    if ending.signal == _SIGKILL and out_of_memory:
        return Reason.OUT_OF_MEMORY, None, "the kernel killed it because memory was used up"
    if sys.platform != "win32" and ending.signal == signal.SIGXCPU:
        return Reason.CPU_LIMIT, None, ""
    return Reason.SIGNAL, None, ""


def verdict(report: Report, unloaded: bool, failure: BaseException | None, was_ready: bool) -> BaseException:
    """The exception for every use of a domain that has ended, or is ending.

    `unloaded`: this program ended it in order; `failure` is what its set-up raised; `was_ready`: it has served calls.
    """
    if unloaded:
        return DomainUnloaded(f"domain {report.domain!r} was unloaded")
    if failure is not None or report.reason is Reason.START_TIMEOUT:
        why = report.detail if failure is None else f"{type(failure).__name__}: {failure}"
        error = StartFailed(f"domain {report.domain!r} did not start: {why}", report)
        error.__cause__ = failure
        return error
    if not was_ready:
        last = report.detail.rstrip().splitlines()[-1:] or report.output[-1:]
        said = f": {last[0]}" if last else ""
        if shortage.NO_THREAD in said:
            said += shortage.of_processes()
        return StartFailed(f"domain {report.domain!r} ended before it was ready{said}", report)
    return DomainCrashed(report)


def still_there(name: str, pid: int, level: str, seconds: float, where: str | None) -> CannotUnload:
    """What is raised where a domain has not ended in time. `where`: what it does, at a level within this process."""
    if where is None:
        return CannotUnload(f"domain {name!r} (process {pid}) was killed, and is still there")
    return CannotUnload(
        f"domain {name!r} did not end within {seconds:g} s, because code in it goes on{where}; at the level {level!r}"
        " nothing can end that. It ends when that does; unload() waits again"
    )


def _bad_end(ending: Ending) -> str:
    """A sentence where a domain that was asked to end did so badly; empty where it did well."""
    if ending.signal is not None and ending.signal != _SIGKILL:
        return f"while it was stopping, {signal_text(ending.signal)} ended it"
    return f"its exit code was {ending.exit_code}" if ending.exit_code else ""


def oom_kills_lately(now: float) -> int:
    """How many processes the kernel has killed for memory since it started, at most `LATELY_S` ago; 0 where it does not
    say. `now` is a time of `time.monotonic`."""
    global _counted
    if now - _counted[0] > LATELY_S:
        _counted = (now, _oom_kills())
    return _counted[1]


def killed_for_memory(ending: Ending, before: int) -> bool:
    """Whether the kernel has killed a process for memory since it told the number `before`, and this may be the one."""
    return ending.signal == _SIGKILL and _oom_kills() != before


def _oom_kills() -> int:
    """Only the part of the file is asked for in which the line was the last time: the whole takes three times as long,
    and this is on the way to the error of a crash."""
    global _line_at
    if sys.platform == "win32":
        return 0
    try:
        file = os.open("/proc/vmstat", os.O_RDONLY)
    except OSError:
        return 0
    try:
        for begin, size in ((max(0, _line_at - _NEAR_BYTES), 2 * _NEAR_BYTES), (0, _VMSTAT_BYTES)):
            text = os.pread(file, size, begin)
            found = text.find(b"\noom_kill ")
            line, ends, _ = text[found + 1 :].partition(b"\n")
            if found >= 0 and ends:
                _line_at = begin + found
                return int(line.split()[1])
        return 0
    except OSError:
        return 0
    finally:
        os.close(file)


def cpu_and_state(pid: int) -> tuple[float | None, str]:
    """CPU time that a process has used, in seconds, and the kernel's letter for its state; (None, "") if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None, ""
    return (int(fields[11]) + int(fields[12])) / _TICKS, fields[0].decode()


def memory(pid: int) -> int | None:
    """The resident memory of a process in bytes; None where it is not known."""
    if sys.platform == "win32":
        return None
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def peak_memory(pid: int) -> int | None:
    """The most resident memory that a process has had, in bytes; None where it is not known."""
    try:
        with open(f"/proc/{pid}/status", "rb") as lines:
            for line in lines:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
