"""Calls on a shared lane that wait, are given up, or are told of at a bad moment."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import cloister
from cloister.guest.shared import MAX_THREADS, SharedServing
from cloister.lanes import shared_lane
from cloister.lanes.call_frames import Call
from cloister.lanes.numbered import Numbered

Start = Callable[..., cloister.Domain]
JOIN_S = 20.0


class Meddled(set[int]):
    """A set to which another thread adds whenever somebody goes through it."""

    def __iter__(self) -> Iterator[int]:
        for number in super().__iter__():
            self.add(number + 1_000_000)
            yield number


def test_cancels_that_come_while_a_row_is_taken_in_leave_the_lane_alone() -> None:
    """The control thread notes calls that are given up and not read yet, while the reader looks for those of a row."""
    serving = SharedServing.__new__(SharedServing)
    serving._heard, serving._waiting, serving._calls = 4, set(), deque()
    serving._unwanted = Meddled({6, 7, 90})
    serving._take_row([Call(number, 5, "f", [], {}, {}, False) for number in range(5, 9)])
    assert serving._waiting == {5, 8}
    assert serving._heard == 8
    assert 90 in serving._unwanted
    assert 6 not in serving._unwanted


def test_large_backlog_may_be_cancelled(start: Start) -> None:
    """20,000 calls that were not read over there are cancelled while others are; the lane goes on after that."""
    domain = start()
    holders = [domain.submit("errands:hold") for _ in range(MAX_THREADS + 8)]
    backlog = [domain.submit("operator:add", number, 1) for number in range(20_000)]
    assert all(future.cancel() for future in reversed(backlog))
    domain.call("errands:let_go")
    assert not concurrent.futures.wait(holders, timeout=JOIN_S).not_done
    assert domain.submit("operator:add", 1, 1).result(JOIN_S) == 2


def test_done_callback_of_a_cancelled_call_may_wait_for_its_lane(start: Start) -> None:
    """Where lanes are limited, the guest is told to stop the call before a done-callback asks for the only lane."""
    domain = start(max_concurrency=1)
    running = domain.submit("errands:python_loop")
    heard: list[int] = []
    running.add_done_callback(lambda _: heard.append(domain.call("operator:add", 1, 1)))
    deadline = time.monotonic() + JOIN_S
    while not domain.status().running and time.monotonic() < deadline:
        time.sleep(0.005)
    canceller = threading.Thread(target=running.cancel, daemon=True)
    canceller.start()
    canceller.join(JOIN_S)
    assert heard == [2]
    assert running.cancel()
    assert running.cancelled()


def test_call_is_sent_where_nobody_wakes_the_thread_again(domain: cloister.Domain) -> None:
    """Who held the lock for long goes away without a word: the reading thread still sends what waits."""
    domain.submit("operator:add", 1, 1).result(JOIN_S)
    submitted = domain.submit("operator:add", 1, 1)
    assert isinstance(submitted, Numbered)
    lane = submitted._lane
    assert isinstance(lane, shared_lane.SharedLane)
    done = threading.Event()
    with lane._sending.lock:
        future = lane.submit(0, "nothing", (), None)
        while not lane._sending.row:  # it came so late that it was sent at once
            future = lane.submit(0, "nothing", (), None)
        future.add_done_callback(lambda _: done.set())
        deadline = time.monotonic() + JOIN_S
        while not lane._again and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(2 * shared_lane.LOCK_S)
    assert done.wait(JOIN_S)
