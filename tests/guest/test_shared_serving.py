"""`cloister.guest.shared`, with a peer that the test makes: what crosses each other, and what a broken host does."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from cloister.errors import ProtocolError
from cloister.guest import shared as shared_module
from cloister.guest.coroutines import Coroutines
from cloister.guest.host import HostPeer
from cloister.guest.interrupts import Interrupted
from cloister.guest.lent import Lent
from cloister.guest.shared import SharedServing
from cloister.guest.threads import Threads
from cloister.lanes.call_frames import Call
from cloister.pipes.duplex import LaneEnd, lane_pair
from cloister.wire import frames
from cloister.wire.messages import Kind

LIMIT_S = 30


class Served(NamedTuple):
    """A shared lane that a thread serves."""

    host: LaneEnd
    serving: SharedServing
    peer: HostPeer
    threads: Threads


@pytest.fixture
def served() -> Iterator[Served]:
    """A shared lane whose serving nobody has begun; what was begun ends with the test."""
    host, guest = lane_pair()
    peer = HostPeer("guest", {}, None, None, Threads())
    serving = SharedServing(peer, 1, guest)
    yield Served(host, serving, peer, peer.threads)
    host.close()
    if not serving._left:
        serving._leave()
    peer.threads.wait_ended()


def test_cancel_reaches_a_call_that_becomes_a_coroutine_meanwhile(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is handed to the loop between two steps of its cancel is cancelled there."""
    serving, peer = served.serving, served.peer
    cancelled: list[bool] = []

    class Begun:
        def cancel(self) -> None:
            cancelled.append(True)

    monkeypatch.setattr(peer.coroutines, "start", lambda *args: Begun())
    me = Lent(1, serving._pool, serving)
    call = Call(1, 0, "f", [], {}, {}, False)

    class HandsOver(dict[int, Any]):
        def get(self, number: int, default: Any = None) -> Any:
            found = super().get(number, default)
            if found is me:
                serving._hand_over(call, None, contextvars.copy_context())
            return found

    serving._heard = 1
    serving._running = HandsOver({1: me})
    serving.interrupt(1)
    assert cancelled
    serving._over(1)
    assert not serving._told


def test_cancel_of_a_call_that_is_over_leaves_nothing(served: Served) -> None:
    """Who stops a call that has ended, or ends meanwhile, is not remembered for it."""
    serving = served.serving
    serving._heard = 2
    serving.interrupt(1)
    me = Lent(1, serving._pool, serving)

    class Ends(dict[int, Any]):
        def get(self, number: int, default: Any = None) -> Any:
            return super().pop(number, default)

    serving._running = Ends({2: me})
    serving.interrupt(2)
    assert not serving._told


def test_coroutine_that_is_over_at_once_does_not_run_for_ever(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose task ends while it is being noted counts as over."""
    serving, peer = served.serving, served.peer
    told: list[Callable[[Any, BaseException | None], None]] = []
    monkeypatch.setattr(peer.coroutines, "start", lambda coroutine, context, name, done: told.append(done))

    class EndsBehind(dict[int, Any]):
        def __contains__(self, number: object) -> bool:
            found = super().__contains__(number)
            if told:
                told.pop()(None, None)
            return found

    serving._running = EndsBehind({1: Lent(1, serving._pool, serving)})
    serving._hand_over(Call(1, 0, "f", [], {}, {}, False), None, contextvars.copy_context())
    assert serving.running == []


def test_interruption_on_the_way_to_the_host_does_not_change_the_count(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is interrupted before its thread counts as away does not count as come back either."""
    serving = served.serving
    pool = serving._pool
    me = Lent(1, pool, serving)

    def torn() -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(pool, "leave", torn)
        with pytest.raises(Interrupted):
            me.leave()
    me.come_back()
    assert pool._away == 0
    me.leave()
    assert pool._away == 1
    me.come_back()
    assert pool._away == 0


def test_lane_that_nobody_reads_is_read_again(served: Served) -> None:
    """Where the reader left and the job for the next one was lost, who stands by finds somebody."""
    serving, threads = served.serving, served.threads
    read = threading.Event()
    begin: Callable[[], None] = serving._read_on

    def read_on() -> None:
        read.set()
        begin()

    serving._read_on = read_on  # type: ignore[method-assign]  # it notes that it was begun
    threads.start(serving._stand_by, "stands-by")
    try:
        assert read.wait(LIMIT_S)
    finally:
        served.host.close()
        serving._end_here()


def test_part_of_the_loops_thread_waits_for_no_pipe(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a coroutine tells before its answer does not hold up the loop where the host does not read."""
    serving = served.serving
    serving._out.put([bytes(300_000)])
    assert serving._out.stuck
    monkeypatch.setattr(Coroutines, "here", property(lambda coroutines: True))
    over = threading.Event()

    def tell() -> None:
        serving.tell_part(1, "part")
        over.set()

    thread = threading.Thread(target=tell)
    thread.start()
    told = over.wait(LIMIT_S)
    serving._out.close()
    thread.join(LIMIT_S)
    assert told


def test_host_that_breaks_the_rules_is_reported(served: Served) -> None:
    """A frame that has no place on a shared lane ends it with an event, and with no thread that dies of it."""
    serving, peer = served.serving, served.peer
    reported: list[BaseException] = []
    died: list[Any] = []
    hook, threading.excepthook = threading.excepthook, died.append
    try:
        peer.report = lambda name, error: reported.append(error)
        thread = served.threads.start(serving.serve, "serves")
        os.write(served.host.writer, b"".join(bytes(piece) for piece in frames.serialize(int(Kind.REPLY), b"\x90")))
        thread.join(LIMIT_S)
        served.threads.wait_ended()
    finally:
        threading.excepthook = hook
    assert [type(error) for error in reported] == [ProtocolError]
    assert not died
    assert not thread.is_alive()


def test_who_stands_by_looks_seldom_where_it_is_in_vain(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While every thread is in a call and nobody can read on, the time between two looks grows to its bound."""
    serving = served.serving
    waited: list[float] = []

    def wait(seconds: float | None) -> None:
        assert seconds is not None
        clock[0] += seconds
        waited.append(seconds)
        serving._ended = len(waited) > 10

    clock = [0.0]
    with monkeypatch.context() as patch:
        patch.setattr(serving._watch, "wait", wait)
        patch.setattr(shared_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        patch.setattr(serving, "_reader", None)
        patch.setattr(type(serving._pool), "has_jobs", True)
        serving._stand_by()
    assert waited[0] == shared_module.LOOK_S
    assert waited[-1] == shared_module.IN_VAIN_LOOK_S
