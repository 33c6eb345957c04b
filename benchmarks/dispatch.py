"""The limit of many calls: what encoding, decoding and dispatching cost where nothing travels.

One core does the work of both sides, with MessagePack alone: no frames, no futures, no errors, no pipe.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import msgpack

from benchmarks import peers
from benchmarks.harness import Entered

__all__ = ["dispatched"]


@contextlib.contextmanager
def dispatched(calls: int) -> Iterator[Entered]:
    """A contestant that makes so many calls, and gives the time of one."""
    methods = {"add": peers.Adder().add}
    pack, unpack = msgpack.packb, msgpack.unpackb

    def measure() -> list[float]:
        begun = time.perf_counter()
        for number in range(calls):
            asked, name, args, kwargs = unpack(pack([number, "add", [number], {}]))
            answered, result = unpack(pack([asked, methods[name](*args, **kwargs)]))
            assert answered == number
            assert result == number + 1
        return [(time.perf_counter() - begun) / calls]

    yield measure, []
