"""A hotel's broker, who takes one reservation at a time, in a context of his own."""

from __future__ import annotations

import itertools
from datetime import date

import cloister


@cloister.synchronized
class HotelBroker:
    """Makes reservations."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1001)

    def make_reservation(self, customer: int, city: str, hotel: str, arrival: date, days: int) -> int:
        print(f"customer {customer}: {hotel}, {city}, {arrival}, {days} days")
        print(f"  by the broker in {cloister.current_domain().name}, context {cloister.current_context().id}")
        return next(self.numbers)
