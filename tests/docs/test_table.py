"""The table of the README, cell by cell: a faulty function in a thread, in a pool of processes, in a domain."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloister

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faulty.py needs Linux's limits and signals")

HERE = Path(__file__).parent
SETUP = cloister.Setup(path=[HERE])
LIMIT_S = 20


def program(text: str) -> subprocess.Popen[str]:
    """Start a program that may import `faulty`; its stderr is thrown away."""
    beginning = "import os, signal, threading, time, faulty\nfrom concurrent.futures import *\n"
    return subprocess.Popen(
        [sys.executable, "-u", "-c", beginning + text],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def printed(text: str) -> tuple[int, list[str]]:
    """Run a program to its end; return its exit code and what it printed."""
    with program(text) as process:
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    return process.returncode, said.splitlines()


def pool(fault: str, then: str = "faulty.works", options: str = "") -> list[str]:
    """What becomes of a faulty call and of a call beside it in one pool of two workers."""
    _, lines = printed(
        f"""
def outcome(future):
    try:
        return future.result(timeout=10)
    except BaseException as error:
        return type(error).__name__

with ProcessPoolExecutor(2{options}) as pool:
    beside = pool.submit(time.sleep, 0.5)
    future = pool.submit({fault})
    print(outcome(future))
    print(outcome(beside))
    try:
        print(outcome(pool.submit({then})))
    except BrokenExecutor as error:
        print(type(error).__name__)
"""
    )
    return lines


@pytest.fixture
def domain() -> Iterator[cloister.Domain]:
    """A domain that finds `faulty`."""
    with cloister.Domain("faulty", setup=SETUP) as one:
        yield one


@pytest.fixture
def sibling() -> Iterator[cloister.Domain]:
    """Another domain of this program, with something to remember."""
    with cloister.Domain("sibling", setup=SETUP) as other:
        other.exec("memory = 42")
        yield other


# -- your function raises --------------------------------------------------------------------------------------------


def test_a_function_that_raises_in_a_thread() -> None:
    """The exception arrives."""
    text = """
with ThreadPoolExecutor() as pool:
    for function in (faulty.raises, faulty.raises_oddly):
        print(pool.submit(function).exception())
"""
    assert printed(text) == (0, ["a wrong value", "odd error 7 in the plug-in"])


@pytest.mark.slow
def test_a_function_that_raises_in_a_process_pool() -> None:
    """The exception arrives, but one that can't be unpickled breaks the pool and the call beside it."""
    assert pool("faulty.raises") == ["ValueError", "None", "works"]
    assert pool("faulty.raises_oddly") == ["BrokenProcessPool"] * 3


def test_a_function_that_raises_in_a_domain(domain: cloister.Domain) -> None:
    """The exception arrives, whatever its type, and the domain goes on."""
    with pytest.raises(ValueError, match="a wrong value"):
        domain.call("faulty:raises")
    with pytest.raises(Exception, match="odd error 7 in the plug-in"):
        domain.call("faulty:raises_oddly")
    assert domain.call("faulty:works") == "works"


# -- your function segfaults -----------------------------------------------------------------------------------------


def test_a_function_that_segfaults_in_a_thread() -> None:
    """The program is gone."""
    text = "thread = threading.Thread(target=faulty.segfaults); thread.start(); thread.join(); print('goes on')"
    assert printed(text) == (-signal.SIGSEGV, [])


def test_a_function_that_segfaults_in_a_process_pool() -> None:
    """Every call of the pool fails, and it takes no more."""
    assert pool("faulty.segfaults") == ["BrokenProcessPool"] * 3


def test_a_function_that_segfaults_in_a_domain(domain: cloister.Domain, sibling: cloister.Domain) -> None:
    """Its caller gets the signal and the stack; other domains go on."""
    with pytest.raises(cloister.DomainCrashed) as caught:
        domain.call("faulty:segfaults")
    assert caught.value.report is not None
    assert caught.value.report.signal == signal.SIGSEGV
    assert "in segfaults" in str(caught.value)
    assert sibling.eval("memory") == 42


# -- your function never returns -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_function_that_never_returns_in_a_thread() -> None:
    """The wait can be ended, the function can't, and the program does not end either."""
    text = """
pool = ThreadPoolExecutor()
try:
    pool.submit(faulty.never_returns).result(timeout=0.2)
except TimeoutError:
    print("main thread ends")
"""
    with program(text) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "main thread ends\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
        finally:
            process.kill()


def test_a_function_that_never_returns_in_a_process_pool() -> None:
    """The wait can be ended, the function can't: its worker is busy for ever."""
    text = """
pool = ProcessPoolExecutor(1)
try:
    pool.submit(faulty.never_returns).result(timeout=0.2)
except TimeoutError:
    print("time-out")
try:
    pool.submit(faulty.works).result(timeout=1)
except TimeoutError:
    print("the next one waits")
for process in pool._processes.values():
    process.kill()
"""
    assert printed(text) == (0, ["time-out", "the next one waits"])


def test_a_function_that_never_returns_in_a_domain(domain: cloister.Domain) -> None:
    """The call is ended at its time-out; the domain, and what it remembers, goes on."""
    domain.exec("memory = 42")
    with pytest.raises(cloister.CallTimeout):
        domain.with_options(timeout=0.2).call("faulty:never_returns")
    assert domain.eval("memory") == 42


# -- your function eats memory ---------------------------------------------------------------------------------------


def test_a_function_that_eats_memory_in_a_thread() -> None:
    """The whole program has none left."""
    text = """
faulty.limit_memory()
kept = []
full = threading.Event()
def eat():
    try:
        while True:
            kept.append(bytearray(1 << 24))
    except MemoryError:
        full.set()
threading.Thread(target=eat).start()
full.wait()
try:
    bytearray(1 << 25)
except MemoryError:
    print("main thread: no memory")
"""
    assert printed(text) == (0, ["main thread: no memory"])


@pytest.mark.slow
def test_a_function_that_eats_memory_in_a_process_pool() -> None:
    """With a limit that you set, MemoryError arrives; without one the kernel kills a worker, and every call fails."""
    limited = ", initializer=faulty.limit_memory"
    assert pool("faulty.eats_memory", options=limited) == ["MemoryError", "None", "works"]
    assert pool("faulty.is_killed") == ["BrokenProcessPool"] * 3


def test_a_function_that_eats_memory_in_a_domain(sibling: cloister.Domain) -> None:
    """With a limit that you set, MemoryError arrives; without one the kernel kills this domain alone."""
    setup = cloister.Setup(path=[HERE], initializer="faulty:limit_memory")
    with cloister.Domain("limited", setup=setup) as limited:
        with pytest.raises(MemoryError):
            limited.call("faulty:eats_memory")
        assert limited.call("faulty:works") == "works"
        with pytest.raises(cloister.DomainCrashed, match="SIGKILL"):
            limited.call("faulty:is_killed")
    assert sibling.eval("memory") == 42
