"""What is used up where a domain could not be started, in numbers, and what to do about it.

Descriptors are counted for this process; processes and threads for its user, its control group and the whole system.
Any thread may enter.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from cloister.pipes import processors

__all__ = ["DESCRIPTORS", "NO_THREAD", "THREADS", "advice", "of_processes"]

DESCRIPTORS: Final = 7
"""What one domain takes here: two for its first lane, two for its output, the control channel, the page, the pidfd."""
THREADS: Final = 2
"""What an idle domain is made of: its main thread and the one that gives signs of life."""
NO_THREAD: Final = "can't start new thread"
"""What Python says where the system has no thread to give."""


def advice(error: BaseException, living: int) -> str:
    """What to do where a domain could not be started for this error; empty where nothing was used up.

    `living` is how many domains of this program live.
    """
    if isinstance(error, RuntimeError) and NO_THREAD in str(error):
        return of_processes()
    if not isinstance(error, OSError):
        return ""
    if error.errno == errno.EAGAIN:
        return of_processes()
    return _of_descriptors(error.errno, living) if error.errno in (errno.EMFILE, errno.ENFILE) else ""


def _of_descriptors(number: int, living: int) -> str:
    limit = ""
    if sys.platform != "win32" and number == errno.EMFILE:
        import resource

        limit = f" of {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}"
    return (
        f". {living:,} domains live, and each takes about {DESCRIPTORS} descriptors of this process, as a thousand take"
        f" {1000 * DESCRIPTORS:,}, and more for each thread that calls them; raise the limit{limit} (ulimit -n,"
        " RLIMIT_NOFILE), or unload domains"
    )


def of_processes() -> str:
    """What to do where the system has no process or thread to give."""
    limits = "; ".join(_limits_of_processes())
    return (
        f". Each domain is a process with {THREADS} threads, as a thousand take {1000 * THREADS:,} in all, and more for"
        f" calls at once; raise the limit that is reached{f' ({limits})' if limits else ''}, or unload domains"
    )


def _limits_of_processes() -> list[str]:
    found = []
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        if limit != resource.RLIM_INFINITY:
            found.append(f"RLIMIT_NPROC, ulimit -u: {limit:,} for this user")
    most_in_groups = _least_of_groups()
    if most_in_groups is not None:
        found.append(f"pids.max of a control group: {most_in_groups[0]:,}, in {most_in_groups[1]}")
    most = _said("/proc/sys/kernel/pid_max").strip()
    if most.isdigit():
        found.append(f"kernel.pid_max: {int(most):,}")
    return found + _limits_of_locked_memory()


def _limits_of_locked_memory() -> list[str]:
    """The limit of a process that locks its memory: the stack of a new thread is locked too, or there is none."""
    locked = [line.split()[1] for line in _said("/proc/self/status").splitlines() if line.startswith("VmLck:")]
    if sys.platform == "win32" or not locked or not locked[0].isdigit() or locked[0] == "0":
        return []
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return []
    return [f"RLIMIT_MEMLOCK, ulimit -l: {limit // 1024:,} KiB, of which this process has locked {int(locked[0]):,}"]


def _least_of_groups() -> tuple[int, str] | None:
    """The least number of processes that a control group around this process allows, and its folder."""
    found = []
    try:
        for folder in processors.groups("pids"):
            most = _said(os.path.join(folder, "pids.max")).strip()
            if most.isdigit():
                found.append((int(most), folder))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def _said(path: str) -> str:
    """What a file of the kernel's says; empty where it is not there."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
