"""Four domains work on one large picture: it lies in memory once, and their results come back without a copy.

Run it: python examples/arrays.py [width]
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import cloister
from cloister import arrays

WORKERS = 4


def edges(part: Any) -> Any:
    """The work, over there: where neighbours differ. The result is made where the host can read it."""
    found = arrays.empty(part.shape, "u1")
    found[:, 0] = 0
    np.not_equal(part[:, 1:], part[:, :-1], out=found[:, 1:].view("?"))
    return found


def main(width: int) -> None:
    """Make the picture, let each worker see a quarter of it, and count what they found."""
    picture = arrays.empty((width, width), "u1")
    picture[:] = np.arange(width) // 100
    with cloister.DomainPoolExecutor(WORKERS) as pool:
        parts = np.array_split(picture, WORKERS)
        found = list(pool.map(edges, parts))
    shared = all(arrays.is_shared(part) for part in (picture, *found))
    print(f"{sum(int(part.sum()) for part in found)} edges in {picture.nbytes:,} bytes; all in shared memory: {shared}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
