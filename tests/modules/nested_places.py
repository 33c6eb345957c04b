"""Exclusive places of domains that a domain has made: held while a function of the host's runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloister

_places: dict[str, Callable[[Callable[[], Any]], Any]] = {}
_made: list[cloister.Domain] = []


def make() -> list[str]:
    """Make two domains, and say which places there are now."""
    setup = cloister.Setup(path=[str(Path(__file__).parent)])
    turns, narrow = cloister.Domain("turns", setup=setup), cloister.Domain("narrow", setup=setup, max_concurrency=1)
    _made.extend((turns, narrow))
    _places["turn"] = turns.create("hotel:HotelBroker").call
    _places["answer"] = _answered(turns.create("hotel:HotelBroker").call)
    _places["lane"] = lambda function: narrow.call("troubles:call_back", function)
    return list(_places)


def hold(place: str, function: Callable[[], Any]) -> Any:
    """Run a function while a place is held."""
    return _places[place](function)


def _answered(call: Callable[..., Any]) -> Callable[[Callable[[], Any]], Any]:
    """The same by a submitted call, whose answer is waited for."""
    return lambda function: cloister.submit(call, function).result()
