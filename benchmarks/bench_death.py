"""From SIGKILL to the error in the call that was running, and on to the first answer of a successor, in milliseconds.

The floor is a thread that reads a raw pipe of a killed child until its end; for a successor, that and a posix_spawn.
Its child is a bare Python. The kernel clears a process away before it closes what that had, and takes two or three
times as long for one that has imported what a guest has. So there is a second floor: a pipe of a guest itself, read by
a process that does nothing else. What is above that is ours. A report that says what happened is part of what a domain
gives for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import cloister
from benchmarks import harness, peers
from benchmarks.harness import Entered, NotHere, Table

ROUNDS = 15
ERROR_AIM, SUCCESSOR_AIM = 1.2, 1.5
_BARE, _LARGE = "pass", "import cloister.guest.boot"
"""What the child of the floor imports."""
_READER = "import os, time; print(flush=True); os.read(0, 1); print(time.perf_counter())"
"""Says when its stdin ended; the clock is that of all processes."""
SETTLE_S = 0.02
"""How long a call may take to be on its way."""


def run() -> Iterator[Table]:
    """A table for the error, one beside the end of the very same process, one for the successor."""
    if sys.platform == "win32":
        raise NotHere("there are no signals")
    yield harness.contest(
        "Death: from SIGKILL to the error",
        {
            "raw end of file": floor,
            "raw end of file, of as large a child": lambda: _raw(_LARGE),
            "cloister, DomainCrashed": killed,
            "cloister, DomainCrashed, from a template": lambda: killed(template=True),
            "ProcessPoolExecutor": _executor,
            "multiprocessing manager": _manager,
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        aims={"cloister, DomainCrashed": ERROR_AIM},
        unit="ms",
    )
    for kind, template in (("", False), (" from a template", True)):
        ours = f"cloister, DomainCrashed of a guest{kind}"
        yield harness.contest(
            f"Death: the error, and a raw pipe of the same guest{kind}",
            {
                f"raw end of file of a guest{kind}": partial(_pipe_of_guest, template),
                ours: partial(killed, template=template),
            },
            rounds=harness.rounds(ROUNDS),
            placement="free",
            aims={ours: ERROR_AIM},
            unit="ms",
        )
    yield harness.contest(
        "Death: from SIGKILL to the answer of a successor",
        {
            "raw end of file + posix_spawn": lambda: _raw(_BARE, successor=True),
            "cloister, a new domain": lambda: killed(successor=True),
            "cloister, a new domain from a template": lambda: killed(successor=True, template=True),
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        aims={"cloister, a new domain from a template": SUCCESSOR_AIM},
        unit="ms",
    )


def _killed(pid: int, blocked: Callable[[], object]) -> float:
    """Kill a process while a thread is in a call to it; return the seconds until that has its error."""
    ended: list[float] = []
    entered = threading.Event()

    def call() -> None:
        entered.set()
        try:
            blocked()
        except Exception:
            ended.append(time.perf_counter())

    thread = threading.Thread(target=call)
    thread.start()
    entered.wait()
    time.sleep(SETTLE_S)
    begun = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    thread.join()
    return ended[0] - begun


@contextlib.contextmanager
def _raw(imports: str, successor: bool = False) -> Iterator[Entered]:
    program = f"import sys; sys.path[:] = {sys.path!r}; {imports}; print(flush=True); input()"

    def measure() -> list[float]:
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", program], stdout=-1, stdin=-1) as process:
            assert process.stdout is not None
            reader = process.stdout.fileno()
            os.read(reader, 1)

            def read() -> None:
                while os.read(reader, 1):
                    pass
                raise EOFError

            took = _killed(process.pid, read)
        if successor:
            begun = time.perf_counter()
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
            took += time.perf_counter() - begun
        return [took]

    yield measure, []


def floor() -> contextlib.AbstractContextManager[Entered]:
    """The end of file of a bare Python."""
    return _raw(_BARE)


@contextlib.contextmanager
def _pipe_of_guest(template: bool) -> Iterator[Entered]:
    setup = cloister.Setup(template=template)
    if sys.platform != "linux" or (template and not cloister.warm_up(setup)):
        raise NotHere("only Linux has templates, and names for pipes")

    def measure() -> list[float]:
        with cloister.Domain("bench", setup=setup) as domain:
            reader, writer = os.pipe()
            domain.call("os:open", f"/proc/{os.getpid()}/fd/{writer}", os.O_WRONLY)
            os.close(writer)
            with subprocess.Popen([sys.executable, "-I", "-S", "-c", _READER], stdin=reader, stdout=-1) as watching:
                os.close(reader)
                assert watching.stdout is not None
                watching.stdout.readline()
                pid = domain.pid
                assert pid is not None
                begun: list[float] = []

                def kill() -> None:
                    time.sleep(SETTLE_S)
                    begun.append(time.perf_counter())
                    os.kill(pid, signal.SIGKILL)

                thread = threading.Thread(target=kill)
                thread.start()
                with contextlib.suppress(cloister.DomainCrashed):
                    domain.call("time:sleep", 60)
                thread.join()
                return [float(watching.stdout.read()) - begun[0]]

    yield measure, []


@contextlib.contextmanager
def killed(successor: bool = False, template: bool = False) -> Iterator[Entered]:
    setup = cloister.Setup(template=template)
    if template and not cloister.warm_up(setup):
        raise NotHere("only Linux has templates")

    def measure() -> list[float]:
        domain = cloister.Domain("bench", setup=setup)
        domain.call(peers.LIGHT, 1)
        assert domain.pid is not None
        took = _killed(domain.pid, lambda: domain.call("time:sleep", 60))
        if successor:
            begun = time.perf_counter()
            domain = cloister.Domain("bench", setup=setup)
            domain.call(peers.LIGHT, 1)
            took += time.perf_counter() - begun
            domain.unload()
        return [took]

    yield measure, []


@contextlib.contextmanager
def _executor() -> Iterator[Entered]:
    def measure() -> list[float]:
        with ProcessPoolExecutor(1, peers.spawned) as pool:
            pid = pool.submit(os.getpid).result()
            return [_killed(pid, lambda: pool.submit(time.sleep, 60).result())]

    yield measure, []


@contextlib.contextmanager
def _manager() -> Iterator[Entered]:
    def measure() -> list[float]:
        with peers.waiting_manager() as (sleeper, pid):
            waiting: Any = sleeper
            return [_killed(pid, lambda: waiting.sleep(60))]

    yield measure, []
