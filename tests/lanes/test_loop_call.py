"""The host's end of a call lane on an event loop, against a peer of this test's own that may break the rules."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cloister.errors import CallTimeout, MarshalError, ProtocolError
from cloister.lanes.call_frames import Answer, Call
from cloister.lanes.conversation import Conversation
from cloister.lanes.frame_lane import LaneClosed
from cloister.lanes.loop_call import LoopCallLane, Turn
from cloister.lanes.loop_shared import LoopCall
from cloister.pipes.duplex import LaneEnd, lane_pair
from cloister.wire.frames import FrameDecoder
from cloister.wire.values import Codec, Reference
from tests.loops import Run as Run
from tests.loops import run_asyncio as run_asyncio

GONE = "the domain is gone"


def refuse(reference: Reference) -> object:
    """A reference that can't be had on this side."""
    raise MarshalError("it is gone")


class Peer:
    """The other end, spoken for by hand. What it calls an object travels by reference, and nobody can rebuild it."""

    def __init__(self, end: LaneEnd) -> None:
        self.end = end
        self.talk = Conversation(Codec(outbound=lambda _: Reference((1, 9)), inbound=refuse))
        self.decoder = FrameDecoder()
        self.closed = False
        os.set_blocking(end.reader, False)

    def close(self) -> None:
        """Go away. Idempotent."""
        if not self.closed:
            self.closed = True
            self.end.close()

    def say(self, data: list[Any]) -> None:
        """Send a frame."""
        os.write(self.end.writer, b"".join(data))

    async def hear(self) -> Any:
        """Wait for what the lane says next."""
        while (frame := self.decoder.next_frame()) is None:
            try:
                self.decoder.feed(os.read(self.end.reader, 65536))
            except BlockingIOError:
                await asyncio.sleep(0)
        return self.talk.hear(frame)


class Owner:
    """Serves with functions of the test, and writes down what it is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[Call, Turn]] = []
        self.not_heard: list[BaseException] = []
        self.over: list[tuple[BaseException, bool]] = []
        self.stopped: list[int] = []

    def begin(self, lane: LoopCallLane, call: Call, turn: Turn) -> None:
        self.begun.append((call, turn))

    def place(self, lane: LoopCallLane, call: Call) -> asyncio.AbstractEventLoop:
        return lane.loop

    def another(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop | None:
        return None

    def describe(self, error: BaseException) -> Any:
        return f"{type(error).__name__}: {error}"

    def rebuild(self, described: Any) -> BaseException:
        return LookupError(described)

    def interrupt(self, call: LoopCall, told: Callable[[CallTimeout], None] | None) -> None:
        self.stopped.append(call.number)
        if told is not None:
            told(CallTimeout("it was told to stop"))

    def unheard(self, name: str, error: BaseException) -> None:
        self.not_heard.append(error)

    def lane_over(self, lane: LoopCallLane, cause: BaseException, waits: bool) -> None:
        self.over.append((cause, waits))


class Ends:
    """A lane, its owner and its peer."""

    def __init__(self) -> None:
        host, guest = lane_pair()
        self.owner, self.peer = Owner(), Peer(guest)
        codec = Codec(inbound=refuse)
        self.lane = LoopCallLane(asyncio.get_running_loop(), Conversation(codec), self.owner, None)
        self.lane.attach(host, 5)

    async def served(self, count: int = 1) -> tuple[Call, Turn]:
        """Wait until so many calls have begun; the last one."""
        while len(self.owner.begun) < count:
            await asyncio.sleep(0)
        return self.owner.begun[count - 1]

    async def ended(self) -> tuple[BaseException, bool]:
        """Wait until the lane is over; why, and whether something waits on it."""
        while not self.owner.over:
            await asyncio.sleep(0)
        return self.owner.over[0]


def with_ends(run: Run, body: Callable[[Ends], Awaitable[None]]) -> None:
    """Run a coroutine function with a lane, for a bounded time."""

    async def main() -> None:
        ends = Ends()
        try:
            await asyncio.wait_for(body(ends), 30)
        finally:
            ends.lane.fail(lambda: LaneClosed(GONE))
            ends.peer.close()

    run(main())


def test_call_that_can_not_be_read_is_refused_and_the_lane_goes_on(run: Run) -> None:
    """Bad input: a call with something that can't be had here fails alone; one that wants no answer is told of."""

    async def main(ends: Ends) -> None:
        ends.peer.say(ends.peer.talk.ask(1, "take", (object(),), None))
        assert await ends.peer.hear() == Answer(1, "MarshalError: it is gone", True)
        ends.peer.say(ends.peer.talk.tell(1, "take", (object(),), None))
        ends.peer.say(ends.peer.talk.ask(1, "take", (1,), None))
        call, turn = await ends.served()
        assert call[:4] == (2, 1, "take", [1])
        assert [str(error) for error in ends.owner.not_heard] == ["it is gone"]
        ends.lane.finish(turn, "one", None)
        assert await ends.peer.hear() == Answer(2, "one", False)

    with_ends(run, main)


def test_result_that_can_not_travel_is_an_error_of_its_call(run: Run) -> None:
    """A result that can't be sent is told to the peer as what it is, and the next one arrives."""

    async def main(ends: Ends) -> None:
        for number, (value, answered) in enumerate([(object(), "MarshalError"), (7, "7")], 1):
            ends.peer.say(ends.peer.talk.ask(1, "give", (), None))
            _, turn = await ends.served(number)
            ends.lane.finish(turn, value, None)
            assert answered in str((await ends.peer.hear()).value)

    with_ends(run, main)


def test_answer_that_can_not_be_rebuilt_fails_its_call_alone(run: Run) -> None:
    """An answer with something that can't be had here is a MarshalError of that call; the call around it goes on."""

    async def main(ends: Ends) -> None:
        ends.peer.say(ends.peer.talk.ask(1, "outer", (), None))
        _, turn = await ends.served()
        for value, expected in ((object(), MarshalError), ("three", None)):
            asked = ends.lane.ask(turn, 1, "inner", (), None, None)
            assert asked is not None
            assert ends.lane.waiting == ["inner"]
            assert ends.lane.caller is asked
            call = await ends.peer.hear()
            ends.peer.say(ends.peer.talk.reply(call.number, value))
            if expected is None:
                assert await asked == value
            else:
                with pytest.raises(expected, match="gone"):
                    await asked
        ends.lane.finish(turn, "outer", None)
        assert await ends.peer.hear() == Answer(1, "outer", False)

    with_ends(run, main)


def test_exception_of_the_peer_is_rebuilt_for_its_call(run: Run) -> None:
    """A call that raised over there raises here what the owner makes of it."""

    async def main(ends: Ends) -> None:
        ends.peer.say(ends.peer.talk.ask(1, "outer", (), None))
        _, turn = await ends.served()
        asked = ends.lane.ask(turn, 1, "inner", (), None, None)
        assert asked is not None
        ends.peer.say(ends.peer.talk.refuse((await ends.peer.hear()).number, "out of paper"))
        with pytest.raises(LookupError, match="out of paper"):
            await asked

    with_ends(run, main)


def test_argument_that_can_not_travel_leaves_the_turn_as_it_was(run: Run) -> None:
    """A call that was not sent is open nowhere; the next one on the same turn is."""

    async def main(ends: Ends) -> None:
        ends.peer.say(ends.peer.talk.ask(1, "outer", (), None))
        _, turn = await ends.served()
        with pytest.raises(MarshalError):
            ends.lane.ask(turn, 1, "inner", (object(),), None, None)
        assert ends.lane.waiting == []
        asked = ends.lane.ask(turn, 1, "inner", (1,), None, None)
        assert asked is not None
        assert (await ends.peer.hear()).args == [1]
        assert ends.lane.ask(turn, 1, "beside", (), None, None) is None  # the peer's thread is busy

    with_ends(run, main)


def test_answer_while_no_call_is_open_ends_the_lane(run: Run) -> None:
    """Bad input: an answer that nobody waits for, and a frame that has no place, are the peer's last words."""

    async def main(ends: Ends) -> None:
        ends.peer.say(ends.peer.talk.reply(1, "unasked"))
        cause, waits = await ends.ended()
        assert isinstance(cause, ProtocolError)
        assert not waits
        assert ends.lane.ended

    with_ends(run, main)


def test_end_of_the_lane_fails_what_was_asked_and_cancels_what_is_served(run: Run) -> None:
    """A call of this side gets the domain's error, what runs for the peer is cancelled, a later call has no lane."""

    async def main(ends: Ends) -> None:
        ends.peer.say(ends.peer.talk.ask(1, "outer", (), None))
        _, turn = await ends.served()
        turn.task = asyncio.create_task(asyncio.sleep(60))
        asked = ends.lane.ask(turn, 1, "inner", (), None, None)
        assert asked is not None
        ends.peer.close()
        cause, waits = await ends.ended()
        assert isinstance(cause, LaneClosed)
        assert waits
        ends.lane.fail(lambda: LaneClosed(GONE))
        with pytest.raises(LaneClosed, match=GONE):
            await asked
        with pytest.raises(asyncio.CancelledError):
            await turn.task
        assert ends.lane.ask(turn, 1, "late", (), None, None) is None
        ends.lane.finish(turn, "late", None)

    with_ends(run, main)


def test_peer_that_speaks_again_has_given_its_call_up(run: Run) -> None:
    """A peer that begins anew does not wait for its earlier call: its late answer is told apart by its number."""

    async def main(ends: Ends) -> None:
        ends.peer.say(ends.peer.talk.ask(1, "first", (), None))
        _, first = await ends.served()
        ends.peer.talk.abandon()
        ends.peer.say(ends.peer.talk.ask(1, "second", (), None))
        _, second = await ends.served(2)
        assert first.left
        ends.lane.finish(first, "late", None)
        assert await ends.peer.hear() is None  # thrown away
        ends.lane.finish(second, "in time", None)
        assert await ends.peer.hear() == Answer(2, "in time", False)

    with_ends(run, main)
