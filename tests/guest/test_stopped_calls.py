"""What a guest remembers of calls that it has stopped."""

from __future__ import annotations

from typing import Any

from cloister.guest.stopped_calls import StoppedCalls


class Serving:
    """What a thread runs that serves a call."""

    def __init__(self, lane: int, number: int) -> None:
        self.lane, self.number = lane, number


class Calls:
    """The open calls: each one runs on, and can't be stopped where it is."""

    def __init__(self) -> None:
        self.stopped: list[tuple[int, int]] = []

    def stop(self, lane: int, number: int, importing: bool) -> bool:
        self.stopped.append((lane, number))
        return True

    def watch(self, lane: int, number: int) -> Any:
        return lambda: True


class Lane(int):
    """The number of a lane; when it is compared, another thread has just been interrupted."""

    met: Any = None

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        if self.met is not None:
            self.met()
        return int(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other


def test_call_is_stopped_again_whatever_the_control_thread_does_meanwhile() -> None:
    """A thread asks for that while a lane is forgotten: that is no error there, and its wish is not lost."""
    calls: Any = Calls()
    stopped = StoppedCalls(calls, lambda lane, number: None)
    for number in (1, 2):
        stopped.stop(3, number)
    other: Any = Serving(4, 5)
    lane = Lane(3)
    lane.met = lambda: stopped.stop_again(other)
    stopped.forget(lane)
    calls.stopped.clear()
    stopped.follow(3, 1)
    stopped.follow(4, 5)
    stopped.look()
    assert calls.stopped == [(4, 5)]
