"""Crews and queues: bounded threads, kept order, bounded waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from cloister.domain import crew as crews
from cloister.domain.crew import Crew, Queue
from cloister.levels.watcher import watcher
from tests.patience import wait_until


def test_crew_without_a_thread_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread to give, jobs wait, and run in their order when it has one."""
    crew, done = Crew(1, "test-starved"), threading.Event()
    refused = threading.Event()
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name == "test-starved" and not refused.is_set():
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    watcher.enter()
    seen: list[int] = []
    for number in range(3):
        crew.run(partial(seen.append, number))
    assert crew.starved
    refused.set()
    wait_until(lambda: not crew.starved)
    crew.run(done.set)
    assert done.wait(10)
    assert seen == [0, 1, 2]
    wait_until(lambda: not any(thread.name == "test-starved" for thread in threading.enumerate()))
    watcher.leave()
    assert watcher.wait_ended(10)


def test_crew_runs_at_most_its_size_at_once_and_its_threads_go() -> None:
    """Ten jobs on a crew of three: never more than three threads; all jobs are done, and the threads go."""
    crew = Crew(3, "test-crew")
    lock, inside, most = threading.Lock(), 0, 0
    done = threading.Semaphore(0)
    gate = threading.Event()

    def job() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        gate.wait(5)
        with lock:
            inside -= 1
        done.release()

    for _ in range(10):
        crew.run(job)
    wait_until(lambda: inside == 3)
    gate.set()
    for _ in range(10):
        assert done.acquire(timeout=5)
    assert most == 3
    wait_until(lambda: not any(thread.name == "test-crew" for thread in threading.enumerate()))


def test_crew_lends_its_jobs_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the interpreter is ending no thread starts: nothing is raised, and the jobs can be run here."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    crew, seen = Crew(2, "test-ending"), []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for number in range(3):
        crew.run(lambda number=number: seen.append(number))  # type: ignore[misc]  # the default binds it
    assert seen == []
    crews.run_all_here(5)
    assert seen == [0, 1, 2]


def test_queue_keeps_the_order_on_a_crew_of_many() -> None:
    """The jobs of one queue run one after the other, as they were put."""
    queue, seen = Queue(Crew(4, "test-order"), 10_000, 10_000), []
    for number in range(1000):
        assert queue.put(lambda number=number: seen.append(number))  # type: ignore[misc]  # the default binds it
    assert queue.wait_empty(5)
    assert seen == list(range(1000))


@pytest.mark.parametrize(("jobs", "size"), [(5, 1 << 20), (1000, 50)], ids=["by number", "by size"])
def test_queue_refuses_what_is_too_much_but_for_what_must_be(jobs: int, size: int) -> None:
    """Past the bound, in jobs or in size, `put` says no and counts; `always` is taken all the same."""
    queue, gate = Queue(Crew(1, "test-bound"), jobs, size), threading.Event()
    seen: list[int] = []
    queue.put(lambda: gate.wait(5))
    wait_until(lambda: not queue._jobs)
    taken = [queue.put(lambda: seen.append(1), 10) for _ in range(8)]
    assert taken == [True] * 5 + [False] * 3
    assert queue.dropped == 3
    assert queue.put(lambda: seen.append(2), 10, always=True)
    gate.set()
    assert queue.wait_empty(5)
    assert seen == [1] * 5 + [2]


def test_job_that_waits_for_its_own_queue_is_answered_at_once() -> None:
    """A handler that unloads its domain must not wait for itself."""
    queue = Queue(Crew(1, "test-self"), 10, 10)
    said: list[bool] = []
    queue.put(lambda: said.append(queue.wait_empty(5)))
    assert queue.wait_empty(5)
    assert said == [False]


def test_crew_of_a_forked_child_has_no_threads_of_its_parent() -> None:
    """After `begin_anew` nothing that waited is run, and new jobs get a thread, whatever the old state was."""
    crew, gate = Crew(1, "test-anew"), threading.Event()
    started = threading.Event()

    def hold() -> None:
        started.set()
        gate.wait(5)

    lost: list[int] = []
    crew.run(hold)
    assert started.wait(5)
    crew.run(lambda: lost.append(1))
    old: Callable[[], object] = crew._jobs.clear
    old()
    crew.begin_anew()
    done = threading.Event()
    crew.run(done.set)
    assert done.wait(5)
    gate.set()
    assert lost == []
