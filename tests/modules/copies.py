"""Types that are copied. The host imports this module too, where a test says so; then both sides know them."""

from __future__ import annotations

import enum
import os
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cloister


@cloister.by_value
class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


@cloister.by_value
class Access(enum.Flag):
    READ = 1
    WRITE = 2


@cloister.by_value
class Point(NamedTuple):
    x: int
    y: int = 0


@cloister.by_value
@dataclass(frozen=True, slots=True)
class Money:
    amount: int
    currency: str = "EUR"


@cloister.by_value
@dataclass
class Basket:
    items: list[Any] = field(default_factory=list)


@cloister.by_value
class Customers:
    """The customers, as a copied type."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.made_in = os.getpid(), threading.get_ident(), cloister.logical_thread()

    def add(self, name: str) -> None:
        self.names.append(name)

    def list(self) -> tuple[list[str], int]:
        """The names, and the process in which this ran."""
        return list(self.names), os.getpid()


@cloister.by_value
class Holder:
    """A copied type that may hold what is not copied."""

    def __init__(self, what: str = "") -> None:
        self.rows: list[Any] = [1, {"key": threading.Lock()}] if what == "lock" else []


@cloister.by_value
class OutOfStock(Exception):
    def __init__(self, article: str, left: int) -> None:
        super().__init__(article, left)
        self.article = article
        self.left = left


class Elsewhere(Exception):  # not marked, so unknown to the host
    pass


def types_of(*values: object) -> list[str]:
    """What arrived, by type."""
    return [type(value).__name__ for value in values]


def echo(value: object) -> object:
    """Return what came."""
    return value


def make_basket(*items: object) -> Basket:
    """Put things into a basket."""
    return Basket(list(items))


def raise_out_of_stock() -> None:
    """Raise an exception that both sides know."""
    raise OutOfStock("umbrella", 0)
