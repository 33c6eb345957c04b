"""Classes and functions that only guests import: tests name them as ``"customers:Customers"``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import cloister


@cloister.by_reference
class Customers:
    """The customers of one region."""

    region = "everywhere"

    def __init__(self, region: str = "eu") -> None:
        self.region = region
        self.names: list[str] = []
        self.made_in = (os.getpid(), threading.get_ident(), cloister.logical_thread())

    def add(self, name: str, /, *more: str, upper: bool = False, **notes: str) -> int:
        """Add customers, and say how many there are."""
        self.names += [each.upper() if upper else each for each in (name, *more)]
        return len(self.names)

    def list(self) -> list[str]:
        """All names."""
        return list(self.names)

    def itself(self) -> Customers:
        return self

    def where(self) -> tuple[int, int, int]:
        return os.getpid(), threading.get_ident(), cloister.logical_thread()

    def is_same(self, other: object) -> bool:
        return other is self

    def echo(self, value: object) -> object:
        return value

    def call(self, function: object, *args: object) -> object:
        return function(*args)  # type: ignore[operator]  # the tests pass callables

    def boom(self) -> None:
        raise KeyError("nobody")

    @property
    def first(self) -> str:
        """The first name."""
        return self.names[0]

    @classmethod
    def of(cls, *names: str) -> Customers:
        """Make some."""
        made = cls()
        made.names += names
        return made

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number

    def _secret(self) -> str:
        return "hidden"


class Unmarked:
    """Neither copied nor by reference."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def name(self) -> str:
        return "unmarked"


@dataclass
class Row:
    key: int
    parts: list[object] = field(default_factory=list)

    def describe(self) -> str:
        """What it is."""
        return f"row {self.key}"


class Countdown:
    """Iterates, and is a context."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.entered = False
        self.left_with: list[object] = []

    def __iter__(self) -> Iterator[int]:
        yield from range(self.start, 0, -1)

    def __len__(self) -> int:
        return self.start

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and 0 < number <= self.start

    def __reversed__(self) -> Iterator[int]:
        return iter(range(1, self.start + 1))

    def __enter__(self) -> Countdown:
        self.entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self.left_with.append(None if kind is None else (kind.__name__, str(error), trace is None))
        return kind is ValueError


def make(cls: type, *args: object) -> object:
    """Call a class that came from the host."""
    return cls(*args)
