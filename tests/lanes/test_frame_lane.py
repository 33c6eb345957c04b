"""The descriptors of a lane, where the thread that closes them is interrupted in the middle."""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from cloister.lanes import frame_lane
from cloister.lanes.frame_lane import FrameLane
from cloister.pipes.duplex import lane_pair


class Interrupt(BaseException):
    """Comes between any two steps, as what ends an interrupted call does."""


class Interrupter:
    """Raises before a line of the lane's file, counted from 1."""

    def __init__(self, line: int) -> None:
        self.line, self.seen = line, 0

    def at_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Follow what runs in the lane's file."""
        return self.at_line if frame.f_code.co_filename == frame_lane.__file__ else None

    def at_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """One step."""
        self.seen += event == "line"
        if event == "line" and self.seen == self.line:
            raise Interrupt
        return self.at_line


def test_a_close_that_is_interrupted_anywhere_is_completed() -> None:
    """Before whichever line an exception comes, closing again leaves no descriptor open, and closes none twice."""
    line = 0
    while True:
        line += 1
        host, guest = lane_pair()
        lane, interrupter, before = FrameLane(host, 0), Interrupter(line), sys.gettrace()
        try:
            sys.settrace(interrupter.at_call)
            try:
                lane.close()
            finally:
                sys.settrace(before)
        except Interrupt:
            pass
        lane.close()
        for fd in host:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
        taken = os.dup(guest.reader)  # takes the number of one that was closed
        lane.close()
        os.fstat(taken)
        os.close(taken)
        guest.close()
        if interrupter.seen < line:
            break
    assert line > 4


def test_thread_that_was_torn_out_of_the_gate_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends with the gate of a lane in its hands keeps no other one from ending the lane."""
    monkeypatch.setattr(frame_lane, "GATE_S", 0.01)
    host, guest = lane_pair()
    lane = FrameLane(host, 0)
    thread = threading.Thread(target=lane._gate.acquire)
    thread.start()
    thread.join()
    lane.break_with(RuntimeError)
    assert lane.closed
    for fd in host:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    for fd in guest:
        os.close(fd)


@pytest.mark.parametrize("said", ["no number", "0", "-1", "1.5", "65537", "9999999"])
def test_a_size_of_reads_that_is_none_is_told(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that says how much one read takes may say a number of bytes; else the error says what it may be."""
    monkeypatch.setenv("CLOISTER_LANE_READ_BYTES", said)
    with pytest.raises(ValueError, match=r"CLOISTER_LANE_READ_BYTES is .* from 1 to 65536, .* leave it out"):
        frame_lane._read_bytes()


@pytest.mark.parametrize(("said", "size"), [("", 65_536), ("1", 1), ("65536", 65_536)])
def test_a_size_of_reads_is_taken(said: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of bytes is taken as it is; an empty variable counts as not set."""
    monkeypatch.setenv("CLOISTER_LANE_READ_BYTES", said)
    assert frame_lane._read_bytes() == size
