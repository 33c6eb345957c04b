"""`cloister.lanes.numbered`: a future that makes its condition late, and is in everything else as others are."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from cloister.conditions import Condition
from cloister.lanes.numbered import Numbered, settle

LIMIT_S = 30


class Lane:
    """A lane that nobody reads."""

    number = 1

    def give_up(self, future: Numbered) -> bool:
        return not future.done()

    def check_wait(self, name: str) -> None:
        pass


def test_future_that_nobody_watches_is_done_without_a_condition() -> None:
    """What is complete before anybody waits never makes a lock, and gives its result and its exception."""
    done, failed = Numbered(Lane(), 1, "f"), Numbered(Lane(), 2, "f")
    error = ValueError("no")
    done.complete(3, None)
    failed.complete(None, error)
    assert (done.result(), done.exception(), done.done()) == (3, None, True)
    assert failed.exception() is error
    assert done._made is None
    done.complete(4, None)
    assert done.result() == 3
    assert not done.cancel()


def test_all_who_watch_are_told_once() -> None:
    """Threads that wait, done-callbacks, `wait` and `as_completed` hear of each future once, whenever they begin."""
    futures = [Numbered(Lane(), number, "f") for number in range(300)]
    watched: list[Future[Any]] = [*futures]
    heard: list[int] = []
    seen: list[Any] = []
    begin = threading.Barrier(4, timeout=LIMIT_S)

    def complete() -> None:
        begin.wait()
        for future in futures:
            future.complete(future.number, None)

    def add() -> None:
        begin.wait()
        for future in futures:
            future.add_done_callback(lambda future: heard.append(future.result()))

    def await_all() -> None:
        begin.wait()
        seen.extend(future.result(LIMIT_S) for future in futures)

    threads = [threading.Thread(target=target) for target in (complete, add, await_all)]
    for thread in threads:
        thread.start()
    begin.wait()
    each = [future.result() for future in concurrent.futures.as_completed(watched, LIMIT_S)]
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(each) == sorted(heard) == seen == list(range(300))
    assert not concurrent.futures.wait(watched, LIMIT_S).not_done


def test_cancel_tells_who_waits() -> None:
    """A cancelled future is over at once for those who wait for it and for its callbacks."""
    told: list[Future[Any]] = []
    future = Numbered(Lane(), 1, "f")
    future.when_done(told.append)
    assert future.cancel()
    assert told == [future]
    assert concurrent.futures.wait([future], LIMIT_S).done == {future}
    future.complete(1, None)
    assert future.cancelled()


def test_callback_that_would_end_the_thread_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """`sys.exit` in a done-callback does not end the thread that completes the future; it is logged."""
    future, watched = Numbered(Lane(), 1, "f"), Numbered(Lane(), 2, "g")
    for each in (future, watched):
        each.add_done_callback(lambda future: sys.exit(3))
    future.complete(1, None)
    watched.complete(None, ValueError("no"))
    assert future.result() == 1
    assert isinstance(watched.exception(), ValueError)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [SystemExit, SystemExit]


def test_callback_prepared_before_sending_may_exit(caplog: pytest.LogCaptureFixture) -> None:
    """The same holds for what was prepared before the call was sent, and for a future without a condition."""
    future = Numbered(Lane(), 1, "f")
    future.when_done(lambda future: sys.exit(3))
    future.complete(1, None)
    assert future.result() == 1
    assert len(caplog.records) == 1


def test_future_that_waits_for_a_finalizer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer in the middle of making a condition waits for other futures; those are completed meanwhile."""
    other, third = Numbered(Lane(), 2, "g"), Numbered(Lane(), 3, "h")
    make = Condition
    done: list[Any] = []

    def complete_others() -> None:
        other.complete(7, None)
        settle({3: third}, [[3, 8]])

    def make_and_wait() -> threading.Condition:
        monkeypatch.setattr("cloister.lanes.numbered.Condition", make)
        thread = threading.Thread(target=complete_others, daemon=True)
        thread.start()
        done.append((other.result(LIMIT_S), third.result(LIMIT_S)))
        thread.join(LIMIT_S)
        return make()

    future = Numbered(Lane(), 1, "f")
    monkeypatch.setattr("cloister.lanes.numbered.Condition", make_and_wait)
    future.add_done_callback(done.append)
    future.complete(1, None)
    assert done == [(7, 8), future]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_condition_that_is_made_while_the_answer_comes_is_told(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the outcome comes just before or just after the condition is there: all hear of it, once."""
    future = Numbered(Lane(), 1, "f")
    make = Condition
    told: list[Any] = []

    def make_late() -> threading.Condition:
        monkeypatch.setattr("cloister.lanes.numbered.Condition", make)
        if moment == "before":
            assert not settle({1: future}, [[1, 5]])
        return make()

    monkeypatch.setattr("cloister.lanes.numbered.Condition", make_late)
    future.add_done_callback(told.append)
    if moment == "after":
        assert settle({1: future}, [[1, 5]]) == [(future, 5)]
        future.complete(5, None)
    assert told == [future]
    assert concurrent.futures.wait([future], LIMIT_S).done == {future}
    future.complete(6, None)
    assert told == [future]
    assert future.result() == 5
