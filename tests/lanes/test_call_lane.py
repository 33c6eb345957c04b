"""The blocking engine of a call lane: both ends in this process, each on a thread of its own, over real pipes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloister.errors import CallCancelled, CallTimeout, DomainUnloaded, MarshalError, ProtocolError
from cloister.lanes import call_lane, frame_lane
from cloister.lanes.call_frames import Call, reply_frame
from cloister.lanes.call_lane import Asked, CallLane, LaneClosed
from cloister.lanes.conversation import Conversation
from cloister.pipes.duplex_posix import lane_pair
from cloister.wire.values import Codec

JOIN_S = 10.0


class Owner:
    """One side: serves calls by functions of its own, and lets exceptions travel as their names."""

    def __init__(self, may_interrupt: bool = False, **functions: Callable[..., Any]) -> None:
        self.functions = functions
        self.may_interrupt = may_interrupt
        self.interrupted: list[int] = []
        self.not_heard: list[tuple[str, BaseException]] = []

    def serve(self, lane: CallLane, call: Call) -> Any:
        return self.functions[call.name](*call.args)

    def describe(self, error: BaseException) -> Any:
        return f"{type(error).__name__}: {error}"

    def rebuild(self, described: Any) -> BaseException:
        return LookupError(described)

    def interrupt(self, lane: CallLane, number: int, name: str) -> Asked | None:
        self.interrupted.append(number)
        return Asked() if self.may_interrupt else None

    def unheard(self, name: str, error: BaseException) -> None:
        self.not_heard.append((name, error))

    def passes_through(self, error: BaseException) -> bool:
        return not isinstance(error, Exception)


class Pair:
    """A lane with both its ends."""

    def __init__(self) -> None:
        self.host_owner, self.guest_owner = Owner(may_interrupt=True), Owner()
        self._host_end, self._guest_end = lane_pair()
        self.host = CallLane(self._host_end, Conversation(Codec()), self.host_owner, 0)
        self.guest = CallLane(self._guest_end, Conversation(Codec()), self.guest_owner, 0, side=1)
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="guest")

    def serve(self, **functions: Callable[..., Any]) -> None:
        """Let the guest's end serve these functions on a thread."""
        self.guest_owner.functions.update(functions)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while not self.guest.closed and self.guest.serve_one():
                pass
        except BaseException as error:
            self.failure = error
        finally:
            self.guest.close()

    def call(self, name: str, *args: Any, seconds: float | None = None) -> Any:
        deadline = None if seconds is None else time.monotonic() + seconds
        return self.host.call(1, name, args, None, deadline=deadline)

    def call_back(self, name: str, *args: Any, seconds: float | None = None) -> Any:
        """Call the host from the guest's thread."""
        deadline = None if seconds is None else time.monotonic() + seconds
        return self.guest.call(1, name, args, None, deadline=deadline)

    def end(self) -> None:
        self.host.close()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
            assert not self._thread.is_alive()
        self.guest.close()


@pytest.fixture
def pair(reads: str) -> Iterator[Pair]:
    """Both ends of a lane, once reading whole messages and once one byte at a time."""
    pair = Pair()
    yield pair
    pair.end()


def test_call_returns_what_the_peer_returns(pair: Pair) -> None:
    """A call is answered with its result, and an exception of the peer is raised here; both leave the lane usable."""
    pair.serve(add=lambda a, b: a + b)
    assert pair.call("add", 1, 2) == 3
    with pytest.raises(LookupError, match="TypeError"):
        pair.call("add", 1, "2")
    assert pair.call("add", 3, 4) == 7


def test_thousand_requests_each_way_interleave(pair: Pair) -> None:
    """S12: 1,000 requests in each direction on one lane, each of them nested in another, none lost or mixed up."""
    pair.host_owner.functions["up"] = lambda n: n * 2
    pair.serve(down=lambda n: pair.call_back("up", n) + 1)
    assert [pair.call("down", n) for n in range(1000)] == [2 * n + 1 for n in range(1000)]


def test_nesting_to_depth_fifty_and_more(pair: Pair) -> None:
    """Calls nested 60 deep in both directions are served by the two threads that wait."""
    threads: set[str] = set()

    def down(depth: int) -> int:
        threads.add(threading.current_thread().name)
        return depth if depth == 0 else pair.call_back("up", depth - 1) + 1

    def up(depth: int) -> int:
        threads.add(threading.current_thread().name)
        return depth if depth == 0 else pair.call("down", depth - 1) + 1

    pair.host_owner.functions["up"] = up
    pair.serve(down=down)
    assert pair.call("down", 60) == 60
    assert threads == {"guest", threading.current_thread().name}


def test_too_deep_nesting_costs_the_call_and_not_the_lane(pair: Pair) -> None:
    """Nesting without end is a RecursionError in the caller, and the lane serves the next call."""
    pair.host_owner.functions["up"] = lambda: pair.call("down")
    pair.serve(down=lambda: pair.call_back("up"), still=lambda: "here")
    with pytest.raises((RecursionError, LookupError), match=r"RecursionError|recursion"):
        pair.call("down")
    assert pair.call("still") == "here"


def test_value_that_cannot_travel_leaves_the_lane_usable(pair: Pair) -> None:
    """An argument or a result that can't be encoded is an error of that call alone."""
    pair.serve(make=object, echo=lambda x: x)
    with pytest.raises(MarshalError):
        pair.call("echo", object())
    with pytest.raises(LookupError, match="MarshalError"):
        pair.call("make")
    assert pair.call("echo", 5) == 5


def test_two_large_messages_that_meet_do_not_block_each_other(pair: Pair) -> None:
    """Where both sides write more than the pipes hold at the same time, both get through: a writer also takes in."""
    large = b"x" * 60_000
    told = threading.Event()
    heard: list[bytes] = []

    def take_late(data: bytes) -> None:
        heard.append(data)

    def answer_large() -> bytes:
        told.wait(JOIN_S)
        return large

    pair.serve(answer=answer_large, take=take_late)

    # The call is under way on the wire when the host tells something large: as a late answer would.
    data = pair.host.conversation.ask(1, "answer", (), None)
    pair.host._send(data, None)
    told.set()
    for _ in range(4):
        pair.host.tell(1, "take", (large,), None)
    answer = pair.host.conversation.hear(pair.host._receive(None))
    assert answer is not None
    assert answer[1] == large
    pair.call("take", b"last")
    assert heard == [large, large, large, large, b"last"]


def test_one_way_call_returns_at_once_and_keeps_its_order(pair: Pair) -> None:
    """O10: A call that is only told returns before it is served; a later call on the same lane comes after it."""
    begin, order = threading.Event(), []

    def first() -> None:
        begin.wait(JOIN_S)
        order.append("first")

    pair.serve(first=first, second=lambda: order.append("second"))
    pair.host.tell(1, "first", (), None)
    assert order == []
    begin.set()
    pair.call("second")
    assert order == ["first", "second"]


def test_exception_of_a_one_way_call_goes_to_the_owner(pair: Pair) -> None:
    """O10: What a one-way call raises reaches the owner over there, and nobody else."""
    pair.serve(broken=lambda: 1 / 0, good=lambda: "fine")
    pair.host.tell(1, "broken", (), None)
    assert pair.call("good") == "fine"
    assert [(name, type(error)) for name, error in pair.guest_owner.not_heard] == [("broken", ZeroDivisionError)]


def test_one_way_call_that_can_not_be_sent_leaves_the_lane_usable(pair: Pair) -> None:
    """An argument that can't travel is a MarshalError here; a pipe that is full until the deadline is a CallTimeout."""
    pair.serve(take=lambda what: len(what))
    with pytest.raises(MarshalError):
        pair.host.tell(1, "take", [object()], None, {"logical": 7})
    assert pair.host.logical == 0  # the peer has not heard who speaks
    assert pair.call("take", "four") == 4
    with pytest.raises(CallTimeout, match="before take\\(\\) could be sent"):
        pair.host.tell(1, "take", [bytes(1 << 24)], None, deadline=time.monotonic() - 1)


def test_answer_while_no_call_is_open_breaks_the_rules(pair: Pair) -> None:
    """Bad input: a side that serves, and reads an answer, raises ProtocolError and closes the lane."""
    pair.serve()
    pair.host._send(reply_frame(Codec(), 1, "unasked"), None)
    with pytest.raises(LaneClosed):
        pair.host._receive(None)
    pair.end()
    assert isinstance(pair.failure, ProtocolError)


def test_time_out_of_the_outermost_call_closes_the_lane(pair: Pair) -> None:
    """The outermost call whose time is up raises CallTimeout; the peer is told to stop, and the lane is never used
    again.
    """
    release = threading.Event()
    pair.serve(wait=lambda: release.wait(JOIN_S))
    with pytest.raises(CallTimeout, match=r"wait\(\)"):
        pair.call("wait", seconds=0.05)
    assert pair.host.closed
    assert pair.host_owner.interrupted == [1]
    with pytest.raises(CallCancelled):
        pair.call("wait")
    release.set()


def test_time_out_of_a_nested_call_leaves_the_outer_call_alone(pair: Pair) -> None:
    """LIMITS 1b: An inner time-out does not destroy the outer call; it waits until the peer has unwound."""
    stop = threading.Event()
    interrupt = pair.host_owner.interrupt

    def interrupt_and_stop(lane: CallLane, number: int, name: str) -> Asked | None:
        stop.set()
        return interrupt(lane, number, name)

    pair.host_owner.interrupt = interrupt_and_stop  # type: ignore[method-assign]  # what a real guest does when told

    def up() -> str:
        with pytest.raises(CallTimeout):
            pair.call("wait", seconds=0.05)
        return "went on"

    pair.host_owner.functions["up"] = up
    pair.serve(down=lambda: pair.call_back("up"), wait=lambda: stop.wait(JOIN_S), still=lambda: "here")
    assert pair.call("down") == "went on"
    assert pair.call("still") == "here"


def test_nested_call_that_does_not_stop_loses_the_lane_after_the_grace(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nested call that goes on after its time-out and the grace period takes the calls around it with it, and says
    so.
    """
    monkeypatch.setattr(call_lane, "GRACE_S", 0.1)
    release = threading.Event()

    def up() -> None:
        with pytest.raises(CallTimeout):
            pair.call("wait", seconds=0.02)

    pair.host_owner.functions["up"] = up
    pair.serve(down=lambda: pair.call_back("up"), wait=lambda: release.wait(JOIN_S))
    with pytest.raises(CallCancelled, match="did not stop within"):
        pair.call("down")
    release.set()


def test_late_answer_to_the_guest_reaches_nobody(pair: Pair) -> None:
    """A nested call of a guest whose time is up is abandoned; its answer comes later, and is given to no other call."""
    go_on = threading.Event()

    def up() -> str:
        go_on.wait(JOIN_S)
        return "late"

    def down() -> str:
        with pytest.raises(CallTimeout):
            pair.call_back("up", seconds=0.02)
        go_on.set()
        return f"{pair.call_back('again')} in time"

    pair.host_owner.functions.update(up=up, again=lambda: "another")
    pair.serve(down=down, still=lambda: "here")
    assert pair.call("down") == "another in time"
    assert pair.call("still") == "here"


def test_message_that_is_cut_off_by_its_deadline_loses_the_lane(pair: Pair) -> None:
    """S27: A message of which a part was sent when its time was up is never followed by another: the lane is over."""
    with pytest.raises(CallTimeout):
        pair.call("nobody reads", b"x" * 200_000, seconds=0.05)
    assert pair.host.closed


def test_large_message_after_one_free_page_does_not_hang(pair: Pair) -> None:
    """LIMITS 1b: POLLOUT promises one page; 20 kB and more still leave within the deadline or not at all."""
    pair.serve(size=len)
    for size in (4096, 20_000, 65_536, 300_000):
        assert pair.call("size", b"x" * size, seconds=JOIN_S) == size


def interrupted_by(error: BaseException) -> Callable[..., Any]:
    """A function that raises, in the place of one that would wait."""

    def raise_it(*args: Any) -> Any:
        raise error

    return raise_it


def test_keyboard_interrupt_between_write_and_read_breaks_the_lane_alone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyboardInterrupt after the request was sent goes on upwards; the peer is told, and the lane closed."""
    pair.serve(wait=lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(CallLane, "_listen", interrupted_by(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            pair.call("wait")
    assert pair.host.closed
    assert pair.host_owner.interrupted == [1]
    with pytest.raises(CallCancelled, match="KeyboardInterrupt"):
        pair.call("wait")


def test_time_out_error_of_a_signal_handler_is_not_taken_for_the_deadline(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TimeoutError that a signal handler of the user's raises in the middle of a call arrives as it is."""
    error = TimeoutError("alarm")
    monkeypatch.setattr(CallLane, "_listen", interrupted_by(error))
    with pytest.raises(TimeoutError, match="alarm") as caught:
        pair.call("anything")
    assert caught.value is error


def test_keyboard_interrupt_in_a_call_back_belongs_to_this_side(pair: Pair) -> None:
    """A KeyboardInterrupt in a call-back does not travel: it ends the calls of this thread."""

    def up() -> None:
        raise KeyboardInterrupt

    pair.host_owner.functions["up"] = up
    pair.serve(down=lambda: pair.call_back("up"))
    with pytest.raises(KeyboardInterrupt):
        pair.call("down")
    assert pair.host.closed


def broken_soon(pair: Pair) -> threading.Thread:
    """Break the lane from another thread once a thread waits on it."""

    def break_it() -> None:
        deadline = time.monotonic() + JOIN_S
        while not pair.host.calling and time.monotonic() < deadline:
            time.sleep(0.001)
        pair.host.break_with(lambda: DomainUnloaded("unloaded"))

    thread = threading.Thread(target=break_it)
    thread.start()
    return thread


def test_break_wakes_a_thread_that_waits(pair: Pair) -> None:
    """LIMITS 1b: A close does not wake a blocked read; a break does, also where others hold the ends of the pipes."""
    held = [os.dup(fd) for fd in (*pair._guest_end, *pair._host_end)]
    release = threading.Event()
    pair.serve(wait=lambda: release.wait(JOIN_S))
    thread = broken_soon(pair)
    begun = time.monotonic()
    try:
        with pytest.raises(DomainUnloaded):
            pair.call("wait")
        assert time.monotonic() - begun < 5
        assert pair.host.closed
    finally:
        release.set()
        pair.guest.break_with(lambda: DomainUnloaded("unloaded"))
        thread.join(JOIN_S)
        for fd in held:
            os.close(fd)


def test_break_wakes_a_thread_that_writes(pair: Pair) -> None:
    """A thread that waits for room in the pipe is woken as well."""
    thread = broken_soon(pair)
    with pytest.raises(DomainUnloaded):
        pair.call("nobody reads", b"x" * 200_000)
    thread.join(JOIN_S)


def test_break_in_the_middle_of_a_write_tells_its_cause(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the peer has gone when a call is written, the error of the lane keeps the cause that it has."""
    error = DomainUnloaded("unloaded")
    error.__cause__ = FileNotFoundError("why")

    def gone(*_: object) -> int:
        pair.host.break_with(lambda: error)
        raise BrokenPipeError

    monkeypatch.setattr(frame_lane, "_write", gone)
    with pytest.raises(DomainUnloaded) as caught:
        pair.call("anything")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_break_of_an_idle_lane_closes_it_at_once(pair: Pair) -> None:
    """A lane on which no thread is gets closed by whoever breaks it, and raises the given error from then on."""
    pair.host.break_with(lambda: DomainUnloaded("unloaded"))
    assert pair.host.closed
    with pytest.raises(DomainUnloaded):
        pair.call("anything")
    with pytest.raises(DomainUnloaded):
        pair.host.tell(1, "anything", (), None)


def test_break_leaves_the_descriptor_of_a_watched_lane_to_its_poller(pair: Pair) -> None:
    """A lane that a poller has stays open when it is broken; it becomes readable, and who serves it closes it."""
    pair.host.watched = True
    pair.host.break_with(lambda: DomainUnloaded("unloaded"))
    assert not pair.host.closed
    with pytest.raises(DomainUnloaded):
        pair.host.serve_one()
    assert pair.host.closed


def test_end_of_the_peer_is_told_from_a_break(pair: Pair) -> None:
    """A peer that goes away is LaneClosed for who waits, and the end for who serves."""
    pair.guest.close()
    with pytest.raises(LaneClosed):
        pair.call("anything")
    other = Pair()
    other.host.close()
    assert other.guest.serve_one() is False
    other.end()


def test_rule_broken_by_the_peer_ends_the_lane(pair: Pair) -> None:
    """An answer that nobody waits for is a protocol error, for who calls and for who serves."""
    unasked = pair.host.conversation.reply(7, None)
    pair.host._send(unasked, None)
    with pytest.raises(ProtocolError, match="nobody waits"):
        pair.guest.call(1, "anything", (), None)
    assert pair.guest.closed
    with pytest.raises((ProtocolError, LaneClosed)):
        pair.host.call(1, "anything", (), None)


def test_forgotten_lane_closes_its_descriptors() -> None:
    """A lane that nobody holds, such as that of a thread that has ended, closes its descriptors by itself."""
    host, guest = lane_pair()
    lane = CallLane(host, Conversation(Codec()), Owner(), 0)
    del lane
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(host.reader)
    guest.close()
