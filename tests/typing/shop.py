"""The application of the typing tests: what a proxy is to be typed as."""

from __future__ import annotations

import decimal as dec
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal, Optional, TypeVar

import cloister

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")
Rows = list[tuple[str, int]]

print("what a module prints while it is imported is no part of a Protocol")


@cloister.by_value
class Order:
    """An order, which is copied."""

    number: int = 0


class Base:
    """What others derive from."""

    def same(self, value: T) -> T:
        """Give it back."""
        return value


class Customers(Base):
    """The customers of a "shop".

    With all that can be said of a class.
    """

    limit: int = 3
    kind = "all"

    def __init__(self, region: str = "eu") -> None:
        self.region = region

    def add(self, name: str, *, since: Optional[date] = None) -> int:  # noqa: UP045 - as others write it
        """Add one."""
        return len(name)

    def each(self, size: int = 10, /) -> Iterator[Order]:
        """All orders."""
        yield Order()

    async def live(self) -> AsyncIterator[tuple[int, str]]:
        """What comes in."""
        yield 1, "one"

    async def fetch(self, mode: Literal["a", "b"], tell: Callable[[int], str]) -> dec.Decimal | None:
        """Take some time."""
        return None

    def me(self) -> Customers:
        """Itself."""
        return self

    def share(self) -> Fraction:
        """Of a type that is imported for type checkers only."""
        raise NotImplementedError

    def rows(self) -> Rows:
        """Of a type that has another name."""
        return []

    def untyped(self, one, two=1, *rest, **named):  # type: ignore[no-untyped-def]  # as others write it
        """Nobody knows."""

    @property
    def total(self) -> Annotated[int, "euro"]:
        """What all have paid."""
        return 1

    @classmethod
    def of(cls, number: int) -> Customers:
        """Make some."""
        return cls(str(number))

    @staticmethod
    def parse(text: str) -> list[Order]:
        """Read some."""
        return []

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> Order:
        return Order()

    def __iter__(self) -> Iterator[str]:
        return iter(["Ada"])

    def _private(self) -> None:
        pass
