"""What comes in the middle of a call or a submit and calls itself: finalizers, reducers, done-callbacks."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister import calling
from cloister.domain import channel
from cloister.domain.open_lanes import OpenLanes
from cloister.errors import DeadlockDetected, DomainCrashed
from cloister.lanes import shared_lane
from cloister.lanes.ledger import Ledger
from cloister.lanes.numbered import Numbered
from cloister.lanes.sending import Sending
from cloister.pipes import duplex

Start = Callable[..., cloister.Domain]
JOIN_S = 20.0


def test_finalizers_may_submit_in_the_middle_of_a_submit(start: Start) -> None:
    """Finalizers that the collector runs anywhere submit, call and tell; calls keep their order, and none is torn."""
    domain = start()
    counter = domain.create("collections:Counter")
    finalized: list[Any] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if len(finalized) % 2:
                finalized.append(domain.submit("operator:add", len(finalized), 1))
            else:
                finalized.append(cloister.one_way(counter.update)("a"))

    results: list[int] = []

    def work() -> None:
        while time.monotonic() < until or len(finalized) <= 20:
            Cycle()
            future = domain.submit("operator:add", 1, 1)
            late = domain.with_options(timeout=30).submit("operator:add", bytes(70_000), b"")
            results.append(future.result(JOIN_S))
            results.append(len(late.result(JOIN_S)))
            Cycle()
            results.extend(domain.map("operator:neg", [1, 2]))

    until = time.monotonic() + 0.6
    workers = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    threshold = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(JOIN_S)
            assert not worker.is_alive()
    finally:
        gc.set_threshold(*threshold)
    assert set(results) == {2, 70_000, -1, -2}
    gc.collect()
    assert len(finalized) > 20
    for future in filter(None, finalized):
        future.result(JOIN_S)


def test_submit_in_the_worst_moment_of_a_submit_comes_after_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a finalizer submits after a call was numbered and before it was written is written after it."""
    domain = start()
    domain.submit("operator:add", 0, 0).result(JOIN_S)
    inner: list[Any] = []

    class Disturbed(Numbered):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            if not inner:
                inner.append(None)
                inner[0] = domain.submit("operator:add", 20, 1)

    monkeypatch.setattr(shared_lane, "Numbered", Disturbed)
    assert domain.submit("operator:add", 10, 1).result(JOIN_S) == 11
    assert inner[0].result(JOIN_S) == 21


def test_finalizers_may_call_while_lanes_are_opened(start: Start) -> None:
    """New threads open lanes while the collector runs finalizers that call, too: nobody waits for himself."""
    domain = start()

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            called.append(domain.call("operator:add", 1, 1))

    def work() -> None:
        Cycle()
        domain.call("operator:add", 1, 1)

    called: list[int] = []
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(60):
            worker = threading.Thread(target=work, daemon=True)
            worker.start()
            worker.join(JOIN_S)
            assert not worker.is_alive()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(called) >= 50


def test_finalizer_in_the_middle_of_opening_a_lane_opens_one_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer that the collector runs while a lane is on its way to the guest calls on a lane of its own."""
    domain = start()
    original = duplex.send_with_descriptors
    results: list[int] = []

    def interrupted(*args: Any) -> int:
        monkeypatch.setattr(channel, "send_with_descriptors", original)
        results.append(domain.with_options(timeout=JOIN_S).call("operator:add", 1, 1))
        sent = original(*args)
        results.append(domain.with_options(timeout=JOIN_S).call("operator:add", 1, 2))
        return sent

    def work() -> None:
        results.append(domain.call("operator:add", 1, 3))

    domain.call("operator:add", 1, 1)  # the first lane is there from the start
    monkeypatch.setattr(channel, "send_with_descriptors", interrupted)
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(2 * JOIN_S)
    assert results == [2, 3, 4]


def test_finalizer_that_gets_the_main_thread_leaves_another_one_for_the_lane_that_is_opened(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lanes never wait for the guest's main thread, where a finalizer calls while it is decided which gets it."""
    domain = start()
    original = OpenLanes.new_number
    names: list[str] = []

    def ask() -> None:
        names.append(domain.eval("__import__('threading').current_thread().name"))

    def interrupted(self: OpenLanes) -> int:
        monkeypatch.setattr(OpenLanes, "new_number", original)
        ask()
        return original(self)

    for disturbed in (False, True):  # the lane of the first thread has the main thread, and gives it back
        if disturbed:
            monkeypatch.setattr(OpenLanes, "new_number", interrupted)
        worker = threading.Thread(target=ask, daemon=True)
        worker.start()
        worker.join(JOIN_S)
    assert names[:2] == ["MainThread", "MainThread"]
    assert names[2].startswith("cloister-lane-")  # and not on a thread that comes when the main one does not


def test_finalizer_that_calls_a_domain_with_one_lane_is_refused_while_it_is_opened(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `max_concurrency=1` a finalizer in the middle of a call gets DeadlockDetected, whatever the moment."""
    domain = start(max_concurrency=1)
    rack: Any = domain._life.peer._rack
    refused: list[BaseException] = []
    original = rack._open

    def interrupted() -> Any:
        try:
            domain.call("operator:add", 1, 1)
        except DeadlockDetected as error:
            refused.append(error)
        return original()

    monkeypatch.setattr(rack, "_open", interrupted)
    view = domain.with_options(timeout=JOIN_S)
    assert view.call("operator:add", 1, 2) == 3
    assert len(refused) == 1
    assert view.call("operator:add", 1, 3) == 4


def test_code_in_the_middle_of_a_submit_may_wait_for_another(
    domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finalizer may run while a call is encoded or written. What it submits is answered while it waits for it, and
    so is what was submitted before."""
    earlier: list[concurrent.futures.Future[Any]] = []
    seen: list[Any] = []
    inside = threading.local()

    def finalizer() -> None:
        if not getattr(inside, "now", False):
            inside.now = True
            seen.append(earlier[-1].result(JOIN_S))
            seen.append(domain.submit("operator:add", 1, 1).result(JOIN_S))
            inside.now = False

    def in_front_of(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            finalizer()
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    for owner, name in [(Ledger, "encode"), (Ledger, "until"), (Sending, "_write_only")]:
        with monkeypatch.context():
            if name == "_write_only":
                monkeypatch.setattr(shared_lane, "BURST_S", 0.0)
            domain.submit("operator:add", 1, 1)
            earlier.append(domain.submit("errands:sleep", 0.02))  # it is only queued
            in_front_of(owner, name)
            with calling.timeout(JOIN_S):
                assert domain.submit("operator:add", 2, 2).result(JOIN_S) == 4
            monkeypatch.undo()
        assert seen == [0.02, 2]
        seen.clear()


def test_finalizer_on_the_reading_thread_may_wait(domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer that runs while an answer is decoded gets the answer of what it submits."""
    real, seen = Ledger.read, []

    def read(self: Any, *args: Any) -> Any:
        monkeypatch.undo()
        seen.append(domain.submit("operator:add", 1, 1).result(JOIN_S))
        return real(self, *args)

    domain.submit("operator:add", 0, 0).result(JOIN_S)
    monkeypatch.setattr(Ledger, "read", read)
    assert domain.submit("operator:add", 2, 2).result(JOIN_S) == 4
    assert seen == [2]


def test_done_callback_that_waits_for_another_call_is_told(domain: cloister.Domain) -> None:
    """A done-callback that waits for an answer which only its own thread can read gets DeadlockDetected, at once."""
    told: list[BaseException] = []
    finished = threading.Event()

    def wait(_: Any) -> None:
        for ask in (lambda: domain.submit("operator:add", 1, 1).result(), domain.submit("time:sleep", 0.01).exception):
            try:
                ask()
            except DeadlockDetected as error:
                told.append(error)
        finished.set()

    domain.submit("time:sleep", 0.05).add_done_callback(wait)
    assert finished.wait(JOIN_S)
    assert len(told) == 2
    assert "which reads its answer" in str(told[0])
    assert domain.submit("operator:add", 1, 1).result(JOIN_S) == 2


def test_end_of_a_domain_reaches_a_finalizer_that_waits_in_the_middle_of_a_submit(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the domain dies while a finalizer waits in the middle of a submit, all of it ends with the report."""
    domain = start()
    endless = domain.submit("time:sleep", 60)
    real, ends = Sending._write_only, []

    def write(self: Any, frame: bytes) -> None:
        monkeypatch.undo()
        domain.submit("os:_exit", 3)
        ends.append(endless.exception(JOIN_S))
        real(self, frame)

    monkeypatch.setattr(shared_lane, "BURST_S", 0.0)
    monkeypatch.setattr(Sending, "_write_only", write)
    monkeypatch.setattr(shared_lane, "BURST_S", 0.0)  # two calls so close would be written by the reading thread
    last = domain.submit("time:sleep", 60)
    ends.append(last.exception(JOIN_S))
    assert [type(end) for end in ends] == [DomainCrashed] * 2
    assert isinstance(ends[0], DomainCrashed)
    assert ends[0].report is not None
    assert len(ends[0].report.calls) == 3
