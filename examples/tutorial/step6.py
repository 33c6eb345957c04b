"""Step 6: fast. Keep a spare domain ready, let calls run side by side, and send many items at a time."""

from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path

from cloister import Domain, Setup

HERE = Path(__file__).parent
SETUP = Setup(path=[HERE / "plugins"])
PICTURE = (HERE / "uploads" / "ada.pic").read_bytes()

with Domain("pictures", setup=SETUP) as domain, Domain("pictures-spare", setup=SETUP) as spare:
    # The spare gets ready while the first one works. After a crash it takes over without a wait.
    decoder = domain.create("pictures:Decoder")

    start = time.perf_counter()
    for _ in range(1000):
        decoder.brightness(PICTURE)
    print(f"one call: {(time.perf_counter() - start) * 1000:.0f} µs")

    # Both at the same time: each domain has an interpreter, and so a lock, of its own.
    futures: list[Future[float]] = [
        each.submit("pictures:brightness", PICTURE) for each in (domain, spare) for _ in range(10)
    ]
    print("side by side:", sum(future.result() for future in futures))

    start = time.perf_counter()
    results: list[float] = list(domain.map("pictures:brightness", [PICTURE] * 10_000, chunksize=500))
    print(f"one of {len(results)} in chunks: {(time.perf_counter() - start) / len(results) * 1e6:.0f} µs")
