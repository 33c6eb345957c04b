"""The watcher: descriptors, clocks and jobs on one thread, which is there only while it is needed."""

from __future__ import annotations

import gc
import os
import selectors
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from cloister.levels.watcher import Watcher


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    """A watcher with one user."""
    made = Watcher()
    made.enter()
    yield made
    made.leave()
    assert made.wait_ended(5)


def test_jobs_run_in_order_on_the_watchers_thread(watcher: Watcher) -> None:
    """Jobs of any thread run one after the other, as they were given."""
    seen: list[object] = []
    done = threading.Event()
    for number in range(100):
        watcher.soon(lambda number=number: seen.append((number, watcher.here)))  # type: ignore[misc]  # the default binds it
    watcher.soon(done.set)
    assert done.wait(5)
    assert seen == [(number, True) for number in range(100)]
    assert not watcher.here


def test_timers_run_at_their_time_unless_cancelled(watcher: Watcher) -> None:
    """An earlier time comes first whatever the order of asking; a cancelled timer does not run."""
    seen: list[str] = []
    done = threading.Event()
    now = time.monotonic()
    watcher.at(now + 0.06, done.set)
    watcher.at(now + 0.04, lambda: seen.append("second"))
    late = watcher.at(now + 0.03, lambda: seen.append("never"))
    watcher.at(now + 0.02, lambda: seen.append("first"))
    late.cancel()
    assert done.wait(5)
    assert time.monotonic() >= now + 0.06
    assert seen == ["first", "second"]


def test_timer_that_is_cancelled_by_one_of_the_same_moment_does_not_run(watcher: Watcher) -> None:
    """Of two timers that are due together, the first may cancel the second."""
    seen: list[str] = []
    done = threading.Event()
    due = time.monotonic() + 0.05
    gate = threading.Event()
    watcher.soon(lambda: gate.wait(5))  # both are late by the time they can run
    first = watcher.at(due, lambda: second.cancel())
    second = watcher.at(due + 0.001, lambda: seen.append("never"))
    watcher.at(due + 0.002, done.set)
    while time.monotonic() < due + 0.01:
        time.sleep(0.005)
    gate.set()
    assert done.wait(5)
    assert seen == []
    assert first.action is None


def test_callback_that_raises_is_logged_and_the_rest_goes_on(
    watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    """S05: an exception in one callback does not end the thread that serves all domains."""
    done = threading.Event()
    watcher.soon(lambda: 1 // 0)
    watcher.soon(done.set)
    assert done.wait(5)
    assert "ZeroDivisionError" in caplog.text


def test_descriptor_is_watched_until_it_is_unwatched(watcher: Watcher) -> None:
    """A readable descriptor calls its action, again and again, and never after `unwatch`."""
    reader, writer = os.pipe()
    try:
        counted = threading.Semaphore(0)
        watcher.soon(lambda: watcher.watch(reader, selectors.EVENT_READ, counted.release))
        os.write(writer, b"x")
        for _ in range(3):
            assert counted.acquire(timeout=5)
        gone = threading.Event()
        for fd in (reader, reader, -1):
            watcher.soon(partial(watcher.unwatch, fd))
        watcher.soon(gone.set)
        assert gone.wait(5)
        while counted.acquire(timeout=0):
            pass
        after = threading.Event()
        watcher.soon(after.set)
        assert after.wait(5)
        assert not counted.acquire(timeout=0)
    finally:
        os.close(reader)
        os.close(writer)


def test_thread_is_there_while_there_are_users() -> None:
    """The thread starts with the first user and ends with the last, any number of times; descriptors go with it."""
    watcher = Watcher()
    for _ in range(3):
        before = len(os.listdir("/proc/self/fd"))
        watcher.enter()
        watcher.enter()
        watcher.leave()
        done = threading.Event()
        watcher.soon(done.set)
        assert done.wait(5)
        watcher.leave()
        assert watcher.wait_ended(5)
        assert len(os.listdir("/proc/self/fd")) == before


def test_job_that_comes_after_the_last_user_is_not_kept() -> None:
    """What a domain wants when it is gone is left out, and holds nothing until the next domain; `keep` keeps it."""
    watcher = Watcher()
    watcher.enter()
    watcher.leave()
    assert watcher.wait_ended(30)
    seen: list[str] = []
    done = threading.Event()
    watcher.soon(lambda: seen.append("soon"))
    watcher.hint(lambda: seen.append("hint"))
    watcher.soon(lambda: seen.append("kept"), keep=True)
    watcher.enter()
    watcher.soon(done.set)
    assert done.wait(30)
    watcher.leave()
    assert watcher.wait_ended(30)
    assert seen == ["kept"]


class Forgotten:
    """Asks for a job when it is collected, in whatever thread and at whatever moment that happens."""

    def __init__(self, watcher: Watcher, counted: threading.Semaphore) -> None:
        self.itself = self  # only the collector finds it
        self.watcher, self.counted = watcher, counted

    def __del__(self) -> None:
        self.watcher.soon(self.counted.release)
        self.watcher.at(0, self.counted.release)


def test_finalizer_may_ask_while_the_same_thread_does(watcher: Watcher) -> None:
    """A collection in the middle of `at` or `soon`, on the thread that holds the lock, deadlocks nothing."""
    counted = threading.Semaphore(0)
    before = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for _ in range(300):
            Forgotten(watcher, counted)
            watcher.at(0, Forgotten(watcher, counted).counted.release)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    for _ in range(1500):
        assert counted.acquire(timeout=5)
