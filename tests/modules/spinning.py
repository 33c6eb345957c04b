"""Code that computes in Python for ever, to be reached on every way on which a guest calls code of the user's."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def spin(mark: str, _: object = None) -> None:
    """Say through a file that it has begun, and through another one that it is over."""
    try:
        os.mkdir(mark)  # a file may be left open by an interruption
        while True:
            pass
    finally:
        os.mkdir(mark + ".over")


def ask(call: Callable[[], object]) -> None:
    """Call a function of the host, which calls back."""
    call()


class Made:
    """An object that never gets ready."""

    def __init__(self, mark: str) -> None:
        spin(mark)


class Object:
    """What spins wherever it is touched."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    @property
    def value(self) -> None:
        """A property."""
        spin(self._mark)

    def method(self) -> None:
        """A method."""
        spin(self._mark)

    def __call__(self) -> None:
        spin(self._mark)

    def __len__(self) -> int:
        spin(self._mark)
        return 0

    def __enter__(self) -> None:
        spin(self._mark)

    def __exit__(self, *_: object) -> None:
        """Nothing to do."""


def stream(mark: str) -> Iterator[int]:
    """A generator that gives nothing."""
    spin(mark)
    yield 0


class Slow:
    """An object whose finalizer takes its time."""

    def __init__(self, mark: str, seconds: float) -> None:
        self.mark, self.seconds = mark, seconds

    def __del__(self) -> None:
        Path(self.mark).touch()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            pass


def spin_after_finalizer(mark: str, seconds: float, hook: str) -> None:
    """Compute for ever, after a finalizer that takes so many seconds; leave a file at exit."""
    atexit.register(Path(hook).touch)
    Slow(mark, seconds)
    spin(mark + ".call")


if __name__ == "__main__":
    spin(sys.argv[1])
