"""Lanes that are wanted while a domain ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cloister.guest.wanted_lanes import WantedLanes


def test_who_wants_a_lane_at_the_end_is_told() -> None:
    """A thread that waits for a lane when the domain ends fails at once, and so does one that wants one after that."""
    asked: list[Any] = []
    sent = threading.Event()

    def send(*message: Any) -> None:
        asked.append(message)
        sent.set()

    wanted = WantedLanes(send)
    errors: list[OSError] = []

    def want() -> None:
        with pytest.raises(OSError, match="the domain ends") as caught:
            wanted.open_lane()
        errors.append(caught.value)

    thread = threading.Thread(target=want)
    thread.start()
    assert sent.wait(30)
    wanted.end()
    thread.join(30)
    want()
    refused: list[str] = []
    wanted.open_shared(lambda number, end: None, refused.append)
    assert len(errors) == 2
    assert len(refused) == 1
    assert len(asked) == 1
