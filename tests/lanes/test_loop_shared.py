"""The caller's end of a shared lane on an event loop, against a peer of this test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cloister.errors import CallCancelled, CallTimeout, MarshalError, ProtocolError
from cloister.lanes import loop_shared
from cloister.lanes.call_frames import Call, raise_frame, read_call, reply_frame
from cloister.lanes.frame_lane import LaneClosed
from cloister.lanes.loop_shared import LoopCall, LoopShared
from cloister.lanes.rows import CALLS, read_calls
from cloister.pipes.duplex import LaneEnd, lane_pair
from cloister.wire.frames import FrameDecoder
from cloister.wire.values import Codec
from tests.loops import Run as Run
from tests.loops import run as run
from tests.stepping import each_interrupt, stepped

GONE = "the domain is gone"


class Peer:
    """The other end, spoken for by hand: it reads when the test says so."""

    def __init__(self, end: LaneEnd) -> None:
        os.set_blocking(end.reader, False)
        self.end, self.codec, self.decoder = end, Codec(), FrameDecoder()
        self.heard = 0
        self.closed = False

    def close(self) -> None:
        """Go away."""
        if not self.closed:
            self.closed = True
            self.end.close()

    def calls(self) -> list[Call]:
        """What has arrived since the last time."""
        found: list[Call] = []
        while True:
            try:
                data = os.read(self.end.reader, 65536)
            except BlockingIOError:
                return found
            if not data:
                return found
            self.decoder.feed(data)
            while (frame := self.decoder.next_frame()) is not None:
                if frame.kind == CALLS:
                    row = read_calls(self.codec, frame, self.heard + 1)
                    self.heard += len(row)
                    found += row
                    continue
                self.heard += 1
                call = read_call(self.codec, frame, self.heard)
                assert type(call) is Call
                found.append(call)

    async def next_calls(self, count: int) -> list[Call]:
        """Wait for so many calls."""
        found = self.calls()
        while len(found) < count:
            await asyncio.sleep(0)
            found += self.calls()
        return found

    def answer(self, number: int, value: Any) -> None:
        """Answer a call."""
        os.write(self.end.writer, b"".join(reply_frame(self.codec, number, value)))

    def refuse(self, number: int, described: Any) -> None:
        """Answer a call with an exception."""
        os.write(self.end.writer, b"".join(raise_frame(self.codec, number, described)))


class Ends:
    """A lane and its peer, and what the lane has told its owner."""

    def __init__(self) -> None:
        self.host, guest = lane_pair()
        self.peer = Peer(guest)
        self.stopped: list[tuple[int, int]] = []
        self.over: list[BaseException] = []
        self.lane = LoopShared(
            asyncio.get_running_loop(),
            (Codec(), Codec()),
            lambda described: ValueError(described),
            self.stop,
            self.over.append,
        )

    def stop(self, call: LoopCall, told: Callable[[CallTimeout], None] | None) -> None:
        """Note which call is to be stopped, and tell its caller."""
        self.stopped.append((call.lane, call.number))
        if told is not None:
            told(CallTimeout("it was told to stop"))

    def open(self) -> Ends:
        """Open the lane as number 7."""
        self.lane.open(self.host, 7)
        return self

    def close(self) -> None:
        """Close both ends."""
        self.lane.fail(lambda: LaneClosed(GONE))
        self.peer.close()


@contextlib.contextmanager
def ends() -> Iterator[Ends]:
    """A lane that is not open yet."""
    made = Ends()
    try:
        yield made
    finally:
        made.close()


def with_ends(run: Run, body: Callable[[Ends], Awaitable[None]]) -> None:
    """Run a coroutine function with an open lane."""

    async def main() -> None:
        with ends() as made:
            await body(made.open())

    run(main())


def test_calls_are_answered_in_any_order(run: Run) -> None:
    """Each future gets the answer of its own number, whatever the order; an exception is raised in its place."""

    async def body(both: Ends) -> None:
        first, second, third = (both.lane.submit(1, name, (name,), None) for name in "abc")
        calls = await both.peer.next_calls(3)
        assert [(call.number, call.name, call.args) for call in calls] == [
            (1, "a", ["a"]),
            (2, "b", ["b"]),
            (3, "c", ["c"]),
        ]
        both.peer.answer(3, "C")
        both.peer.refuse(1, "A")
        both.peer.answer(2, "B")
        assert await third == "C"
        assert await second == "B"
        with pytest.raises(ValueError, match="A"):
            await first

    with_ends(run, body)


def test_calls_of_one_turn_leave_in_one_write(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is alone is written at once; those that follow in the same turn of the loop go together."""
    writes: list[int] = []
    write = os.write

    def counted(fd: int, data: Any) -> int:
        writes.append(len(data))
        return write(fd, data)

    async def body(both: Ends) -> None:
        monkeypatch.setattr(os, "write", counted)
        calls = [both.lane.submit(1, "f", (number,), None) for number in range(100)]
        assert len(writes) == 1
        assert len(await both.peer.next_calls(100)) == 100
        assert len(writes) == 2
        monkeypatch.undo()
        for number in range(1, 101):
            both.peer.answer(number, number)
        assert await asyncio.gather(*calls) == list(range(1, 101))

    with_ends(run, body)


def test_cancelled_call_is_told_and_its_late_answer_is_dropped(run: Run) -> None:
    """A cancel is a message; the answer that comes all the same reaches nobody."""

    async def body(both: Ends) -> None:
        given_up, kept = both.lane.submit(1, "f", (), None), both.lane.submit(1, "g", (), None)
        await both.peer.next_calls(2)
        task = asyncio.ensure_future(_await(given_up))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert given_up.cancelled()
        assert both.stopped == [(7, 1)]
        both.peer.answer(1, "late")
        both.peer.answer(2, "on time")
        assert await kept == "on time"
        assert not given_up.cancel()
        assert both.lane.waiting == []

    with_ends(run, body)


def test_call_before_the_lane_is_open_waits_and_may_be_cancelled_unsent(run: Run) -> None:
    """Calls before `open` keep their order; one that is cancelled meanwhile is never sent, and nobody is told."""

    async def main() -> None:
        with ends() as both:
            first, second, third = (both.lane.submit(1, name, (), None) for name in "abc")
            assert both.lane.waiting == ["a", "b", "c"]
            second.cancel()
            both.open()
            assert [call.name for call in await both.peer.next_calls(2)] == ["a", "c"]
            both.peer.answer(1, 1)
            both.peer.answer(2, 3)
            assert (await first, await third) == (1, 3)
            assert both.stopped == []

    run(main())


def test_deadlines_fail_sent_and_unsent_calls(run: Run) -> None:
    """At its deadline a call fails with CallTimeout: one that was sent is told to stop, one that was not never goes."""

    async def main() -> None:
        with ends() as both:
            unsent = both.lane.submit(1, "early", (), None, {"left": 1}, time.monotonic() + 0.02)
            with pytest.raises(CallTimeout, match="before it was sent"):
                await unsent
            both.open()
            soon = both.lane.submit(1, "soon", (), None, None, time.monotonic() + 0.02)
            sooner = both.lane.submit(1, "sooner", (), None, None, time.monotonic() + 0.01)
            never = both.lane.submit(1, "never", (), None, None, time.monotonic() + 3600)
            for late in (sooner, soon):
                with pytest.raises(CallTimeout, match="told to stop"):
                    await late
            assert both.stopped == [(7, 2), (7, 1)]
            assert [call.name for call in await both.peer.next_calls(3)] == ["soon", "sooner", "never"]
            both.peer.answer(3, "here")
            assert await never == "here"

    run(main())


def test_calls_past_the_queue_wait_unencoded_and_room_waits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that does not read holds up the encoding of what comes later; `room` waits for it. Nothing is lost."""
    monkeypatch.setattr(loop_shared, "MAX_QUEUED_BYTES", 100_000)
    block = b"x" * 10_000

    async def body(both: Ends) -> None:
        calls = [both.lane.submit(1, "f", (number, block), None) for number in range(200)]
        room = asyncio.ensure_future(both.lane.room())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not room.done()
        assert both.lane._queued < 250_000
        seen: list[int] = []
        while len(seen) < 200:
            for call in await both.peer.next_calls(1):
                seen.append(call.args[0])
                both.peer.answer(call.number, call.args[0])
        assert seen == list(range(200))
        assert await asyncio.gather(*calls) == seen
        await room

    with_ends(run, body)


def test_argument_that_cannot_travel_fails_its_call_alone(run: Run) -> None:
    """A MarshalError is raised at once, or in the future of a call that had to wait; no number is lost."""

    async def main() -> None:
        with ends() as both:
            waiting = both.lane.submit(1, "f", (object(),), None)
            both.open()
            with pytest.raises(MarshalError):
                await waiting
            with pytest.raises(MarshalError):
                both.lane.submit(1, "f", (object(),), None, {"strand": 77})
            assert not both.lane.strands
            good = both.lane.submit(1, "f", (), None)
            (call,) = await both.peer.next_calls(1)
            assert call.number == 1
            both.peer.answer(1, None)
            assert await good is None

    run(main())


def test_buffer_may_be_changed_after_the_call(run: Run) -> None:
    """What travels is what the argument was when the call was made, however long the pipe is full."""

    async def body(both: Ends) -> None:
        both.lane.submit(1, "fill", (b"x" * 60_000,), None)
        block = bytearray(b"a" * 1_000_000)
        both.lane.submit(1, "f", (block,), None)
        block[:] = b"b" * 1_000_000
        calls = await both.peer.next_calls(2)
        assert calls[1].args == [bytearray(b"a" * 1_000_000)]

    with_ends(run, body)


def test_end_of_the_peer_fails_everything_once(run: Run) -> None:
    """The owner is told once why the lane ended; what waited goes on waiting until it says what that raises."""

    async def body(both: Ends) -> None:
        calls = [both.lane.submit(1, "f", (), None) for _ in range(3)]
        both.peer.close()
        while not both.over:
            await asyncio.sleep(0)
        assert [type(cause) for cause in both.over] == [LaneClosed]
        assert not any(call.done() for call in calls)
        both.lane.fail(lambda: CallCancelled(GONE))
        both.lane.fail(lambda: ValueError("not this"))
        assert [str(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == [GONE] * 3
        with pytest.raises(CallCancelled, match=GONE):
            both.lane.submit(1, "f", (), None)

    with_ends(run, body)


@pytest.mark.parametrize("rubbish", [b"\0" * 64, b"\xff" * 64], ids=["zeros", "ones"])
def test_rubbish_ends_the_lane(run: Run, rubbish: bytes) -> None:
    """What is no frame ends the lane with a ProtocolError, and is told once."""

    async def body(both: Ends) -> None:
        both.lane.submit(1, "f", (), None).add_done_callback(lambda call: call.exception())
        os.write(both.peer.end.writer, rubbish)
        while not both.over:
            await asyncio.sleep(0)
        assert [type(cause) for cause in both.over] == [ProtocolError]

    with_ends(run, body)


@pytest.mark.parametrize("number", [0, 2, -1, "one"])
def test_answer_to_a_call_that_was_never_made_ends_the_lane(run: Run, number: Any) -> None:
    """An answer that belongs to nothing is a breach of the protocol; the open call fails with the lane."""

    async def body(both: Ends) -> None:
        call = both.lane.submit(1, "f", (), None)
        both.peer.answer(number, None)
        while not both.over:
            await asyncio.sleep(0)
        assert type(both.over[0]) is ProtocolError
        assert not call.done()
        call.cancel()

    with_ends(run, body)


def test_answers_that_lie_in_the_pipe_are_heard_before_the_end(run: Run) -> None:
    """What a peer has answered before the lane is closed reaches its caller; only the rest fails."""

    async def body(both: Ends) -> None:
        first, second = both.lane.submit(1, "f", (), None), both.lane.submit(1, "g", (), None)
        await both.peer.next_calls(2)
        both.peer.answer(1, "in time")
        both.lane.fail(lambda: CallCancelled(GONE))
        assert await first == "in time"
        with pytest.raises(CallCancelled, match=GONE):
            await second

    with_ends(run, body)


def test_loop_that_is_closed_closes_its_lane(run: Run) -> None:
    """A lane that nobody closed goes with its loop: the peer sees the end, and the descriptors are free."""
    made: list[Ends] = []

    async def main() -> None:
        made.append(Ends().open())
        made[0].lane.submit(1, "f", (), None).add_done_callback(lambda call: call.exception())
        await made[0].peer.next_calls(1)

    run(main())
    both = made[0]
    assert both.lane.ended
    assert os.read(both.peer.end.reader, 1) == b""
    both.peer.close()


async def _await(call: Awaitable[Any]) -> Any:
    return await call


@stepped
@pytest.mark.parametrize("size", [1, 300, 40_000])
def test_calls_stay_whole_wherever_an_interrupt_comes(run: Run, size: int) -> None:
    """At each place of `submit` and of a flush: each call that has a number arrives whole, in its order."""

    async def body(both: Ends) -> None:
        lane, peer = both.lane, both.peer

        def submit() -> None:
            for _ in range(3):
                lane.submit(5, "f", ("x" * size,), None)
            lane._flush()

        places = 0
        for _ in each_interrupt(submit, "/cloister/lanes/"):
            places += 1
            lane.submit(5, "f", (1,), None)
            while peer.heard < lane._ledger.said:
                await peer.next_calls(1)
                lane._on_room()
            assert not lane._queue
            assert not lane._queued
            lane._ledger.waiting.clear()
        assert places > 20

    with_ends(run, body)
