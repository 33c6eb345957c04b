"""What the suite over all levels runs: at the level ``thread`` the host has it too, so nothing else does."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cloister

closed: list[str] = []
"""The streams that were closed, by name."""


@cloister.by_value
@dataclass
class ConformancePoint:
    """Copied wherever it goes."""

    x: int
    y: int = 0

    def moved(self, by: int) -> ConformancePoint:
        """Another one."""
        return ConformancePoint(self.x + by, self.y + by)


@cloister.by_reference
class Till:
    """Stays where it is."""

    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        self.total, self.step = start, step
        self.coins: list[int] = []

    def add(self, *coins: int) -> int:
        """Add coins; the sum of all."""
        self.coins += coins
        self.total += sum(coins) * self.step
        return self.total

    def itself(self) -> Till:
        """The same object."""
        return self

    def is_same(self, other: object) -> bool:
        """Whether a proxy comes home as the object."""
        return other is self

    def __len__(self) -> int:
        return len(self.coins)

    def __getitem__(self, index: int) -> int:
        return self.coins[index]

    def __contains__(self, coin: object) -> bool:
        return coin in self.coins


class Trouble(Exception):
    """Nobody has registered this one."""


def point(x: int, y: int) -> ConformancePoint:
    """Make a copyable object."""
    return ConformancePoint(x, y)


def echo(value: Any) -> Any:
    """Give back what came."""
    return value


def change(values: list[int]) -> list[int]:
    """Change an argument, which is a copy."""
    values.append(99)
    return values


def fail(text: str) -> None:
    """Raise a chain of errors with a note."""
    try:
        raise KeyError(text)
    except KeyError as cause:
        error = ValueError(f"bad {text}")
        error.add_note("a note")
        raise error from cause


def trouble() -> None:
    """Raise what the other side does not know."""
    raise Trouble("unknown over there")


def leave(code: int) -> None:
    """End as a program does."""
    raise SystemExit(code)


def down(depth: int, up: Callable[[int], int]) -> int:
    """Call the host, which calls this again."""
    return 1 + up(depth - 1) if depth else 0


def from_own_thread(function: Callable[[int], Any]) -> Any:
    """Call the host from a thread that it has not made."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function(7)))
    thread.start()
    thread.join(20)
    return results[0]


def numbers(count: int) -> Iterator[int]:
    """A stream, which says that it was closed."""
    try:
        yield from range(count)
    finally:
        closed.append("numbers")


def take_closed() -> list[str]:
    """The streams that were closed since the last time."""
    found = list(closed)
    closed.clear()
    return found


async def later(value: int) -> int:
    """A coroutine."""
    import asyncio

    await asyncio.sleep(0.001)
    return value * 2


def spin() -> None:
    """Run for ever, in Python code that can be interrupted."""
    while True:
        pass


def spin_and_say(told: str) -> None:
    """Run for ever once a folder says so."""
    os.mkdir(told)
    spin()


def stubborn(told: str, free: str) -> None:
    """Refuse to end until a file is there; also where it is interrupted in the middle of refusing."""
    while True:
        with contextlib.suppress(BaseException):
            while True:
                with contextlib.suppress(BaseException):
                    os.makedirs(told, exist_ok=True)
                    while not os.path.exists(free):
                        time.sleep(0.005)
                    return


def half(number: int) -> int:
    """A function for a map: fails for odd numbers."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def who() -> tuple[str, int, bool, str]:
    """The domain that this code believes to be in, and its configuration."""
    here = cloister.current_domain()
    return here.name, here.id, here.is_default, here.config.get("colour", "")


def who_later(value: int) -> str:
    """The domain, for a map."""
    return f"{cloister.current_domain().name}{value}"


def remember(value: int) -> None:
    """Put something into a data slot from within."""
    cloister.current_domain().set_data("kept", value)


def nested_call(call: Callable[[], Any]) -> Any:
    """Call back once."""
    return call()


def thread_id() -> int:
    """The thread that serves."""
    return threading.get_ident()


def logical() -> int:
    """The logical thread that this code runs for."""
    return cloister.logical_thread()


def stop_by_raising(told: str) -> None:
    """An initializer that fails."""
    raise RuntimeError(told)
