"""Map a function over a million items, and survive every item that crashes it.

Run it: python examples/pipeline.py [number of items]
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import cloister

CHUNK, AHEAD = 1000, 4
"""Items that travel together, and chunks that are under way at once."""


def checked(number: int) -> int:
    """The work: quick, and fatal for some."""
    if number % 300_000 == 299_999:
        ctypes.string_at(0)
    return number * number


def surviving_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Give a result for each item, in order: what the function returned, what it raised, or how it crashed."""
    done = 0
    careful_until = 0
    while done < len(items):
        # After a crash nobody knows which of the items under way it was, so they go one by one. Then it is known.
        careful = done < careful_until
        part = islice(items, done, careful_until if careful else None)
        size, ahead = (1, 1) if careful else (CHUNK, AHEAD)
        with cloister.Domain("pipeline") as domain:
            try:
                for result in domain.map(function, part, chunksize=size, buffersize=ahead, return_exceptions=True):
                    done += 1
                    yield result
            except cloister.DomainCrashed as crash:
                if careful:
                    done += 1
                    yield crash
                else:
                    careful_until = min(done + CHUNK * AHEAD, len(items))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    start = time.perf_counter()
    crashes = [
        number
        for number, result in enumerate(surviving_map(checked, range(count)))
        if isinstance(result, cloister.DomainCrashed)
    ]
    print(f"{count - len(crashes)} results; crashed at {crashes}; {time.perf_counter() - start:.1f} s")
