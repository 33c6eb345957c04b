"""Lanes that are wanted while a domain ends, or that come as the time for them is up."""

from __future__ import annotations

import os
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloister.guest.wanted_lanes import WantedLanes
from cloister.pipes.duplex import LaneEnd, lane_pair


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


@pytest.fixture
def pair() -> Iterator[tuple[LaneEnd, LaneEnd]]:
    """Both ends of a lane."""
    ends = lane_pair()
    yield ends
    for end in ends:
        end.close()


def is_closed(other: LaneEnd) -> bool:
    """Whether the end is closed that belongs to this one."""
    os.set_blocking(other.reader, False)
    try:
        return os.read(other.reader, 1) == b""
    except BlockingIOError:
        return False


class Late:
    """What a thread waits with, where its lane comes as its time is up: the wait itself has seen nothing."""

    def __init__(self, come: Callable[[], None], error: type[BaseException] | None) -> None:
        self._come, self._error = come, error

    def wait(self, timeout: float) -> bool:
        self._come()
        if self._error is not None:
            raise self._error
        return False

    def set(self) -> None:
        """It has come."""


def wanted_late(
    monkeypatch: pytest.MonkeyPatch, end: LaneEnd, error: type[BaseException] | None = None
) -> tuple[WantedLanes, list[Any]]:
    """Lanes that are wanted here, where the answer comes with the time-out, or with an exception."""
    asked: list[Any] = []
    lanes = WantedLanes(lambda *message: asked.append(message))
    late = Late(lambda: lanes.deliver(asked[-1][1], 7, end), error)
    monkeypatch.setattr("cloister.guest.wanted_lanes.threading", types.SimpleNamespace(Event=lambda: late))
    return lanes, asked


def test_lane_that_comes_as_the_time_is_up_is_used(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[LaneEnd, LaneEnd]
) -> None:
    """The host has opened it and counts it: so who wanted it has it."""
    lanes, _ = wanted_late(monkeypatch, pair[0])
    assert lanes.open_lane() == (7, pair[0])
    os.fstat(pair[0].reader)


def test_lane_that_comes_with_an_interrupt_is_closed(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[LaneEnd, LaneEnd]
) -> None:
    """Nobody would have it any more, and its descriptors would stay open."""
    lanes, asked = wanted_late(monkeypatch, pair[0], KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        lanes.open_lane()
    assert is_closed(pair[1])
    lanes.refuse(asked[-1][1], "not any more")  # nobody is there to be told


def test_lane_that_comes_after_the_time_is_closed(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[LaneEnd, LaneEnd]
) -> None:
    """Also where the control thread has found who wants it just before that one gave up."""
    lanes = WantedLanes(lambda *message: None)
    monkeypatch.setattr("cloister.guest.wanted_lanes.LANE_TIMEOUT_S", 0.0)
    found: list[Any] = []
    monkeypatch.setattr(lanes, "_send", lambda *message: found.append(lanes._waiting[message[1]]))
    with pytest.raises(TimeoutError):
        lanes.open_lane()
    found[0].opened(7, pair[0])
    assert is_closed(pair[1])
