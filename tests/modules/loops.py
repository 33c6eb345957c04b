"""Guests whose main thread runs a message loop. Only guests import this."""

from __future__ import annotations

import asyncio
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cloister

_ticks: list[str] = []
_timers: list[tuple[float, Callable[[], None]]] = []
_kept: list[Any] = []


def selecting(main_loop: cloister.MainLoop) -> None:
    """A message loop of one's own, with timers."""
    poll = select.poll()
    poll.register(main_loop.fileno(), select.POLLIN)
    while not main_loop.stopping:
        due = min((due for due, _ in _timers), default=None)
        if poll.poll(None if due is None else max(0.0, due - time.monotonic()) * 1000):
            main_loop.serve()
        for timer in [timer for timer in _timers if timer[0] <= time.monotonic()]:
            _timers.remove(timer)
            timer[1]()


def leaving(main_loop: cloister.MainLoop) -> None:
    """A loop that ends after its first round."""
    select.select([main_loop.fileno()], [], [])
    main_loop.serve()


def failing(main_loop: cloister.MainLoop) -> None:
    """A loop that raises."""
    raise OSError("the loop has no window")


def tell_by_timer(tell: Callable[[int], object], count: int, seconds: float) -> None:
    """Let a timer of the main thread's loop call the host so many times."""

    def tick() -> None:
        nonlocal count
        assert threading.current_thread() is threading.main_thread()
        count -= 1
        tell(count)
        if count:
            begin(seconds, tick)

    begin(seconds, tick)


def begin(seconds: float, action: Callable[[], None]) -> None:
    """Run something once, by the loop of the main thread."""
    if "PySide6" in sys.modules or "PyQt6" in sys.modules:
        core = sys.modules.get("PySide6.QtCore") or sys.modules["PyQt6.QtCore"]
        timer = core.QTimer()
        timer.setSingleShot(True)
        timer.timeout.connect(action)
        timer.start(int(seconds * 1000))
        _kept.append(timer)
    elif loop_runs():
        asyncio.get_running_loop().call_later(seconds, action)
    else:
        _timers.append((time.monotonic() + seconds, action))


def loop_runs() -> bool:
    """Whether an asyncio loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def count_ticks(seconds: float) -> None:
    """Let a timer count from now on."""
    _ticks.append("tick")
    begin(seconds, lambda: count_ticks(seconds))


def ticks() -> int:
    """How often the timer has come since the last time."""
    count = len(_ticks)
    _ticks.clear()
    return count


def thread() -> str:
    """The thread that serves this call."""
    return threading.current_thread().name


async def wait_for_ticks(count: int) -> str:
    """Wait, as a coroutine, until the timer has come so many times; say on which thread."""
    while len(_ticks) < count:
        await asyncio.sleep(0.001)
    return threading.current_thread().name


async def nothing() -> int:
    """A coroutine that ends at once."""
    return 1


def block(seconds: float) -> None:
    """Hold up the loop, and note how that ended."""
    try:
        time.sleep(seconds)
    except BaseException as error:
        _kept.append(type(error).__name__)
        raise


def swallow_stop() -> None:
    """Swallow whatever interrupts this."""
    while True:
        try:
            time.sleep(60)
        except BaseException:
            return


async def forever() -> None:
    """Wait for what never comes."""
    try:
        await asyncio.Event().wait()
    except BaseException as error:
        _kept.append(type(error).__name__)
        raise


def names() -> list[str]:
    """What was noted."""
    noted = [note for note in _kept if isinstance(note, str)]
    _kept[:] = [note for note in _kept if not isinstance(note, str)]
    return noted


def at_exit(path: str) -> None:
    """Write into a file when the interpreter ends."""
    import atexit

    def write() -> None:
        with open(path, "a") as file:
            file.write("exit hook\n")

    atexit.register(write)


async def set_up() -> None:
    """An initializer that needs the loop."""
    await asyncio.sleep(0)
    _kept.append(threading.current_thread().name)
