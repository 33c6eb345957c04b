"""What the workers of pools do in the tests: work, die, hang, refuse to travel. Only guests import this."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

STARTED_WITH: list[Any] = []


def begin(*args: Any) -> None:
    """An initializer."""
    STARTED_WITH.extend(args)


def started_with() -> list[Any]:
    """What the initializer was given."""
    return STARTED_WITH


def refuse_to_begin(marks: str) -> None:
    """An initializer that fails, and leaves a mark for each time."""
    note(marks, "tried")
    raise OSError("no licence left")


def begin_once_marked(marks: str, failures: int) -> None:
    """An initializer that fails the first times."""
    note(marks, "tried")
    if noted(marks) <= failures:
        raise OSError("not yet")


def note(marks: str, what: object) -> None:
    """Add a line to a file; lines of several processes do not mix."""
    with open(marks, "a") as file:
        file.write(f"{what}\n")


def noted(marks: str) -> int:
    """How many lines the file has."""
    return len(Path(marks).read_text().splitlines())


def pid() -> int:
    """The process."""
    return os.getpid()


def double(number: int) -> int:
    """Work in Python."""
    return number * 2


def double_late(number: int, seconds: float) -> int:
    """Work that takes a while."""
    time.sleep(seconds)
    return number * 2


def mark_and_die_of(number: int, deadly: int, marks: str) -> int:
    """Note the number, and die of one."""
    note(marks, number)
    if number == deadly:
        signal.raise_signal(signal.SIGSEGV)  # to this very thread, at this very moment
    return number


def die_of(number: int, deadly: int) -> int:
    """Exit at once at one number, without a word."""
    if number == deadly:
        os._exit(9)
    return number


def tell_and_die_of(number: int, deadly: int) -> int:
    """Take longer over each than results are kept back, then die of one."""
    time.sleep(0.002)
    return die_of(number, deadly)


def hold_of(number: int, slow: int) -> int:
    """Never return from native code that holds the interpreter lock, at one number."""
    if number == slow:
        hold_the_lock()
    return number


def hold_the_lock(marks: str = os.devnull) -> None:
    """Sleep in native code without giving up the interpreter lock."""
    note(marks, "there")
    ctypes.PyDLL(None).sleep(600)


def swallow_everything(marks: str = os.devnull) -> None:
    """Ignore every exception that is to stop this."""
    while True:
        try:
            note(marks, "there")
            while True:
                time.sleep(0.001)
        except BaseException:
            continue


def loop_for_ever() -> NoReturn:
    """Compute in Python."""
    while True:
        pass


def leave_the_interpreter() -> None:
    """Raise what ends programs."""
    raise SystemExit(3)


class Unpicklable(Exception):
    """An exception that nothing can pickle."""

    def __init__(self, number: int, lock: Any) -> None:
        super().__init__(f"number {number}")
        self.lock = lock

    def __reduce__(self) -> Any:
        raise TypeError("not me")


def raise_unpicklable(number: int) -> None:
    """Raise it."""
    raise Unpicklable(number, threading.Lock())


def cycle_of(number: int, cyclic: int) -> Any:
    """Return a list in itself at one number."""
    if number != cyclic:
        return number
    loop: list[Any] = []
    loop.append(loop)
    return loop


def die_soon_after_start() -> None:
    """An initializer whose thread ends the process when it has just become ready."""
    threading.Timer(0.01, os._exit, (4,)).start()


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the host's."""
    return function(*args)


def pool_of_its_own(numbers: list[int]) -> list[int]:
    """Be a host: use a pool inside a worker of a pool."""
    import cloister

    with cloister.DomainPoolExecutor(1) as pool:
        return list(pool.map("operator:neg", numbers))


async def double_on_a_loop(number: int) -> int:
    """Work in a coroutine."""
    import asyncio

    await asyncio.sleep(0)
    return number * 2


def call_then_loop(function: Callable[[], Any]) -> None:
    """Call a function of the host's, then compute for ever."""
    function()
    loop_for_ever()
