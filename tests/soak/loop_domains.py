"""Many domains on one event loop, each with calls and call-backs: no thread for any of them, none lost, all gone.

``python -m tests.soak.loop_domains 200`` runs so many, as a program of its own; the suite runs twelve
(tests/aio/test_ends.py).
"""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
from pathlib import Path

import cloister

__all__ = ["main", "run"]

MODULES = Path(__file__).parent.parent / "modules"
CALLS = 20


async def run(count: int) -> int:
    """Let so many domains serve calls and call back at the same time; return how many threads that took here."""

    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number

    domains = [cloister.aio.Domain(f"d{n}", setup=cloister.Setup(path=[MODULES])) for n in range(count)]
    calls = [domain.submit("errands:call", answer, n) for domain in domains for n in range(CALLS)]
    if await asyncio.gather(*calls) != list(range(CALLS)) * count:
        raise AssertionError("a call was lost, or got the answer of another")
    threads = threading.active_count()
    await asyncio.gather(*(domain.unload() for domain in domains))
    return threads


def main() -> None:
    """Run it from the command line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a domain that calls back takes some 30 descriptors
    threads = asyncio.run(run(count))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{count} domains on one loop: {threads} threads, at most {memory} MiB here")
    if threads > 40:
        raise SystemExit("that are threads for domains or calls")


if __name__ == "__main__":
    main()
