"""The threads of a shared lane in a guest: few where jobs are short, enough where they wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cloister.guest.pool import Pool

LIMIT_S = 20


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool of two threads."""
    made = Pool(2, 1000, "test-pool")
    yield made
    made.close()
    for thread in threading.enumerate():
        if thread.name == "test-pool":
            thread.join(LIMIT_S)


def look_until(pool: Pool, done: threading.Event) -> None:
    """Do what the reading thread of a lane does, until something has come about."""
    for _ in range(LIMIT_S * 1000):
        if done.wait(0.001):
            return
        pool.look()
    raise AssertionError("it did not come about")


def test_short_jobs_are_done_by_one_thread(pool: Pool) -> None:
    """A row of jobs that wait for nothing calls no further thread, for threads of one interpreter take turns."""
    begin, done = threading.Event(), threading.Event()
    seen: list[int] = []
    pool.run(lambda: (begin.wait(LIMIT_S), None)[1])
    for _ in range(500):
        pool.run(lambda: seen.append(threading.get_ident()))
    pool.run(done.set)
    begin.set()
    assert done.wait(LIMIT_S)
    assert len(seen) == 500
    assert len(set(seen)) == 1


def test_a_job_that_waits_for_the_next_one_gets_it(pool: Pool) -> None:
    """A further thread is called where no job is taken, so a job may wait for one that came after it."""
    told, done = threading.Event(), threading.Event()

    def wait() -> None:
        if told.wait(LIMIT_S):
            done.set()

    pool.run(wait)
    pool.run(told.set)
    look_until(pool, done)


def test_no_more_threads_than_its_size_are_called(pool: Pool) -> None:
    """With as many at work as there may be, there is nothing to look for, and the next job waits its turn."""
    both, release, done = threading.Barrier(3), threading.Event(), threading.Event()

    def hold() -> None:
        both.wait(LIMIT_S)
        release.wait(LIMIT_S)

    pool.run(hold)
    pool.run(hold)
    while both.n_waiting < 2:
        pool.look()
    both.wait(LIMIT_S)
    pool.run(done.set)
    assert not pool.look()
    assert not done.is_set()
    release.set()
    assert done.wait(LIMIT_S)


def test_idle_threads_are_used_again(pool: Pool) -> None:
    """A thread that has nothing to do takes the next job; none is begun for it."""
    seen: list[int] = []
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            seen.append(threading.get_ident())
            done.set()

        pool.run(job)
        look_until(pool, done)
    assert len(set(seen)) <= 2
