"""What a test leaves behind: processes, threads, descriptors, socket files, shared memory, temporary directories.

Here are the snapshot and the comparison. Not here: the fixtures that fail a test, in conftest.py. Only the standard
library is used, and of Linux only ``/proc``; where that is missing, what it would tell is not looked at.

A thing is a leak when it was not there before the test and is still there `PATIENCE_S` after it. Most things end by
themselves within a millisecond or two, so the first look is at once, and the waiting is only paid by a test that
leaks. A snapshot costs about a millisecond.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["MARK", "Snapshot", "describe", "take_snapshot", "wait_until_clean"]

MARK = "CLOISTER_TEST_RUN"
"""The environment variable that every process of a test run inherits; its value is the run's pid."""

PATIENCE_S = 2.0
"""How long a thing may take to end by itself."""

_PROC = Path("/proc")

# Opened once by the standard library or a C library when first needed, and kept for ever on purpose.
_LAZY_TARGETS = frozenset({"/dev/urandom", "/dev/random"})

# pytest's own, and the directory of the run's runtime files, which is looked into instead.
_KEPT_ENTRIES = ("pytest-of-", "run")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What exists now. Each member maps the identity of a thing to words that describe it."""

    processes: dict[object, str] = field(default_factory=dict)
    threads: dict[object, str] = field(default_factory=dict)
    descriptors: dict[object, str] = field(default_factory=dict)
    mappings: dict[object, str] = field(default_factory=dict)
    files: dict[object, str] = field(default_factory=dict)


def take_snapshot() -> Snapshot:
    """Look at this process, its descendants, and the directories where cloister may leave files."""
    if sys.platform != "linux":  # under Wine a Windows program sees the machine's /proc, and can't read it
        return Snapshot(threads=dict(_threads()), files=dict(_temporary_files()))
    return Snapshot(
        dict(_processes()), dict(_threads()), dict(_descriptors()), dict(_mappings()), dict(_temporary_files())
    )


def wait_until_clean(before: Snapshot) -> list[str]:
    """Return what is still there that was not there in `before`, a line each; empty where nothing is.

    Polls for at most `PATIENCE_S` seconds, and returns at once when nothing is left.
    """
    deadline = time.monotonic() + PATIENCE_S
    found = _new_things(before)
    if found:
        # What only a reference cycle holds is not leaked: it goes with the next collection.
        gc.collect()
        found = _new_things(before)
    while found and time.monotonic() < deadline:
        time.sleep(0.01)
        found = _new_things(before)
    return found


def describe(who: str, found: list[str]) -> str:
    """Put the lines of `wait_until_clean` into one message."""
    return "\n".join([f"{who} left {len(found)} thing(s) behind:", *(f"  {line}" for line in found)])


def _new_things(before: Snapshot) -> list[str]:
    now = take_snapshot()
    found: list[str] = []
    for kind in ("processes", "threads", "descriptors", "mappings", "files"):
        known: dict[object, str] = getattr(before, kind)
        current: dict[object, str] = getattr(now, kind)
        found.extend(words for key, words in current.items() if key not in known)
    return found


# -- processes -------------------------------------------------------------------------------------------------------

_foreign_pids: dict[int, int] = {}
"""Processes that are not of this run, by pid, with their start time: their environment is read only once."""


def _processes() -> Iterator[tuple[object, str]]:
    """Every process of this run but this one: descendants by parentage, orphans by the mark they inherited."""
    if not _PROC.is_dir():
        return
    parents: dict[int, tuple[int, int, str, str]] = {}
    for name in os.listdir(_PROC):
        if name.isdecimal():
            status = _status(int(name))
            if status is not None:
                parents[int(name)] = status
    own = os.getpid()
    mark = f"{MARK}={own}".encode()
    for pid, (parent, start, state, command) in parents.items():
        if pid == own or not (_descends(pid, own, parents) or _is_marked(pid, start, mark)):
            continue
        if state == "Z" and parent != own:
            continue  # dead; its parent, which is not us, has not asked for the status yet
        ended = ", ended but never waited for" if state == "Z" else ""
        yield ("process", pid, start), f"process {pid} ({command}): {_command_line(pid)}, child of {parent}{ended}"


def _status(pid: int) -> tuple[int, int, str, str] | None:
    """Parent, start time in clock ticks since boot, state letter and name of a process; None when it is gone."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name is in brackets and may itself hold brackets and blanks.
    name, _, rest = text.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    return int(fields[1]), int(fields[19]), fields[0].decode(), name.decode(errors="replace")


def _descends(pid: int, ancestor: int, parents: dict[int, tuple[int, int, str, str]]) -> bool:
    while pid in parents:
        pid = parents[pid][0]
        if pid == ancestor:
            return True
    return False


def _is_marked(pid: int, start: int, mark: bytes) -> bool:
    if _foreign_pids.get(pid) == start:
        return False
    try:
        environment = _read(f"/proc/{pid}/environ")
    except OSError:
        environment = b"\0"  # gone, or of another user, who is none of ours
    marked = mark in environment.split(b"\0")
    if not marked and environment:  # it is empty for a moment while a process begins another program
        _foreign_pids[pid] = start
    return marked


def _command_line(pid: int) -> str:
    try:
        words = _read(f"/proc/{pid}/cmdline").rstrip(b"\0").split(b"\0")
    except OSError:
        return "?"
    return b" ".join(words).decode(errors="replace")[:300] or "?"


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(fd, 65536), b""))
    finally:
        os.close(fd)


# -- threads ---------------------------------------------------------------------------------------------------------


def _threads() -> Iterator[tuple[object, str]]:
    """Every thread that Python knows, also those that `_thread` started and `threading` never heard of."""
    known = {thread.ident: thread for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        thread = known.get(ident)
        name = "without a name" if thread is None else thread.name
        if name.startswith("pytest_timeout "):
            continue  # the time limit of the test, where there is no SIGALRM; it ends after us
        where = traceback.StackSummary.extract([(frame, frame.f_lineno)], lookup_lines=False)[0]
        identity = ident if thread is None else id(thread)
        yield ("thread", identity), f"thread {name}, in {where.name}() at {where.filename}:{where.lineno}"


# -- descriptors and shared memory -----------------------------------------------------------------------------------


def _descriptors() -> Iterator[tuple[object, str]]:
    """Every open descriptor with what it leads to: a file, a pipe, a socket, an unnamed memory file."""
    directory = "/proc/self/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        try:
            target = os.readlink(f"{directory}/{name}")
        except OSError:
            continue  # the descriptor that listed the directory
        # libffi maps its trampolines from its own file, with the first function that C may call.
        if target not in _LAZY_TARGETS and not os.path.basename(target).startswith("libffi.so"):
            yield ("descriptor", name, target), f"descriptor {name}: {target}"


def _mappings() -> Iterator[tuple[object, str]]:
    """Every piece of shared memory that is mapped here, also when its descriptor is closed already.

    A domain that several tests share keeps its segments; they are looked at when no domain lives, at last by the run.
    """
    living: Any = sys.modules.get("cloister.domain.living")
    kept = b"/memfd:cloister-segment" if living is not None and living._living else None
    try:
        text = _read("/proc/self/maps")
    except OSError:
        return
    for line in text.splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and words[1].endswith(b"s") and words[5].startswith((b"/memfd:", b"/dev/")):
            if kept is not None and words[5].startswith(kept):
                continue
            name = words[5].decode(errors="replace")
            # One segment may be mapped in several pieces: the file's number is its identity.
            yield ("mapping", words[3], words[4]), f"shared memory {name}, mapped at {words[0].decode()}"


# -- files -----------------------------------------------------------------------------------------------------------


def _temporary_files() -> Iterator[tuple[object, str]]:
    """Every entry of the temporary and runtime directories and of /dev/shm, sockets named as such."""
    temporary = tempfile.gettempdir()
    yield from _entries(temporary, lambda name: not name.startswith(_KEPT_ENTRIES))
    runtime = os.environ.get("CLOISTER_RUNTIME_DIR") or os.path.join(
        os.environ.get("XDG_RUNTIME_DIR", temporary), "cloister"
    )
    yield from _entries(runtime, lambda _name: True)
    if sys.platform != "win32":  # under Wine this folder is there as well, and holds nothing of ours
        yield from _entries("/dev/shm", _is_ours)


def _entries(directory: str, wanted: Callable[[str], bool]) -> Iterator[tuple[object, str]]:
    try:
        scan = os.scandir(directory)
    except OSError:
        return
    with scan:
        for entry in scan:
            if not wanted(entry.name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            kind = {stat.S_IFSOCK: "socket", stat.S_IFDIR: "directory"}.get(stat.S_IFMT(status.st_mode), "file")
            yield ("file", entry.path, status.st_ino), f"{kind} {entry.path}"


def _is_ours(name: str) -> bool:
    """Say whether an entry of /dev/shm can be of this run; other programs of this user have theirs there too.

    Semaphores are not: nothing here makes any, while programs beside this test, which use multiprocessing, do.
    """
    if name.startswith("sem."):
        return False
    try:
        return os.stat(f"/dev/shm/{name}").st_uid == os.geteuid()
    except OSError:
        return False
