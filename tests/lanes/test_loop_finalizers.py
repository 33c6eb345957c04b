"""What comes in the middle of a call of an event loop and calls itself, or ends the lane: finalizers, and reducers."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest

from cloister.lanes import loop_end, loop_shared
from cloister.lanes.frame_lane import LaneClosed
from cloister.lanes.ledger import SLACK, Ledger
from cloister.lanes.loop_keeper import keeper_of
from cloister.lanes.loop_shared import LoopCall, LoopShared
from cloister.lanes.rows import ROW_BYTES
from cloister.pipes.duplex import LaneEnd, lane_pair
from cloister.wire.values import Codec
from tests.lanes.test_loop_shared import GONE, Ends, with_ends
from tests.loops import Run as Run
from tests.loops import run as run
from tests.stepping import each_interrupt, stepped

LATER_S = 1000.0

needs_descriptors = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


def later() -> float:
    """A deadline that is not reached."""
    return time.monotonic() + LATER_S


def once_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[[], object]) -> list[object]:
    """Run this once, as a finalizer, when a function has done its work and its caller has not gone on."""
    real = getattr(owner, name)
    done: list[object] = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value = real(*args, **kwargs)
        if not done:
            done.append(None)
            done[0] = action()
        return value

    monkeypatch.setattr(owner, name, wrapped)
    return done


async def check_all(both: Ends, count: int) -> None:
    """So many calls arrive once each, in the order of their numbers, and nothing is left here."""
    calls = await both.peer.next_calls(count)
    await asyncio.sleep(0)
    calls += both.peer.calls()
    assert [call.number for call in calls] == list(range(1, count + 1))
    assert not both.lane._queue
    assert not both.lane._row
    assert both.lane._queued == both.lane._row_bytes == 0


@pytest.mark.parametrize("way", ["alone", "with a deadline", "large", "of the finalizer"])
def test_finalizer_that_calls_after_a_call_was_encoded_takes_no_number_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A call that is made between the encoding of another one and its sending has a number of its own."""

    async def body(both: Ends) -> None:
        lane = both.lane
        deadline = later() if way == "with a deadline" else None
        inner_deadline = later() if way == "of the finalizer" else None
        inner = once_after(
            monkeypatch, Ledger, "encode", lambda: lane.submit(1, "inner", (), None, None, inner_deadline)
        )
        outer = lane.submit(1, "outer", ("x" * (100_000 if way == "large" else 1),), None, {"strand": 7}, deadline)
        (first,) = inner
        assert isinstance(first, LoopCall)
        assert {first.number, outer.number} == {1, 2}
        assert lane.strands == {7: outer}
        await check_all(both, 2)
        for number in (1, 2):
            both.peer.answer(number, number)
        assert await first == first.number
        assert await outer == outer.number

    with_ends(run, body)


def test_finalizer_that_calls_after_a_call_that_waited_was_encoded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a call that was made before the lane was open."""

    async def main() -> None:
        both = Ends()
        try:
            lane = both.lane
            outer = lane.submit(1, "outer", (), None)
            inner = once_after(monkeypatch, Ledger, "encode", lambda: lane.submit(1, "inner", (), None))
            both.open()
            await check_all(both, 2)
            (second,) = inner
            assert isinstance(second, LoopCall)
            assert (outer.number, second.number) == (1, 2)
        finally:
            both.close()

    run(main())


def test_finalizer_that_calls_while_a_frame_is_made_sends_no_call_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is submitted while a row becomes a frame comes after it, once."""

    async def body(both: Ends) -> None:
        lane = both.lane
        for _ in range(2):
            lane.submit(1, "a", (), None)

        def many() -> None:
            for _ in range(3):
                lane.submit(1, "b", ("x" * ROW_BYTES,), None)  # each wants to be framed at once

        inner = once_after(monkeypatch, loop_shared, "calls_frame", many)
        await check_all(both, 5)
        assert inner

    with_ends(run, body)


def test_call_that_is_cancelled_while_it_is_encoded_is_not_sent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits unencoded, and that its own arguments cancel, is not sent, and leaves nothing behind."""

    async def main() -> None:
        both = Ends()
        try:
            call = both.lane.submit(1, "a", (), None, {"strand": 3})
            once_after(monkeypatch, Ledger, "encode", call.cancel)
            both.open()
            second = both.lane.submit(1, "b", (), None)
            (only,) = await both.peer.next_calls(1)
            assert (only.number, only.name) == (1, "b")
            assert call.cancelled()
            assert not both.lane.strands
            both.peer.answer(1, None)
            await second
        finally:
            both.close()

    run(main())


@pytest.mark.parametrize("deadline", [None, LATER_S])
def test_lane_that_ends_in_the_middle_of_a_submit_refuses_the_call(
    run: Run, monkeypatch: pytest.MonkeyPatch, deadline: float | None
) -> None:
    """Nobody would answer a call that is noted after the end: it is refused, and leaves nothing behind."""

    async def body(both: Ends) -> None:
        lane = both.lane
        once_after(monkeypatch, Ledger, "encode", lambda: lane.fail(lambda: LaneClosed(GONE)))
        with pytest.raises(LaneClosed, match=GONE):
            lane.submit(1, "a", (), None, {"strand": 3}, deadline and later())
        assert not lane._ledger.waiting
        assert not lane.strands
        assert not lane._queue

    with_ends(run, body)


def test_lane_that_ends_while_a_frame_is_made_keeps_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls fail, and no frame is queued after the end."""

    async def body(both: Ends) -> None:
        lane = both.lane
        calls = [lane.submit(1, "a", (), None) for _ in range(3)]
        once_after(monkeypatch, loop_shared, "calls_frame", lambda: lane.fail(lambda: LaneClosed(GONE)))
        for call in calls:
            with pytest.raises(LaneClosed):
                await call
        assert not lane._queue

    with_ends(run, body)


@pytest.mark.parametrize("where", ["_joined", "len"])
def test_lane_that_ends_in_the_middle_of_a_write_writes_nothing_any_more(
    run: Run, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The number of a descriptor that was closed may be another file by then: nothing is written to it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    async def body(both: Ends) -> None:
        lane = both.lane

        def end() -> None:
            number = both.host.writer
            lane.fail(lambda: LaneClosed(GONE))
            os.dup2(writer, number)  # another file gets the number
            taken.append(number)

        if where == "len":  # which `_write` calls, and nothing of `submit` that comes with one call alone
            monkeypatch.setattr(loop_end, "memoryview", memoryview, raising=False)
            once_after(monkeypatch, loop_end, "memoryview", end)
            lane.submit(1, "a", ("x" * 10_000,), None)
        else:
            lane._queue += [b"a", b"b"]
            lane._queued = 2
            once_after(monkeypatch, LoopShared, "_joined", end)
            lane._write()
        assert taken
        assert not lane._queue
        assert lane._queued == 0
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)

    taken: list[int] = []
    try:
        with_ends(run, body)
    finally:
        for number in (reader, writer, *taken):
            os.close(number)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 no class of Python code gives a buffer")
def test_queue_of_a_lane_that_ends_while_it_is_joined_stays_empty(run: Run) -> None:
    """What was made one piece is not queued after the end."""

    class Piece:
        def __len__(self) -> int:
            return 1

        def __buffer__(self, flags: int) -> memoryview:
            lanes[0].fail(lambda: LaneClosed(GONE))
            return memoryview(b"x")

    async def body(both: Ends) -> None:
        lane = both.lane
        lanes.append(lane)
        lane._queue += [b"a", cast("bytes", Piece())]
        lane._write()
        assert not lane._queue

    lanes: list[LoopShared] = []
    with_ends(run, body)


def test_deadline_that_a_finalizer_notes_while_old_ones_are_thrown_out_stays() -> None:
    """Every open call keeps its deadline."""
    ledger: Ledger[str] = Ledger()

    class Waiting(dict[int, str]):
        def __contains__(self, number: object) -> bool:
            if number == 5 and 1000 not in self.keys():
                self[1000] = "inner"
                ledger.until(1000, 0.5)
            return super().__contains__(number)

    ledger.waiting = dict.fromkeys(range(2 * SLACK), "over")
    for number in range(2 * SLACK):
        ledger.until(number, float(number + 1))
    ledger.waiting = Waiting()
    ledger.waiting[2000] = "outer"
    ledger.until(2000, 0.7)
    assert ledger.expire(0.6)[0] == ["inner"]
    assert ledger.expire(0.8)[0] == ["outer"]


@stepped
@pytest.mark.parametrize("place", ["_flush", "_on_writable"])
def test_what_is_queued_is_written_wherever_an_interrupt_came(
    run: Run, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """After a Ctrl-C at any place of a flush, or of a turn that finds room, the loop writes the rest by itself."""
    monkeypatch.setattr(LoopShared, "_schedule", lambda lane: setattr(lane, "_scheduled", True))

    async def body(both: Ends) -> None:
        lane, peer = both.lane, both.peer
        step, interrupted = 2, True  # the first place of a flush is before its first line, where nobody helps
        while interrupted:
            if place == "_on_writable":
                lane._await_room()
            for _ in range(3):
                lane.submit(5, "f", ("x" * 50,), None)
            interrupted = next(each_interrupt(getattr(lane, place), "/cloister/lanes/", start=step), None) is not None
            async with asyncio.timeout(30):
                while peer.heard < lane._ledger.said:
                    await peer.next_calls(1)
            assert not lane._queue
            assert not lane._row
            lane._ledger.waiting.clear()
            lane._scheduled = False
            step += 1
        assert step > 12

    with_ends(run, body)


# -- loops that are thrown away ------------------------------------------------------------------------------------


class Owned:
    """A lane that knows its owner, as lanes do."""

    def __init__(self, peers: list[LaneEnd]) -> None:
        self.lane = LoopShared(
            asyncio.get_running_loop(), (Codec(), Codec()), ValueError, lambda call, told: None, self.over
        )
        host, guest = lane_pair()
        peers.append(guest)
        self.lane.open(host, 1)

    def over(self, cause: BaseException) -> None:
        """Nobody asks."""


def test_loop_that_was_closed_is_let_go(run: Run) -> None:
    """Nothing holds an event loop that has used a lane, once it is closed and dropped."""
    loops: list[weakref.ref[Any]] = []

    async def body(both: Ends) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        keepers.append(keeper_of(asyncio.get_running_loop()))

    keepers: list[Any] = []
    with_ends(run, body)
    gc.collect()
    assert keepers[0].closing
    assert loops[0]() is None


@needs_descriptors
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_loop_that_is_thrown_away_unclosed_leaves_no_descriptors() -> None:
    """The collector takes the loop and its lane, whose descriptors are closed then."""
    peers: list[LaneEnd] = []
    loops: list[weakref.ref[Any]] = []

    async def use() -> None:
        Owned(peers)

    def thrown_away() -> None:
        loop = asyncio.new_event_loop()
        loops.append(weakref.ref(loop))
        loop.run_until_complete(use())

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        thrown_away()
    gc.collect()
    gc.collect()
    for peer in peers:
        peer.close()
    assert [loop() for loop in loops] == [None] * 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_generators_of_the_loop_keep_their_hook(run: Run) -> None:
    """A lane changes nothing for the program's own generators: the loop finishes one that is dropped."""
    finished: list[bool] = []

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            finished.append(True)

    async def body(both: Ends) -> None:
        assert [number async for number in _first(numbers())] == [1]
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert finished == [True]

    with_ends(run, body)


async def _first(numbers: Any) -> Any:
    async for number in numbers:
        yield number
        return
