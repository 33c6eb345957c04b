"""What guests do in the conformance suite: say that they have begun, then wait in every way."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

_notes: list[Any] = []


def begin(mark: str) -> None:
    """Tell the host, through a file, that the call has begun."""
    Path(mark).touch()


def loop(mark: str) -> None:
    """Compute in Python."""
    begin(mark)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


def loop_or_pass(mark: str, loops: bool) -> None:
    """Compute in Python, or say only that this has begun."""
    loop(mark) if loops else begin(mark)


def load_slowly(mark: str) -> str:
    """Import a module that takes its time."""
    name = Path(mark).name.replace("-", "_")
    file = Path(mark).with_name(f"{name}.py")
    if not file.exists():
        file.write_text(f"import time\nopen({mark!r}, 'w').close()\ntime.sleep(0.3)\nstate = 'whole'\n")
        sys.path.append(str(file.parent))
    state: str = importlib.import_module(name).state
    return state


def sleep(mark: str) -> None:
    """Wait in a system call."""
    begin(mark)
    time.sleep(60)


async def forever(mark: str) -> None:
    """Wait on the loop."""
    begin(mark)
    await asyncio.sleep(60)


def ask(mark: str, up: Callable[[], Any]) -> Any:
    """Wait for the host."""
    begin(mark)
    return up()


async def await_host(mark: str, up: Callable[[], Any]) -> Any:
    """Wait for the host, as a coroutine."""
    begin(mark)
    return await up()


def items(mark: str) -> Iterator[int]:
    """One item; the next one never comes."""
    yield 1
    begin(mark)
    time.sleep(60)


def stubborn(mark: str) -> None:
    """Go on whatever is raised here."""
    while True:
        try:
            begin(mark)
            while True:
                time.sleep(0.01)
        except BaseException:
            continue


async def swallow(mark: str) -> str:
    """Go on when this is cancelled, for a while."""
    begin(mark)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        begin(f"{mark}.swallowed")
    await asyncio.sleep(60)
    return "late"


def note(value: Any) -> Any:
    """Remember a value, and give it back."""
    _notes.append(value)
    return value


def noted() -> list[Any]:
    """What was remembered."""
    return list(_notes)


class Strange(Exception):
    """Of a type that the host does not know."""


def fail(kind: str) -> None:
    """Raise in one of several ways."""
    if kind == "strange":
        raise Strange("of the guest's own")
    if kind == "exit":
        raise SystemExit(3)
    if kind == "group":
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    try:
        raise KeyError("inner")
    except KeyError as inner:
        error = ValueError("outer")
        error.add_note("a note")
        raise error from inner


def count(number: int) -> Iterator[int]:
    """Numbers, then a note that it has ended."""
    try:
        yield from range(number)
    finally:
        _notes.append("closed")


async def tick(number: int) -> AsyncIterator[int]:
    """The same, from a coroutine."""
    try:
        for each in range(number):
            await asyncio.sleep(0)
            yield each
    finally:
        _notes.append("closed")


def crash(number: int) -> Iterator[int]:
    """Numbers, and then the process is gone."""
    yield from range(number)
    os.abort()


def from_thread(up: Callable[[int], Any], number: int) -> list[Any]:
    """Call the host from a thread of this side's own."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(up(number)))
    thread.start()
    thread.join(30)
    return got


def down(depth: int, up: Callable[[int], Any]) -> int:
    """Call the host, which calls this again, until the depth is used up."""
    return 1 + int(up(depth - 1)) if depth else 0


async def await_down(depth: int, up: Callable[[int], Any]) -> int:
    """The same as a coroutine."""
    return 1 + int(await up(depth - 1)) if depth else 0


def read(numbers: Any, most: int) -> list[Any]:
    """Read a stream of the host's, and leave early."""
    got: list[Any] = []
    for number in numbers:
        got.append(number)
        if len(got) == most:
            break
    return got


class Box:
    """An object that stays where it is."""

    def __init__(self, value: int) -> None:
        self.value = value

    def add(self, number: int) -> int:
        """Add."""
        self.value += number
        return self.value

    def fail(self) -> None:
        """Raise."""
        raise LookupError("not in the box")

    def same(self, other: Any) -> bool:
        """Whether it is this one."""
        return other is self

    def __getitem__(self, key: str) -> str:
        return key * 2
