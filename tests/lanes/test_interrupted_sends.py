"""Ctrl-C at each place in the middle of sending: each call stays whole, in its order, and its future ends once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister.lanes import sending as sending_module
from cloister.lanes.numbered import Numbered
from cloister.lanes.rows import calls_frame, framed
from cloister.lanes.sending import Sending
from cloister.lanes.shared_lane import SharedLane
from cloister.wire.messages import SERVICE
from tests.stepping import Stepper, each_interrupt, stepped

pytestmark = stepped
JOIN_S = 20.0
Row = list[bytes | list[Any]]


class Pipe:
    """What is sent through a pipe, and what has arrived."""

    def __init__(self, filled: bool) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        os.set_blocking(self.reader, False)
        self.sending = Sending(self.writer)
        self.filler = os.write(self.writer, bytes(1 << 20)) if filled else 0

    def rest(self) -> bytes:
        """Send all that is left, as the next ones do who come; everything that has arrived after the filler."""
        arrived = bytearray()
        while True:
            with self.sending.lock:
                self.sending.send()
                self.sending.write_on()
            try:
                arrived += os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return bytes(arrived[self.filler :])

    def close(self) -> None:
        """Let go of it."""
        os.close(self.reader)
        os.close(self.writer)


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize(
    "row",
    [
        [b"alone"],
        [[b"long ", memoryview(b"m" * 300_000), b"end"]],
        [
            b"one",
            b"two",
            [b"pieces ", b"of one"],
            b"three",
            [b"x" * 9000, b"y" * 100_000],
            b"four",
            b"z" * 9000,
            b"five",
        ],
    ],
)
def test_row_is_sent_whole_wherever_an_interrupt_comes(row: Row, filled: bool) -> None:
    """At each place: what the pipe has not got is still there, in its order, and nothing comes twice or in halves."""
    expected = b"".join(part if isinstance(part, bytes) else b"".join(part) for _, part in framed(row, calls_frame))
    step = 0
    while True:
        step += 1
        pipe = Pipe(filled)
        try:
            pipe.sending.row += row

            def send(sending: Sending = pipe.sending) -> None:
                with sending.lock:
                    sending.send()

            interrupted = Stepper(step, sending_module.__file__, "rows.py").run(send)
            arrived = pipe.rest()
            assert not pipe.sending.waits
        finally:
            pipe.close()
        # Where it was interrupted between two frames, short calls may be cut into rows in another way.
        assert _bodies(arrived) == _bodies(expected)
        if not interrupted:
            break
    assert step > 5


def _bodies(data: bytes) -> bytes:
    """What was said, which is letters, without the heads of frames and rows."""
    return data.translate(None, delete=_UNSAID)


_UNSAID = bytes(byte for byte in range(256) if not 97 <= byte <= 122)


def lane_of(domain: cloister.Domain) -> SharedLane:
    """The shared lane of a domain."""
    submitted = domain.submit("operator:add", 1, 1)
    assert isinstance(submitted, Numbered)
    assert submitted.result(JOIN_S) == 2
    assert isinstance(submitted._lane, SharedLane)
    return submitted._lane


@pytest.mark.parametrize("count", [1, 3])
def test_each_call_begins_and_ends_once_wherever_an_interrupt_comes(
    start: Callable[..., cloister.Domain], count: int
) -> None:
    """At each place of `submit`: calls that have a number are run once, in order, and the next ones work."""
    domain = start()
    domain.exec("seen = []\ndef note(number):\n    seen.append(number)\n    return number")
    lane = lane_of(domain)
    futures: list[Numbered] = []
    ends: Counter[int] = Counter()
    place = 0

    def prepare(future: Numbered) -> None:
        future.when_done(lambda done: ends.update([place]))
        futures.append(future)

    def submit() -> None:
        nonlocal place
        for _ in range(count):
            place = len(futures)
            target = ["name", "__cloister__:note"]
            lane.submit(SERVICE, "call", (target, [place], {}), None, None, prepare=prepare)

    steps = 0
    for steps, _ in enumerate(each_interrupt(submit, "/cloister/lanes/", "/cloister/wire/"), 1):
        assert domain.submit("operator:add", steps, 1).result(JOIN_S) == steps + 1
    assert steps > 20
    sent = [number for number, future in enumerate(futures) if future.number]
    assert [futures[number].result(JOIN_S) for number in sent] == sent
    assert domain.eval("seen") == sent
    assert sum(ends.values()) == len(sent)
    assert not lane.waiting


def test_interrupted_wait_leaves_the_lane_to_the_others(start: Callable[..., cloister.Domain]) -> None:
    """At each place of a wait for an answer: no lock stays taken, and the answer is there for who asks again."""
    domain = start()
    lane_of(domain)
    waited: list[Any] = []

    def wait() -> None:
        waited.append(domain.submit("time:sleep", 0.002))
        waited[-1].result(JOIN_S)

    for _ in each_interrupt(
        wait, "/cloister/lanes/", "/cloister/conditions.py", "/threading.py", "/concurrent/futures/"
    ):
        assert domain.submit("operator:add", 1, 1).result(JOIN_S) == 2
        assert all(future.result(JOIN_S) is None for future in waited)
