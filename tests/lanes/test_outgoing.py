"""`cloister.lanes.outgoing`: frames leave in their order, together where they may; none stays behind a full pipe."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from cloister.lanes.outgoing import Outgoing, Wake
from cloister.pipes.duplex import LaneEnd, lane_pair


@pytest.fixture
def lane() -> Iterator[tuple[LaneEnd, LaneEnd]]:
    """Both ends of a lane."""
    ends = lane_pair()
    yield ends
    for end in ends:
        end.close()


def test_held_frames_leave_with_the_next_one(lane: tuple[LaneEnd, LaneEnd]) -> None:
    """What is put with `more` is written by the next put, in one piece with it."""
    host, guest = lane
    out = Outgoing(guest.writer, lambda: None)
    out.put([b"one,"], more=True)
    assert out.holds
    out.put([b"two,", memoryview(b"three")])
    assert not out.holds
    assert os.read(host.reader, 100) == b"one,two,three"


def test_full_pipe_asks_to_be_pushed_again(lane: tuple[LaneEnd, LaneEnd]) -> None:
    """Whoever finds the pipe full, with a put or a push, asks for a push; nothing is lost or changes its place."""
    host, guest = lane
    asked: list[bool] = []
    out = Outgoing(guest.writer, lambda: asked.append(True))
    frames = [bytes([number]) * 30_000 for number in range(20)]
    for frame in frames:
        out.put([frame], more=True)
    assert not asked
    out.push()
    assert asked
    assert out.unsent
    out.put([b"end"])
    heard = b""
    while out.unsent:
        heard += os.read(host.reader, 1 << 20)
        out.push()
    heard += os.read(host.reader, 1 << 20)
    assert heard == b"".join(frames) + b"end"


def test_what_another_thread_is_about_to_write_is_waited_for(lane: tuple[LaneEnd, LaneEnd]) -> None:
    """`hand_on` returns when the pipe has what was put before, also where another thread has taken it to write it."""
    host, guest = lane
    out = Outgoing(guest.writer, lambda: None)
    out.put([b"first"], more=True)
    taken, go = threading.Event(), threading.Event()
    line_up = out._line_up

    def slowly() -> None:
        line_up()
        taken.set()
        assert go.wait(30)

    out._line_up = slowly  # type: ignore[method-assign]  # it stops in the middle
    writer = threading.Thread(target=out.push)
    writer.start()
    assert taken.wait(30)
    assert (out.holds, out.has_some) == (False, True)
    threading.Timer(0.02, go.set).start()
    out.hand_on()
    assert os.read(host.reader, 100) == b"first"
    writer.join()


def test_wake_is_heard_each_time_after_it_was_taken() -> None:
    """One byte lies in the pipe however often is woken; a wake after `taken` is a new one."""
    wake = Wake()
    try:
        for _ in range(3):
            wake.wake()
            wake.wake()
            assert os.read(wake.reader, 10) == b"\0"
            wake.taken()
    finally:
        wake.close()


def test_push_that_found_the_lock_held_is_asked_for_again(lane: tuple[LaneEnd, LaneEnd]) -> None:
    """A frame that is put into a full pipe while somebody comes to push has that asked for once more."""
    host, guest = lane
    asked: list[bool] = []
    out = Outgoing(guest.writer, lambda: asked.append(True))
    out.put([bytes(200_000)])
    line_up, before = out._line_up, len(asked)

    def line_up_late() -> None:
        os.read(host.reader, 1 << 20)
        out.push()  # who was told of the room, while the lock is held
        assert len(asked) == before
        line_up()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out, "_line_up", line_up_late)
        out.put([b"late"])
    assert len(asked) == before + 1


def test_frame_put_while_another_one_is_lined_up_is_not_left_behind(lane: tuple[LaneEnd, LaneEnd]) -> None:
    """Who puts into a pipe that was full a moment ago asks for a push, for those who found the lock held."""
    host, guest = lane
    asked: list[bool] = []
    out = Outgoing(guest.writer, lambda: asked.append(True))
    out.put([bytes(200_000)])
    lock = out._writing

    class Late:
        """The lock, which is got only when the pipe has room and a third thread has put its frame."""

        def acquire(self, blocking: bool = True) -> bool:
            out._writing = lock
            while out.unsent or out.holds:
                os.read(host.reader, 1 << 20)
                out.push()
            assert lock.acquire(blocking)
            asked.clear()
            out.put([b"third"])
            assert not asked
            return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out, "_writing", Late())
        out.put([b"second"])
    assert asked
    out.push()
    assert os.read(host.reader, 1 << 20).endswith(b"secondthird")
