"""A long stream in either direction: neither side's memory grows with it.

``python -m tests.soak.streams 1024`` sends so many MiB each way, as a program of its own; the suite sends 64
(tests/objects/test_stream_memory.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from tests.modules import flows

__all__ = ["flow", "main"]

MODULES = Path(__file__).parent.parent / "modules"
PIECE = 65_536
WARM = 128
"""Pieces that go first: the buffers that both sides keep are made then."""


def flow(mebibytes: int) -> tuple[int, int]:
    """Let so much flow up and down; return by how many KiB the peak of the host and of the guest rose."""
    pieces = mebibytes * 1024 * 1024 // PIECE
    with Domain("flow", setup=Setup(path=[MODULES])) as domain:
        before = (0, 0)
        for count in (WARM, pieces):
            flows.forget_peak()
            domain.call("flows:forget_peak")
            before = flows.peak_kib(), domain.call("flows:peak_kib")
            if flows.total(domain.call("flows:blobs", count, PIECE)) != count * PIECE:
                raise AssertionError("something was lost on its way up")
            if domain.call("flows:total", flows.blobs(count, PIECE)) != count * PIECE:
                raise AssertionError("something was lost on its way down")
        return flows.peak_kib() - before[0], domain.call("flows:peak_kib") - before[1]


def main() -> None:
    """Run it from the command line."""
    mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    host, guest = flow(mebibytes)
    print(f"{mebibytes} MiB each way: the host's peak rose by {host} KiB, the guest's by {guest} KiB")
    if max(host, guest) > 24 * 1024:
        raise SystemExit("that is more than a few batches")


if __name__ == "__main__":
    main()
