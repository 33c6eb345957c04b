"""`cloister.lanes.watch`: room in a pipe is told once, when it was asked for, and asking wakes who waits."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from cloister.lanes.watch import Room, Watch
from cloister.pipes.duplex import LaneEnd, lane_pair

WAIT_S = 30.0


@pytest.fixture
def lane() -> Iterator[tuple[LaneEnd, LaneEnd, Watch]]:
    """Both ends of a lane, and a watch of the second one."""
    host, guest = lane_pair()
    watch = Watch(guest)
    yield host, guest, watch
    watch.close()
    host.close()
    guest.close()


def test_room_to_write_is_told_when_asked_for(lane: tuple[LaneEnd, LaneEnd, Watch]) -> None:
    """A full pipe is told to have room as soon as somebody has read from it, once."""
    host, guest, watch = lane
    with contextlib.suppress(BlockingIOError):
        while os.write(guest.writer, bytes(4096)):
            pass
    watch.ask()
    assert watch.wait(0) is None
    os.read(host.reader, 1 << 20)
    assert watch.wait(WAIT_S) == Room(writable=True, gone=False)
    assert watch.wait(0) is None


def test_asking_wakes_the_thread_that_waits(lane: tuple[LaneEnd, LaneEnd, Watch]) -> None:
    """Where there is room, who asks wakes who waits for ever."""
    _, _, watch = lane
    heard: list[Room | None] = []
    thread = threading.Thread(target=lambda: heard.append(watch.wait(None)))
    thread.start()
    watch.ask()
    thread.join(WAIT_S)
    assert heard == [Room(writable=True, gone=False)]


def test_end_is_told() -> None:
    """Where the other end is closed, nobody reads what is written; after the watch is closed, asking does nothing."""
    other, kept = lane_pair()
    watch = Watch(kept)
    other.close()
    watch.ask()
    room = watch.wait(WAIT_S)
    assert room is not None
    assert room.gone
    assert os.read(kept.reader, 1) == b""
    watch.close()
    watch.ask()
    kept.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end is told to who asks")
def test_end_is_told_to_who_waits_after_an_event() -> None:
    """Once room was told, the end is told still, though nobody asks for anything any more."""
    other, kept = lane_pair()
    watch = Watch(kept)
    watch.ask()
    assert watch.wait(WAIT_S) == Room(writable=True, gone=False)
    assert watch.wait(0) is None
    other.close()
    assert watch.wait(WAIT_S) == Room(writable=False, gone=True)
    watch.close()
    kept.close()
