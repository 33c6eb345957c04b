"""`cloister.lanes.watch`: each readiness is told to one thread, once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest

from cloister.lanes.watch import Ready, Watch
from cloister.pipes.duplex import LaneEnd, lane_pair

WAIT_S = 20.0


@pytest.fixture
def lane() -> Iterator[tuple[LaneEnd, LaneEnd, Watch]]:
    """Both ends of a lane, and a watch of the second one."""
    host, guest = lane_pair()
    watch = Watch(guest)
    yield host, guest, watch
    watch.close()
    host.close()
    guest.close()


def test_bytes_are_told_once_until_asked_again(lane: tuple[LaneEnd, LaneEnd, Watch]) -> None:
    """Nobody else hears of what one thread was told, also where it has not read it yet."""
    host, _, watch = lane
    assert watch.wait(0) is None
    os.write(host.writer, b"x")
    assert watch.wait(WAIT_S) == Ready(True, False, False)
    assert watch.wait(0) is None
    watch.ask_reading()
    assert watch.wait(WAIT_S) == Ready(True, False, False)


def test_of_two_threads_that_wait_each_hears_of_one_thing(lane: tuple[LaneEnd, LaneEnd, Watch]) -> None:
    """What comes while one thread is busy is told to the other one."""
    host, guest, watch = lane
    heard: list[bytes] = []
    both = threading.Barrier(2, timeout=WAIT_S)

    def listen() -> None:
        ready = watch.wait(WAIT_S)
        assert ready is not None
        assert ready.readable
        heard.append(os.read(guest.reader, 100))
        watch.ask_reading()
        os.write(host.writer, b"second") if len(heard) == 1 else None
        both.wait()  # neither goes on before both have heard

    threads = [threading.Thread(target=listen) for _ in range(2)]
    for thread in threads:
        thread.start()
    os.write(host.writer, b"first")
    for thread in threads:
        thread.join(WAIT_S)
    assert heard == [b"first", b"second"]


def test_room_to_write_is_told_when_asked_for(lane: tuple[LaneEnd, LaneEnd, Watch]) -> None:
    """A full pipe is told to have room as soon as somebody has read from it."""
    host, guest, watch = lane
    with contextlib.suppress(BlockingIOError):
        while os.write(guest.writer, bytes(4096)):
            pass
    watch.ask_writing()
    assert watch.wait(0) is None
    os.read(host.reader, 1 << 20)
    assert watch.wait(WAIT_S) == Ready(False, True, False)


def test_end_is_told() -> None:
    """A lane whose other end is closed can be read, and nobody reads what is written."""
    other, kept = lane_pair()
    watched = Watch(kept)
    other.close()
    seen = [ready for ready in (watched.wait(WAIT_S), watched.wait(0.1)) if ready is not None]
    assert any(ready.readable for ready in seen)
    assert any(ready.gone for ready in seen)
    assert os.read(kept.reader, 1) == b""
    watched.close()
    kept.close()
