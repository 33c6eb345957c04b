"""What an idle domain takes: its share of memory (PSS) after one call, and what it costs its host.

PSS divides a page that several processes share among them, so the sum over all is what the machine gives. The floor is
a fresh Python that has imported numpy.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloister
from benchmarks import harness, peers
from benchmarks.harness import NotHere, Table

COUNT = 20
FORKED = 100
"""How many guests of one template there are: they share what it has made."""
NUMPY_AIM = 0.15


def run() -> Iterator[Table]:
    """One table of memory, and one of threads and descriptors of the host."""
    if sys.platform != "linux":
        raise NotHere("only Linux tells the share of a process")
    if importlib.util.find_spec("numpy") is None:
        raise NotHere("numpy is not installed; it is in the group `libraries`")
    missing: dict[str, str] = {}
    counts: dict[str, int] = {}
    costs: dict[str, list[int]] = {}
    found: dict[str, list[float]] = {}
    for name in KINDS:
        counts[name] = harness.rounds(FORKED if "preloaded" in name else COUNT)
        try:
            found[name], costs[name] = _measured(name, counts[name])
        except NotHere as reason:
            missing[name] = str(reason)

    def columns(name: str, _: float) -> dict[str, float | str]:
        threads, descriptors = costs[name]
        return {
            "threads of the host": threads / counts[name],
            "descriptors of the host": descriptors / counts[name],
            "children": counts[name],
        }

    yield harness.table(
        "Memory: share of an idle child",
        found,
        aims={"cloister, numpy preloaded": NUMPY_AIM, "cloister, numpy preloaded, gc.collect()": NUMPY_AIM},
        missing=missing,
        extra=columns,
        unit="MiB",
        scale=1 / (1 << 20),
    )


def shares(names: list[str], count: int) -> dict[str, list[float]]:
    """The shares, in bytes, of so many children of some kinds."""
    return {name: _measured(name, count)[0] for name in names}


def _measured(name: str, count: int) -> tuple[list[float], list[int]]:
    """The shares of so many children of a kind, and how many threads and descriptors of the host they take."""
    with contextlib.ExitStack() as stack:
        before = _of_host()
        pids = [stack.enter_context(KINDS[name]()) for _ in range(count)]
        costs = [now - then for now, then in zip(_of_host(), before, strict=True)]
        return [_pss(pid) for pid in pids], costs


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1]) * 1024
    raise NotHere("this kernel does not tell the share of a process")


def _of_host() -> tuple[int, int]:
    gc.collect()
    time.sleep(0.2)  # threads of the contestant before are about to end
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def _python(code: str) -> Iterator[int]:
    command = [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@contextlib.contextmanager
def _domain(preload: list[str], *, collect: bool = False) -> Iterator[int]:
    setup = cloister.Setup(preload=preload)
    cloister.warm_up(setup)
    with cloister.Domain("bench", setup=setup) as domain:
        domain.call(peers.LIGHT, 1)
        if collect:
            domain.call("gc:collect")
        assert domain.pid is not None
        yield domain.pid


def answer_until(link: Any) -> None:
    """Be a process that has answered one call."""
    link.send(peers.add(1))
    with contextlib.suppress(EOFError):
        link.recv()


@contextlib.contextmanager
def _process() -> Iterator[int]:
    ours, theirs = peers.spawned.Pipe()
    process = peers.spawned.Process(target=answer_until, args=(theirs,))
    process.start()
    theirs.close()
    ours.recv()
    assert process.pid is not None
    yield process.pid
    ours.close()
    process.join()


@contextlib.contextmanager
def _peer(peer: Callable[[], contextlib.AbstractContextManager[peers.Maker]]) -> Iterator[int]:
    with peer() as (connect, pid), connect() as call:
        call(1)
        yield pid


KINDS: dict[str, Callable[[], contextlib.AbstractContextManager[int]]] = {
    "fresh python + numpy": lambda: _python("import numpy"),
    "fresh python": lambda: _python("pass"),
    "cloister, a domain": lambda: _domain([]),
    "cloister, numpy preloaded": lambda: _domain(["numpy"]),
    "cloister, numpy preloaded, gc.collect()": lambda: _domain(["numpy"], collect=True),
    "multiprocessing, spawn": _process,
    "RPyC": lambda: _peer(peers.rpyc),
    "execnet": lambda: _peer(peers.execnet),
}
