"""A shared lane whose guest stops reading for good and stays alive."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from cloister.lanes.shared_lane import SharedLane
from cloister.pipes.duplex import lane_pair
from cloister.wire.values import Codec

LIMIT_S = 30


def test_guest_that_closes_only_its_reading_end_ends_the_lane() -> None:
    """What is queued for nobody is thrown away, and the calls fail: the reading thread does not try for ever."""
    host, guest = lane_pair()

    def fail(cause: BaseException) -> BaseException:
        return RuntimeError(str(cause))

    def rebuild(described: Any) -> BaseException:
        return RuntimeError(str(described))

    lane = SharedLane(host, 1, (Codec(), Codec()), rebuild, fail, lambda *args: None, "one-way-end")
    future = lane.submit(1, "f", (b"x" * 500_000,), None)
    writer = os.dup(guest.writer)
    try:
        os.read(guest.reader, 1 << 16)
        guest.close()
        with pytest.raises(RuntimeError, match="the peer is gone"):
            future.result(LIMIT_S)
        lane.join(LIMIT_S)
        assert not any(thread.name == "cloister-one-way-end-shared" for thread in threading.enumerate())
    finally:
        os.close(writer)
        lane.close()
        lane.join(LIMIT_S)
