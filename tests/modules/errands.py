"""What guests do in the tests of lanes: wait in every way, call back, tell where they run. Only guests import this."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

_box: list[Any] = []
_held = threading.Event()


def add(a: int, b: int) -> int:
    """An ordinary call."""
    return a + b


def echo(value: Any) -> Any:
    """Give back what came."""
    return value


def sleep(seconds: float) -> float:
    """Sleep in one system call."""
    time.sleep(seconds)
    return seconds


def hold() -> None:
    """Wait until `let_go`."""
    _held.wait(60)


def let_go() -> None:
    """Let all those go on that hold."""
    _held.set()


def blocking_read() -> None:
    """Read from a pipe into which nobody writes."""
    reader, writer = os.pipe()
    try:
        os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def python_loop() -> None:
    """Compute in Python for a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


def runaway_expression() -> None:
    """Search with a regular expression that takes years, holding the interpreter lock."""
    re.match(r"(a+)+$", "a" * 60 + "b")


class Slow:
    """An object whose finalizer takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __del__(self) -> None:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            pass


def loop_after_finalizer(seconds: float) -> None:
    """Compute for ever, after a finalizer that takes so many seconds."""
    Slow(seconds)
    python_loop()


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the host on this thread."""
    return function(*args)


def loop_until_stopped(tell: Callable[[], Any]) -> None:
    """Run until this is stopped, and tell the host then."""
    try:
        while True:
            time.sleep(0.01)
    finally:
        tell()


def call_from_thread(function: Callable[..., Any], count: int = 1) -> list[Any]:
    """Call a function of the host on a thread of one's own."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(function() for _ in range(count)))
    thread.start()
    thread.join()
    return results


def call_many(function: Callable[[int], int], count: int) -> int:
    """Call the host so often; return the sum of its answers."""
    return sum(function(number) for number in range(count))


def descend(function: Callable[[int], int], depth: int) -> int:
    """Call the host, which calls this again, until the depth is used up."""
    return depth if depth == 0 else function(depth - 1) + 1


def thread_name() -> str:
    """The name of the thread that serves the call."""
    return threading.current_thread().name


def threads() -> int:
    """How many threads there are over here."""
    return threading.active_count()


def logical_thread() -> int:
    """The logical thread for which this runs."""
    from cloister import calling

    return calling.logical_thread()


def time_left() -> float | None:
    """The seconds that are left for this call."""
    from cloister import calling

    limit = calling.deadline.get()
    return None if limit is None else limit - time.monotonic()


def call_within(function: Callable[..., Any], seconds: float) -> str:
    """Call the host under a time-out of one's own; say what came of it."""
    from cloister import calling
    from cloister.errors import CallTimeout

    try:
        with calling.timeout(seconds):
            function()
    except CallTimeout:
        return "time-out"
    return "answer"


def keep(value: Any) -> None:
    """Note something."""
    _box.append(value)


def kept() -> list[Any]:
    """Give what was noted, and forget it."""
    notes = _box[:]
    _box.clear()
    return notes


def keep_late(value: Any, seconds: float) -> None:
    """Note something after a while."""
    time.sleep(seconds)
    _box.append(value)


def raise_error(text: str) -> None:
    """Raise a ValueError."""
    raise ValueError(text)


def cleaning_up(seconds: float) -> None:
    """Sleep, and note how that ended."""
    try:
        time.sleep(60)
    finally:
        time.sleep(seconds)
        _box.append("cleaned up")


def swallow_and_call(function: Callable[[], Any]) -> None:
    """Catch whatever interrupts, and call the host nevertheless."""
    try:
        time.sleep(60)
    except BaseException:
        try:
            function()
        except BaseException as error:
            _box.append(type(error).__name__)


def die_leaving_a_child() -> None:
    """Fork a child that keeps every descriptor, then die by a signal."""
    if os.fork() == 0:
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)


class Touched:
    """Something that is told things."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def touch(self, note: Any) -> None:
        """Note."""
        self.notes.append(note)

    def touch_late(self, note: Any) -> None:
        """Note after a while."""
        time.sleep(0.05)
        self.notes.append(note)

    def tell(self, function: Callable[[Any], Any], value: Any) -> None:
        """Call the host, though nobody waits for this call."""
        self.notes.append(function(value))

    def fail(self) -> None:
        """Raise."""
        raise ValueError("nobody waits for this")

    def all(self) -> list[Any]:
        """What it was told."""
        return self.notes


class Clinging:
    """An object that calls the host when it goes."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def __del__(self) -> None:
        try:
            self.function()
        except Exception as error:
            _box.append(type(error).__name__)
