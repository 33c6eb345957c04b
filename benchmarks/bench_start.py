"""From nothing to the first answer, and from `unload` to the end: in milliseconds, against posix_spawn of /bin/true.

A domain is ready when it has answered a call. With `preload` it has imported numpy by then; where there is a template,
that was done before, once. The peers answer one call, too.

What can't be helped with a fork is measured as well: a process that has imported the same forks when it is told to, the
child says one byte, and ends. It has slept before, as a template has, because a fork with cold caches takes twice as
long.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cloister
from benchmarks import harness, peers
from benchmarks.harness import Entered, NotHere, Table

ROUNDS = 12
NUMPY_AIM, SPARE_AIM, UNLOAD_AIM = 1.5, 0.4, 1.0
SPARE_S = 0.06
"""How long a domain is there before the next one begins: a spare is forked when its template has been quiet."""


def run() -> Iterator[Table]:
    """One table for starting, one for ending."""
    yield harness.contest(
        "Start: to the first answer",
        {
            "posix_spawn(/bin/true)": floor,
            "python -I -S -c pass": _python,
            "cloister, a domain": lambda: started(cloister.Setup()),
            "a fork that says one byte, the same imported": lambda: _forked(0),
            "cloister, forked": lambda: started(_bare(0)),
            "cloister, forked, a spare": lambda: started(_bare(1)),
            "cloister, numpy preloaded": lambda: _numpy(0),
            "cloister, numpy preloaded, a spare": lambda: _numpy(1),
            "multiprocessing, spawn": lambda: _process("spawn"),
            "multiprocessing, forkserver": lambda: _process("forkserver"),
            "ProcessPoolExecutor(1)": _executor,
            "execnet": lambda: _opened(peers.execnet),
            "RPyC": lambda: _opened(peers.rpyc),
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        aims={"cloister, numpy preloaded": NUMPY_AIM, "cloister, numpy preloaded, a spare": SPARE_AIM},
        unit="ms",
    )
    yield harness.contest(
        "Start: the way back, from unload to the end",
        {
            "posix_spawn(/bin/true)": floor,
            "the end of a fork, the same imported": lambda: _forked(1),
            "cloister, a domain": lambda: _unload(cloister.Setup()),
            "cloister, forked": lambda: _unload(_bare(0)),
            "cloister, numpy preloaded": lambda: _unload(_with_numpy(0)),
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        aims={"cloister, forked": UNLOAD_AIM, "cloister, numpy preloaded": UNLOAD_AIM},
        unit="ms",
    )


def _timed(operation: Callable[[], object]) -> Callable[[], list[float]]:
    def measure() -> list[float]:
        begun = time.perf_counter()
        operation()
        return [time.perf_counter() - begun]

    return measure


@contextlib.contextmanager
def floor() -> Iterator[Entered]:
    if not hasattr(os, "posix_spawn"):
        raise NotHere("there is no posix_spawn")
    yield _timed(lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)), []


@contextlib.contextmanager
def _python() -> Iterator[Entered]:
    yield _timed(lambda: subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)), []


_FORKS = """
import gc, os, sys
sys.path[:] = sys.argv[1:]
import cloister.guest.template_linux, numpy
gc.collect()
gc.freeze()
ask, end = os.pipe()
while os.read(0, 1):
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.write(1, b"x")
        os.read(ask, 1)
        os._exit(0)
    os.read(0, 1)
    os.write(end, b"x")
    os.waitpid(pid, 0)
    os.write(1, b"x")
"""


@contextlib.contextmanager
def _forked(which: int) -> Iterator[Entered]:
    """From a byte to the answer of a bare fork, or from another byte to its end."""
    if importlib.util.find_spec("numpy") is None or sys.platform != "linux":
        raise NotHere("numpy is not installed, or a fork is not sound here")
    command = [sys.executable, "-c", _FORKS, *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        told, heard = process.stdin, process.stdout
        assert told is not None
        assert heard is not None

        def measure() -> list[float]:
            times = []
            for _ in range(2):
                time.sleep(SPARE_S)
                begun = time.perf_counter()
                told.write(b"x")
                heard.read(1)
                times.append(time.perf_counter() - begun)
            return [times[which]]

        measure()
        yield measure, []
        told.close()


@contextlib.contextmanager
def started(setup: cloister.Setup, target: str = peers.LIGHT) -> Iterator[Entered]:
    """The end of each domain is not in its time, and neither is the start of its template."""
    cloister.warm_up(setup)

    def measure() -> list[float]:
        begun = time.perf_counter()
        domain = cloister.Domain("bench", setup=setup)
        domain.call(target, 1)
        took = time.perf_counter() - begun
        if setup.spares:
            time.sleep(SPARE_S)
        domain.unload()
        return [took]

    measure()  # the first domain has no spare yet
    yield measure, []


def _bare(spares: int) -> cloister.Setup:
    return cloister.Setup(template=True, spares=spares, extra_env=_apart(spares))


def _apart(spares: int) -> dict[str, str]:
    """Variables by which contestants with and without spares have templates of their own."""
    return {"CLOISTER_BENCH_SPARES": str(spares)}


def _with_numpy(spares: int) -> cloister.Setup:
    if importlib.util.find_spec("numpy") is None:
        raise NotHere("numpy is not installed; it is in the group `libraries`")
    return cloister.Setup(preload=["numpy"], spares=spares, extra_env=_apart(spares))


def _numpy(spares: int) -> contextlib.AbstractContextManager[Entered]:
    return started(_with_numpy(spares))


@contextlib.contextmanager
def _unload(setup: cloister.Setup) -> Iterator[Entered]:
    """An idle domain without handlers."""
    cloister.warm_up(setup)

    def measure() -> list[float]:
        domain = cloister.Domain("bench", setup=setup)
        domain.call(peers.LIGHT, 1)
        time.sleep(SPARE_S)
        begun = time.perf_counter()
        domain.unload()
        return [time.perf_counter() - begun]

    yield measure, []


# -- the peers ---------------------------------------------------------------------------------------------------------


def answer_once(link: Any) -> None:
    """Be a process that answers one call."""
    link.send(peers.add(link.recv()))


@contextlib.contextmanager
def _process(method: Any) -> Iterator[Entered]:
    context: Any = multiprocessing.get_context(method)

    def measure() -> list[float]:
        begun = time.perf_counter()
        ours, theirs = context.Pipe()
        process = context.Process(target=answer_once, args=(theirs,))
        process.start()
        ours.send(1)
        ours.recv()
        took = time.perf_counter() - begun
        process.join()
        return [took]

    yield measure, []


@contextlib.contextmanager
def _executor() -> Iterator[Entered]:
    def measure() -> list[float]:
        begun = time.perf_counter()
        with ProcessPoolExecutor(1, peers.spawned) as pool:
            pool.submit(peers.add, 1).result()
            took = time.perf_counter() - begun
        return [took]

    yield measure, []


@contextlib.contextmanager
def _opened(peer: Callable[[], contextlib.AbstractContextManager[peers.Maker]]) -> Iterator[Entered]:
    def measure() -> list[float]:
        begun = time.perf_counter()
        with peer() as (connect, _), connect() as call:
            call(1)
            took = time.perf_counter() - begun
        return [took]

    measure()  # so that a peer that is not there says so
    yield measure, []
