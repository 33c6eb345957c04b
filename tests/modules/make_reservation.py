"""A program that finds the broker of a module by inspection, makes a reservation with it, and prints its number."""

import inspect
import sys
from datetime import date
from typing import Any

import cloister

if __name__ == "__main__":
    here = cloister.current_domain()
    here.load("hotel")
    hotel = sys.modules["hotel"]
    brokers = [cls for name, cls in inspect.getmembers(hotel, inspect.isclass) if name == "HotelBroker"]
    if sys.argv[1:] != ["MakeReservation"] or len(brokers) != 1:
        sys.exit(2)
    broker: Any = brokers[0]()
    number = broker.make_reservation(1, "Boston", "Sheraton", date(2001, 12, 2), 3)
    print("reservation", number, "in", here.name)
    sys.exit(number % 100)
