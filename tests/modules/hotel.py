"""A hotel whose broker takes one reservation at a time; imported by guests only."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from datetime import date

import cloister


@cloister.synchronized
class HotelBroker:
    """Makes reservations."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1001)
        self.inside = 0
        self.most_inside = 0
        self.made_in = self.where()

    def make_reservation(self, customer: int, city: str, hotel: str, arrival: date, days: int) -> int:
        """Make one, and return its number."""
        assert (customer, city, hotel, arrival, days) == (1, "Boston", "Sheraton", date(2001, 12, 2), 3)
        return next(self._numbers)

    def where(self) -> tuple[int, int, int, int]:
        """(process, thread, logical thread, context)."""
        context = cloister.current_context().id
        return os.getpid(), threading.get_ident(), cloister.logical_thread(), context

    def call(self, function: Callable[[], object]) -> object:
        """Call something out there, and note how many are in here meanwhile."""
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            return function()
        finally:
            self.inside -= 1

    def itself(self) -> HotelBroker:
        return self

    def is_itself(self, other: object) -> bool:
        return other is self

    def show(self, function: Callable[[object], object]) -> object:
        """Hand itself out, as a call-back's argument."""
        return function(self)

    def floors(self, count: int) -> Iterator[int]:
        """The context of each step."""
        for _ in range(count):
            yield cloister.current_context().id


@cloister.synchronized(reentrant=True)
class OpenBroker(HotelBroker):
    """Others may come in while it calls out."""


class Agile:
    """Lives in no context."""

    def where(self) -> int:
        return cloister.current_context().id

    def call(self, function: Callable[[], object]) -> object:
        return function()


def visit(broker: HotelBroker) -> tuple[bool, int, int]:
    """What code of the default context sees of a broker."""
    return cloister.is_proxy(broker), cloister.current_context().id, broker.where()[3]
