"""The threads of a shared lane in a guest: as many as there are jobs, up to a size, and used again."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cloister.guest.pool import Pool

LIMIT_S = 30


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool of two threads."""
    made = Pool(2, "test-pool")
    yield made
    made.close()
    for thread in threading.enumerate():
        if thread.name == "test-pool":
            thread.join(LIMIT_S)


def test_a_job_that_waits_for_the_next_one_gets_it(pool: Pool) -> None:
    """Each job has a thread at once, so a job may wait for one that came after it."""
    told, done = threading.Event(), threading.Event()

    def wait() -> None:
        if told.wait(LIMIT_S):
            done.set()

    pool.run(wait)
    pool.run(told.set)
    assert done.wait(LIMIT_S)


def test_no_more_threads_than_its_size_are_called(pool: Pool) -> None:
    """With as many at work as there may be, the next job waits its turn, also where somebody asks for help."""
    both, release, done = threading.Barrier(3), threading.Event(), threading.Event()

    def hold() -> None:
        both.wait(LIMIT_S)
        release.wait(LIMIT_S)

    pool.run(hold)
    pool.run(hold)
    both.wait(LIMIT_S)
    pool.run(done.set)
    pool.help()
    assert len([thread for thread in threading.enumerate() if thread.name == "test-pool"]) == 2
    assert not done.is_set()
    release.set()
    assert done.wait(LIMIT_S)


def test_thread_that_waits_for_the_host_does_not_count(pool: Pool) -> None:
    """Two jobs that have left for the host make room for a third one."""
    both, release, done = threading.Barrier(3), threading.Event(), threading.Event()

    def call_host() -> None:
        pool.leave()
        both.wait(LIMIT_S)
        release.wait(LIMIT_S)
        pool.come_back()

    pool.run(call_host)
    pool.run(call_host)
    both.wait(LIMIT_S)
    pool.run(done.set)
    assert done.wait(LIMIT_S)
    release.set()


def test_idle_threads_are_used_again(pool: Pool) -> None:
    """A thread that has nothing to do takes the next job; no more than the size are begun for jobs in a row."""
    seen: list[int] = []
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            seen.append(threading.get_ident())
            done.set()

        pool.run(job)
        assert done.wait(LIMIT_S)
    assert len(set(seen)) <= 2
