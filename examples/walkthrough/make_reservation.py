"""A program: loads Hotel into its own domain, finds the broker by inspection, and makes a reservation."""

import importlib
import inspect
import sys
from datetime import date
from typing import Any

import cloister

if __name__ == "__main__":
    if sys.argv[1:] != ["MakeReservation"]:
        sys.exit(2)
    brokers: list[Any] = [
        cls for name, cls in inspect.getmembers(importlib.import_module("hotel")) if name == "HotelBroker"
    ]
    number = brokers[0]().make_reservation(1, "Boston", "Sheraton", date(2001, 12, 2), 3)
    print(f"  reservation {number}, made by a program in {cloister.current_domain().name}")
    sys.exit(number % 1000)
