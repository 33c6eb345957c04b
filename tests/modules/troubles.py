"""What a guest may do to itself: end in every way, hang, stop, flood, leave children. Imported by guests only."""

from __future__ import annotations

import asyncio
import atexit
import collections
import ctypes
import fcntl
import gc
import itertools
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import cloister


def exit_at_once(code: int) -> None:
    """End without ceremony."""
    os._exit(code)


def segfault() -> None:
    """Read address 0."""
    ctypes.string_at(0)


def abort() -> None:
    """Call abort()."""
    os.abort()


def die_of(number: int) -> None:
    """End by a signal, whatever Python does with it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(10)


def raise_when_idle(seconds: float, error: type[BaseException] = ValueError) -> None:
    """Raise on the main thread, a moment after this call is over, where nobody catches it."""

    def handler(*_: object) -> None:
        raise error("nobody waits for this")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def exit_when_idle(seconds: float, code: int) -> None:
    """End the program in good order a moment after this call is over."""

    def handler(*_: object) -> None:
        sys.exit(code)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def use_memory(limit: int, size: int) -> int:
    """Limit the memory of this process, then ask for `size` bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return len(bytearray(size))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def use_memory_when_idle(seconds: float) -> None:
    """Run out of memory on the main thread, a moment after this call is over."""

    def handler(*_: object) -> None:
        raise MemoryError

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def eat_memory() -> None:
    """Touch memory until the kernel says stop."""
    eaten = []
    while True:
        eaten.append(bytearray(8 * 1024 * 1024))


def join_memory_group(folder: str) -> None:
    """Move this process into a control group."""
    with open(f"{folder}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))


def raise_in_thread(text: str) -> None:
    """Raise in a thread of the guest's own."""

    def run() -> None:
        raise LookupError(text)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def pid() -> int:
    """The number of this process."""
    return os.getpid()


def add(left: int, right: int) -> int:
    """Add."""
    return left + right


def compute(seconds: float) -> int:
    """Keep the interpreter busy with Python code."""
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        count += 1
    return count


def sleep(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


async def nap(seconds: float) -> None:
    """Sleep in a coroutine."""
    await asyncio.sleep(seconds)


async def nap_stubbornly(seconds: float) -> None:
    """Sleep in a coroutine that swallows its cancellation."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(end - time.monotonic())
        except asyncio.CancelledError:
            pass


def runaway() -> None:
    """Run a regular expression that holds the interpreter lock for about a century."""
    re.match(r"(a+)+$", "a" * 48 + "b")


def hold_the_lock() -> None:
    """Compute in native code that neither releases the interpreter lock nor looks at signals, for ever."""
    collections.deque(itertools.repeat(None), maxlen=0)


def tell_and_hold_the_lock(begun: Callable[[], object]) -> None:
    """Tell the host that this has begun, then hold the lock for ever, whatever is raised."""
    try:
        begun()
    finally:
        hold_the_lock()


def tell_and_do(begun: Callable[[], object], what: str, *args: object) -> None:
    """Tell the host that this has begun, then do one of the things of this module, whatever is raised."""
    try:
        begun()
    finally:
        globals()[what](*args)


def hold_the_lock_idly() -> None:
    """Wait in native code that does not release the interpreter lock, for ever."""
    reader, _ = os.pipe()
    ctypes.PyDLL(None).read(reader, ctypes.create_string_buffer(1), 1)


def hold_main_thread(seconds: float) -> None:
    """Keep the main thread away from its calls for a while, beginning a moment after this one is over."""

    def handler(*_: object) -> None:
        time.sleep(seconds)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def stop_oneself() -> None:
    """Stop this process, as a debugger or Ctrl-Z does."""
    os.kill(os.getpid(), signal.SIGSTOP)


def swallow_everything(seconds: float) -> str:
    """Go on whatever is raised."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException:
            pass
    return "done"


def block_signals() -> None:
    """Refuse every signal that can be refused, and hold the interpreter lock."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    hold_the_lock()


def leave_thread_running(seconds: float) -> None:
    """Start a thread that Python waits for at exit."""
    threading.Thread(target=time.sleep, args=(seconds,), daemon=False).start()


def hang_at_exit(seconds: float) -> None:
    """Hang in an exit hook."""
    atexit.register(time.sleep, seconds)


def print_at_exit() -> None:
    """Trace the domain's name in an exit hook."""
    atexit.register(lambda: print(f"exit hook of {cloister.current_domain().name}", flush=True))


def crash_at_exit() -> None:
    """Crash in an exit hook."""
    atexit.register(segfault)


def start_child(own_session: bool = False) -> int:
    """Start a child that outlives everything unless it is killed; return its pid."""
    command = [sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(600)"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=own_session)
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


def fork_and_keep_descriptors() -> int:
    """Fork a child that holds everything that this process has open; return its pid."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    return child


def terminal() -> dict[str, object]:
    """What this process has of a terminal, a session and standard streams."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        tty = True
    except OSError:
        tty = False
    return {
        "tty": tty,
        "isatty": [os.isatty(fd) for fd in (0, 1, 2)],
        "session": os.getsid(0),
        "group": os.getpgrp(),
        "stdin": os.read(0, 1),
    }


def descriptors() -> list[int]:
    """The open descriptors of this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue
        found.append(int(name))
    return sorted(found)


def close_lifeline() -> int:
    """Close the descriptor by which this process ends with its host; return how many there were."""
    found = [fd for fd in descriptors() if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ASYNC]
    for fd in found:
        os.close(fd)
    return len(found)


def environment(name: str) -> str | None:
    """One environment variable."""
    return os.environ.get(name)


def folder() -> str:
    """The working directory."""
    return os.getcwd()


def write(fd: int, data: bytes, times: int = 1) -> None:
    """Write to a descriptor, past Python's streams."""
    for _ in range(times):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]


def log(name: str, level: int, text: str) -> None:
    """Log a record, with the exception that is being handled."""
    logging.getLogger(name).log(level, text, exc_info=sys.exc_info()[0] is not None)


def log_an_error(name: str) -> None:
    """Log a record with an exception."""
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger(name).exception("it went wrong")


def close_control() -> None:
    """Close the control channel, and live on."""
    os.close(3)


def importable(names: list[str]) -> list[str]:
    """Those of these modules that can be imported here."""
    import importlib

    found = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        found.append(name)
    return found


def search_path() -> list[str]:
    """Where modules are searched."""
    return list(sys.path)


def version() -> tuple[int, int]:
    """The version of this interpreter."""
    return sys.version_info[0], sys.version_info[1]


def collect() -> int:
    """Collect garbage."""
    return gc.collect()


def call_back(function: object, *args: object) -> object:
    """Call what the host has handed over."""
    return function(*args)  # type: ignore[operator]  # it is a proxy of a function


def call_back_from_thread(function: object, *args: object) -> list[object]:
    """Call what the host has handed over from a thread of the guest's own."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function(*args)))  # type: ignore[operator]  # as above
    thread.start()
    thread.join()
    return results
