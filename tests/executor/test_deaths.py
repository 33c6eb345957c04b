"""Workers that die: who is told what, what runs again, and that the pool goes on."""

from __future__ import annotations

import itertools
import operator
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import CallCancelled, CallTimeout, DomainCrashed, StartFailed
from cloister.report import Reason

Make = Callable[..., cloister.DomainPoolExecutor]
Pool = cloister.DomainPoolExecutor
PATIENCE_S = 20.0


def kinds(results: list[Any]) -> list[str]:
    """A letter for each: a value, a crash, cancelled, a time-out."""
    letters: dict[type, str] = {DomainCrashed: "C", CallCancelled: "x", CallTimeout: "T"}
    return [letters.get(type(result), ".") for result in results]


def test_only_the_task_that_killed_its_worker_fails(pool: Pool) -> None:
    """A task that ends its process gets the report; those before, beside and after it are done."""
    futures: list[Future[Any]] = [pool.submit("chores:die_of", number, 10) for number in range(30)]
    assert wait(futures, PATIENCE_S).not_done == set()
    error = futures[10].exception()
    assert isinstance(error, DomainCrashed)
    assert error.report.reason is Reason.EXITED
    assert error.report.exit_code == 9
    assert [future.result() for future in futures[:10] + futures[11:]] == [*range(10), *range(11, 30)]


def test_report_of_a_segfault_names_it(make_pool: Make, marks: Path) -> None:
    """A task that dies of a signal gets the report with the signal and its stack."""
    pool = make_pool(1)
    error = pool.submit("chores:mark_and_die_of", 1, 1, str(marks)).exception(PATIENCE_S)
    assert isinstance(error, DomainCrashed)
    assert error.report.signal == signal.SIGSEGV
    if sys.version_info >= (3, 14) and "<freed thread state>" in error.report.stacks:
        pytest.skip(
            "the fault handler of Python 3.14 has taken a living thread for a freed one, and left its stack out"
        )
    assert "mark_and_die_of" in error.report.stacks


def test_item_of_a_chunk_that_kills_gets_the_crash_and_no_other(make_pool: Make, marks: Path) -> None:
    """Exactly the item that killed the worker gets the crash; of its unfinished neighbours none runs again."""
    pool = make_pool(1)
    results = list(
        pool.map("chores:mark_and_die_of", range(8), [5] * 8, [str(marks)] * 8, chunksize=8, return_exceptions=True)
    )
    assert kinds(results)[5:] == ["C", "x", "x"]
    assert kinds(results).count("C") == 1
    assert marks.read_text().split() == list("012345")
    assert all(isinstance(result.__cause__, DomainCrashed) for result in results if isinstance(result, CallCancelled))
    assert "before it had begun" in str(results[7])
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4


def test_results_of_slow_items_outlive_the_worker(make_pool: Make) -> None:
    """Results are told while later items run: those of items that take long are not lost with the worker."""
    pool = make_pool(1)
    results = list(pool.map("chores:tell_and_die_of", range(6), [4] * 6, chunksize=6, return_exceptions=True))
    assert results[:4] == [0, 1, 2, 3]
    assert kinds(results) == list("....Cx")


def test_idempotent_neighbours_run_again(make_pool: Make, marks: Path) -> None:
    """Where it was declared idempotent, all that has no result runs again but the item that killed the worker."""
    pool = make_pool(2).with_options(idempotent=True)
    results = list(
        pool.map("chores:mark_and_die_of", range(8), [5] * 8, [str(marks)] * 8, chunksize=8, return_exceptions=True)
    )
    assert kinds(results) == list(".....C..")
    assert [result for result in results if not isinstance(result, Exception)] == [0, 1, 2, 3, 4, 6, 7]
    assert marks.read_text().split().count("5") == 1


def test_every_item_of_an_idempotent_chunk_may_kill(make_pool: Make) -> None:
    """A chunk whose items kill one worker after the other comes to an end, each with its own report."""
    pool = make_pool(2)
    results = list(pool.map("os:_exit", range(4), chunksize=4, return_exceptions=True, idempotent=True))
    assert kinds(results) == ["C"] * 4
    codes = [result.report.exit_code for result in results if isinstance(result, DomainCrashed)]
    assert codes == [0, 1, 2, 3]


def test_items_run_once_where_chunks_and_deaths_meet(make_pool: Make, marks: Path) -> None:
    """Many chunks, some of them deadly: each item ends once, none runs twice, the order is kept."""
    pool = make_pool(2)
    deadly = {7, 30}
    results: list[Any] = []
    for size in (1, 4):
        marks.write_text("")
        results = list(
            pool.map("chores:mark_and_die_of", range(40), (n if n in deadly else -1 for n in itertools.count()),
                     [str(marks)] * 40, chunksize=size, return_exceptions=True)
        )  # fmt: skip
        assert [place for place, kind in enumerate(kinds(results)) if kind == "C"] == sorted(deadly)
        begun = [int(number) for number in marks.read_text().split()]
        assert len(begun) == len(set(begun))
        assert all(result == place for place, result in enumerate(results) if type(result) is int)
        if size == 1:
            assert kinds(results).count("x") == 0


@pytest.mark.slow
def test_random_kills_lose_no_future(make_pool: Make) -> None:
    """SIGKILL at random moments: every task ends once, with its result or the crash; the pool goes on."""
    chance = random.Random(5)
    pids: set[int] = set()
    pool = make_pool(2, on={cloister.events.Ready: lambda event: pids.add(event.pid)})
    futures = [pool.submit("chores:double_late", number, 0.002) for number in range(400)]
    results = pool.map("chores:double", range(4000), chunksize=100, return_exceptions=True, idempotent=True)
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(chance.uniform(0.01, 0.2)):
            for pid in list(pids):
                if chance.random() < 0.5:
                    pids.discard(pid)
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert wait(futures, PATIENCE_S).not_done == set()
        mapped = list(results)
    finally:
        stop.set()
        killer.join()
    for number, future in enumerate(futures):
        error = future.exception()
        assert error is None or type(error) is DomainCrashed
        assert error is not None or future.result() == 2 * number
    assert all(type(result) is DomainCrashed or result == 2 * place for place, result in enumerate(mapped))
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4


@pytest.mark.parametrize(
    "told", [[None], [[0, [5], {}], None], [None, [0, [5], {}]]], ids=["unasked", "begun", "told after it"]
)
@pytest.mark.parametrize("kind", ["task", "chunk"])
def test_worker_that_gives_back_what_it_must_not_is_ended(make_pool: Make, kind: str, told: list[Any]) -> None:
    """Work that a worker gives back unasked, or after results, goes to nobody else; the pool goes on."""
    pids: list[int] = []
    pool = make_pool(1, on={cloister.events.Ready: lambda event: pids.append(event.pid)})
    error: Any
    if kind == "task":
        error = pool.submit("hostile:tell_in_a_pool", 1, told).exception(PATIENCE_S)
    else:
        *_, error = pool.map("hostile:tell_in_a_pool", [1, 2], [told, []], chunksize=2, return_exceptions=True)
    crash = error.__cause__ if isinstance(error, CallCancelled) else error
    assert isinstance(crash, DomainCrashed)
    assert crash.report.reason is Reason.BAD_MESSAGE
    assert pool.submit(operator.neg, 1).result(PATIENCE_S) == -1
    assert len(pids) == 2


def test_worker_that_died_while_it_was_idle_is_replaced(make_pool: Make) -> None:
    """A worker that is killed between two tasks costs no task anything."""
    exited = threading.Event()
    pool = make_pool(1, on={cloister.events.Exited: lambda event: exited.set()})
    for _ in range(5):
        pid = pool.submit("chores:pid").result(PATIENCE_S)
        exited.clear()
        os.kill(pid, signal.SIGKILL)
        assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4
        assert exited.wait(PATIENCE_S)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_task_that_takes_too_long_ends_with_its_worker(make_pool: Make) -> None:
    """A task that is over its time gets CallTimeout with the report as its cause; the pool goes on."""
    pool = make_pool(1, task_timeout=0.3)
    first = pool.submit("chores:pid").result(PATIENCE_S)
    error = pool.submit("chores:loop_for_ever").exception(PATIENCE_S)
    assert isinstance(error, CallTimeout)
    assert isinstance(error, TimeoutError)
    assert isinstance(error.__cause__, DomainCrashed)
    assert error.__cause__.report is error.report
    assert error.report is not None
    assert error.report.reason is Reason.KILLED
    assert pool.submit("chores:pid").result(PATIENCE_S) != first


@pytest.mark.slow
def test_native_code_that_never_returns_has_a_limit_too(make_pool: Make) -> None:
    """A task that holds the interpreter lock for ever is over in time; with chunks that item alone gets CallTimeout."""
    pool = make_pool(2)
    error = pool.with_options(timeout=0.3).submit("chores:hold_the_lock").exception(PATIENCE_S)
    assert isinstance(error, CallTimeout)
    quick = pool.with_options(timeout=3.0, idempotent=True)  # for an item that starts a worker
    results = list(quick.map("chores:hold_of", range(6), [3] * 6, chunksize=6, return_exceptions=True))
    assert kinds(results) == list("...T..")


@pytest.mark.slow
def test_limit_is_for_each_item_and_not_for_the_chunk(make_pool: Make) -> None:
    """Items of a chunk that together take longer than the limit of each are done."""
    pool = make_pool(1, task_timeout=2.0)
    results = pool.map("chores:double_late", range(12), [0.2] * 12, chunksize=12)
    assert list(results) == [2 * number for number in range(12)]


def test_time_left_of_the_submitter_holds_for_its_tasks(make_pool: Make) -> None:
    """Within `cloister.timeout` a task has the time that is left there."""
    pool = make_pool(1)
    with cloister.timeout(0.3):
        future = pool.submit("chores:loop_for_ever")
        behind = pool.submit(pow, 2, 2)
    after = pool.submit(pow, 2, 3)
    assert isinstance(future.exception(PATIENCE_S), CallTimeout)
    assert isinstance(behind.exception(PATIENCE_S), CallTimeout)
    assert after.result(PATIENCE_S) == 8


def test_running_task_is_cancelled_by_asking(make_pool: Make) -> None:
    """A task that runs is cancelled at once; Python code stops when it is asked, and the worker stays."""
    pool = make_pool(1, kill_after=None)
    pid = pool.submit("chores:pid").result(PATIENCE_S)
    begun = threading.Event()
    future = pool.submit("chores:call_then_loop", begun.set)
    assert begun.wait(PATIENCE_S)
    assert future.cancel()
    assert future.cancelled()
    assert not future.running()
    assert pool.submit("chores:pid").result(PATIENCE_S) == pid


def test_task_that_does_not_stop_is_killed_after_the_grace(make_pool: Make, tmp_path: Path) -> None:
    """A cancelled task that swallows the request, or is in native code, ends with its worker after `kill_after`."""
    pool = make_pool(1, kill_after=0.1)
    for stubborn in ("swallow_everything", "hold_the_lock"):
        pid = pool.submit("chores:pid").result(PATIENCE_S)
        there = tmp_path / stubborn
        future = pool.submit(f"chores:{stubborn}", str(there))
        while not there.exists():
            threading.Event().wait(0.01)
        threading.Event().wait(0.1)
        assert future.cancel()
        assert pool.submit("chores:pid").result(PATIENCE_S) != pid


def test_killed_workers_end_everything(make_pool: Make) -> None:
    """`kill_workers` ends what runs with the crash, cancels what waits, and leaves nothing."""
    pool = make_pool(1)
    running = pool.submit("chores:swallow_everything")
    waiting = pool.submit(pow, 2, 2)
    while not running.running():
        threading.Event().wait(0.01)
    pool.kill_workers()
    error = running.exception(PATIENCE_S)
    assert isinstance(error, DomainCrashed)
    assert error.report.reason is Reason.KILLED
    assert waiting.cancelled()
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(pow, 1, 1)


def test_worker_that_is_done_before_its_kill_arrives_is_replaced(make_pool: Make) -> None:
    """A task that ends in the moment in which its worker is to be killed has its result; another worker is started."""
    pool = make_pool(1)
    begun, release = threading.Event(), threading.Event()

    def meet() -> bool:
        begun.set()
        return release.wait(PATIENCE_S)

    pid = pool.submit("chores:pid").result(PATIENCE_S)
    future = pool.submit("chores:call", meet)
    assert begun.wait(PATIENCE_S)
    for worker in pool._force.workers:
        worker.doomed, worker.late = True, worker.first  # as the watcher does, before it kills
    release.set()
    assert future.result(PATIENCE_S) is True
    assert pool.submit("chores:pid").result(PATIENCE_S) != pid


# -- starts ------------------------------------------------------------------------------------------------------------


def test_initializer_runs_in_every_worker(make_pool: Make) -> None:
    """The initializer has run, with its arguments, before the first task of each worker."""
    pool = make_pool(2, initializer="chores:begin", initargs=("x", 1))
    assert pool.submit("chores:started_with").result(PATIENCE_S) == ["x", 1]


def test_initializer_that_raises_breaks_the_pool_after_some_tries(make_pool: Make, marks: Path) -> None:
    """Workers that never start: the tasks get StartFailed with the reason, after a few tries and not for ever."""
    pool = make_pool(2, initializer="chores:refuse_to_begin", initargs=(str(marks),))
    futures = [pool.submit(operator.neg, number) for number in range(5)]
    for future in futures:
        error = future.exception(PATIENCE_S)
        assert isinstance(error, StartFailed)
        assert "no licence left" in str(error)
    with pytest.raises(StartFailed, match="broken"):
        pool.submit(pow, 2, 2)
    assert 3 <= len(marks.read_text().splitlines()) <= 6
    pool.shutdown()


def test_failure_that_passes_is_no_failure_of_the_pool(make_pool: Make, marks: Path) -> None:
    """Workers that do not start at first are tried again; the tasks wait for them."""
    pool = make_pool(1, initializer="chores:begin_once_marked", initargs=(str(marks), 2))
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4


def test_worker_that_dies_before_it_works_counts_as_not_started(make_pool: Make) -> None:
    """Workers that die as soon as they are ready do not respawn for ever: every task ends, one way or the other."""
    pool = make_pool(1, initializer="chores:die_soon_after_start")
    futures = [pool.submit("chores:double_late", 1, 1.0) for _ in range(3)]
    for future in futures:
        assert isinstance(future.exception(PATIENCE_S), DomainCrashed | StartFailed)


def test_worker_is_replaced_after_so_many_tasks(make_pool: Make) -> None:
    """`max_tasks_per_worker` gives a new process after so many tasks."""
    pool = make_pool(1, max_tasks_per_worker=2)
    pids = [pool.submit("chores:pid").result(PATIENCE_S) for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]


def test_idle_worker_is_let_go(make_pool: Make) -> None:
    """`idle_timeout` lets a worker go that has nothing to do; the next task has a new one."""
    exited = threading.Event()
    pool = make_pool(1, idle_timeout=0.1, on={cloister.events.Exited: lambda event: exited.set()})
    pid = pool.submit("chores:pid").result(PATIENCE_S)
    assert exited.wait(PATIENCE_S)
    assert pool.submit("chores:pid").result(PATIENCE_S) != pid
