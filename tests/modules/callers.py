"""Guests that call their host back."""

from __future__ import annotations

import queue
import threading
from typing import Any


def down(depth: int, up: Any) -> int:
    """Call the host, which calls this again, `depth` times in all."""
    return 1 + up(depth - 1) if depth else 0


def from_thread(function: Any, *args: Any) -> tuple[Any, str]:
    """Call the host from a thread of this guest's own."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function(*args)), name="own")
    thread.start()
    thread.join(20)
    return results[0], thread.name


def error_from_thread(function: Any) -> str:
    """Call the host from a thread of this guest's own; give the error that it gets."""
    errors: list[str] = []

    def run() -> None:
        try:
            function()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return errors[0]


def from_threads(function: Any, count: int) -> list[Any]:
    """Call the host from many threads of this guest's own at once."""
    results: list[Any] = []
    threads = [threading.Thread(target=lambda number=each: results.append(function(number))) for each in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return sorted(results)


def local_value(change: Any) -> list[int]:
    """What a thread-local holds before and after the host has called `change` back."""
    _local.value = 1
    return [change(), _local.value]


def set_local(value: int) -> int:
    """Set the thread-local of the thread that this call runs on, and say what it held."""
    before: int = _local.value
    _local.value = value
    return before


_local = threading.local()


class Keeper:
    """Keeps an object of the host, and uses it later."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def use(self, name: str, *args: Any) -> Any:
        """Call a method of what is kept."""
        return getattr(self.kept, name)(*args)


class Ping:
    """Plays with the host."""

    def play(self, pong: Any, depth: int) -> int:
        """Call the host, which calls this again."""
        return 1 + int(pong(depth - 1)) if depth else 0


def call_later(function: Any, count: int) -> None:
    """Call the host from a thread of this guest's own, which goes on after this call."""
    threading.Thread(target=lambda: [function(number) for number in range(count)], name="later").start()


def count_up(function: Any, count: int, at: int) -> None:
    """Tell the host every fourth number, each of them once, from a thread of this guest's own."""
    thread = threading.Thread(target=lambda: [function(at + 4 * number) for number in range(count)], name="up")
    thread.start()
    thread.join()


class Caller:
    """A thread of this guest's own that calls the host when it is told to, always itself."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._asked: queue.Queue[tuple[int, queue.Queue[Any]]] = queue.Queue()
        threading.Thread(target=self._run, name="caller", daemon=True).start()

    def ask(self, number: int) -> Any:
        """What the host answers to the thread, or the name of the error that it gets."""
        told: queue.Queue[Any] = queue.Queue()
        self._asked.put((number, told))
        return told.get(timeout=20)

    def _run(self) -> None:
        while True:
            number, told = self._asked.get()
            try:
                told.put(self._function(number))
            except Exception as error:
                told.put(f"{type(error).__name__}: {error}")
