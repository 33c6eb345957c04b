"""Work that a worker is given before it is done with the last: nobody may notice, but for the speed."""

from __future__ import annotations

import operator
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DeadlockDetected, DomainCrashed
from cloister.executor.worker import AHEAD_S, MOST_AHEAD
from tests.patience import wait_until

Make = Callable[..., cloister.DomainPoolExecutor]
Pool = cloister.DomainPoolExecutor
PATIENCE_S = 20.0


def warm(pool: Pool) -> None:
    """Let every worker be there, and taken to be so quick that it gets as much ahead as any."""
    while len(pool._force.workers) < pool._force.max_workers:
        assert wait([pool.submit(operator.neg, 1) for _ in range(20)], PATIENCE_S).not_done == set()
    for worker in pool._force.workers:  # what they have shown by now depends on what else the machine does
        worker.pace = AHEAD_S / MOST_AHEAD


class Gate:
    """A task that runs until it is opened; it waits here, in a thread of this process."""

    def __init__(self, pool: Pool) -> None:
        self._open, begun = threading.Event(), threading.Event()

        def meet() -> bool:
            begun.set()
            return self._open.wait(PATIENCE_S)

        self.future: Future[bool] = pool.submit("chores:call", meet)
        assert begun.wait(PATIENCE_S)

    def leave(self) -> None:
        """Let the thread here go whose worker is dead."""
        self._open.set()

    def open(self) -> None:
        """Let it end, and see that it does."""
        self._open.set()
        assert self.future.result(PATIENCE_S)


def sent_behind(pool: Pool) -> list[Any]:
    """What the workers have got and not begun."""
    return [work for worker in pool._force.workers for work in list(worker.queue)[1:] if work.number]


def test_quick_tasks_are_given_ahead_and_run_in_their_order(make_pool: Make, marks: Path) -> None:
    """A worker that is quick has its next tasks before it is done with the last; one worker begins them in order."""
    pool = make_pool(1)
    warm(pool)
    gate = Gate(pool)
    futures = [pool.submit("chores:note", str(marks), number) for number in range(50)]
    assert 1 <= len(sent_behind(pool)) < 50
    assert [future.running() for future in futures] == [False] * 50
    gate.open()
    assert wait(futures, PATIENCE_S).not_done == set()
    assert [int(number) for number in marks.read_text().split()] == list(range(50))


def test_what_waits_behind_a_long_task_goes_to_a_free_worker(make_pool: Make) -> None:
    """Tasks that were given ahead are taken back where the one before them takes long, and another worker does them."""
    pool = make_pool(2)
    warm(pool)
    gate = Gate(pool)
    futures = [pool.submit(operator.neg, number) for number in range(40)]
    assert [future.result(PATIENCE_S) for future in futures] == [-number for number in range(40)]
    assert not gate.future.done()
    gate.open()


def test_each_task_is_begun_once_and_the_deadly_ones_alone_fail(make_pool: Make, marks: Path) -> None:
    """Deaths in the middle of rows: what had not begun runs elsewhere, what was done stays, nothing runs twice."""
    pool = make_pool(2)
    deadly = set(range(17, 300, 53))
    futures = [
        pool.submit("chores:mark_and_die_of", number, number if number in deadly else -1, str(marks))
        for number in range(300)
    ]
    errors = {number: error for number, future in enumerate(futures) if (error := future.exception(PATIENCE_S))}
    assert set(errors) == deadly
    assert {type(error) for error in errors.values()} == {DomainCrashed}
    assert sorted(int(number) for number in marks.read_text().split()) == list(range(300))


def test_cancelled_task_that_was_given_ahead_never_begins(make_pool: Make, marks: Path) -> None:
    """`cancel` of a task that its worker has got: once the worker knows, it never begins; the one before it goes on."""
    pool = make_pool(1, kill_after=None)
    warm(pool)
    gate = Gate(pool)
    futures = [pool.submit("chores:note", str(marks), number) for number in range(8)]
    assert sent_behind(pool)
    cancelled = [future.cancel() for future in futures[::2]]
    assert cancelled == [True] * 4
    wait_until(lambda: not any(work.future in futures[::2] for work in sent_behind(pool)), PATIENCE_S)
    gate.open()
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4
    assert [int(number) for number in marks.read_text().split()] == [1, 3, 5, 7]


def test_task_that_is_cancelled_at_once_leaves_its_worker_free(make_pool: Make) -> None:
    """A cancel that meets a task between its sending and its begin: the worker goes on, also without any kill."""
    pool = make_pool(1, kill_after=None)
    pid = pool.submit("chores:pid").result(PATIENCE_S)
    for _ in range(300):
        pool.submit("chores:pid").cancel()
    assert pool.submit("chores:pid").result(PATIENCE_S) == pid


def test_limit_of_a_task_begins_when_it_does(make_pool: Make) -> None:
    """A task that is over its time ends with its worker; what waited there has lost none of its own, and is done."""
    pool = make_pool(1, task_timeout=0.5)
    warm(pool)
    late = pool.submit("chores:loop_for_ever")
    behind = [pool.submit("chores:double_late", number, 0.05) for number in range(5)]
    assert isinstance(late.exception(PATIENCE_S), CallTimeout)
    assert [future.result(PATIENCE_S) for future in behind] == [0, 2, 4, 6, 8]


def test_shutdown_cancels_what_was_given_ahead_and_lets_what_runs_end(make_pool: Make) -> None:
    """`shutdown(cancel_futures=True)` takes back what has not begun, and interrupts nothing."""
    pool = make_pool(1)
    warm(pool)
    gate = Gate(pool)
    futures = [pool.submit(operator.neg, number) for number in range(50)]
    assert sent_behind(pool)
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(work.called_back for work in sent_behind(pool))
    wait(futures, PATIENCE_S)
    assert all(future.cancelled() for future in futures)
    assert not gate.future.done()
    gate.open()
    pool.shutdown()


def test_worker_gets_no_more_ahead_than_it_is_to_do(make_pool: Make) -> None:
    """`max_tasks_per_worker` holds for what is given ahead, too."""
    pool = make_pool(1, max_tasks_per_worker=25)
    pids = [pool.submit("chores:pid") for _ in range(100)]
    assert sorted(Counter(pid.result(PATIENCE_S) for pid in pids).values()) == [25] * 4


def test_callback_may_wait_for_what_its_own_worker_does_next(make_pool: Make) -> None:
    """Where a worker has more to do, callbacks run on a thread of the pool's own; the worker's answers are read on."""
    pool = make_pool(1, name="named")
    warm(pool)
    gate = Gate(pool)
    later = pool.submit(operator.neg, 5)
    seen: list[tuple[str, int]] = []
    through = threading.Event()

    def look(_: Future[Any]) -> None:
        seen.append((threading.current_thread().name, later.result(PATIENCE_S)))
        through.set()

    gate.future.add_done_callback(look)
    gate.open()
    assert through.wait(PATIENCE_S)
    assert seen == [("cloister-named-callbacks", -5)]


def test_callback_that_waits_holds_up_no_other(make_pool: Make) -> None:
    """A callback that takes long is passed by those of other tasks, and one that ends a thread harms nothing."""
    pool = make_pool(1)
    warm(pool)
    gate = Gate(pool)
    release, ran = threading.Event(), threading.Semaphore(0)
    futures = [pool.submit(operator.neg, number) for number in range(10)]

    def end_the_thread(_: Future[Any]) -> None:
        raise SystemExit

    futures[0].add_done_callback(end_the_thread)
    futures[1].add_done_callback(lambda _: release.wait(PATIENCE_S))
    for future in futures[2:]:
        future.add_done_callback(lambda _: ran.release())
    gate.open()
    for _ in futures[2:]:
        assert ran.acquire(timeout=PATIENCE_S)
    release.set()


def test_wait_for_a_task_behind_oneself_is_a_deadlock(make_pool: Make) -> None:
    """A call-back of a task that waits for one which was given to the same worker is told so, as without that."""
    pool = make_pool(1)
    warm(pool)

    def ask() -> None:
        pool.submit(pow, 2, 3).result()

    with pytest.raises(DeadlockDetected):
        pool.submit("chores:call", ask).result(PATIENCE_S)
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4


def test_wait_for_a_task_behind_oneself_goes_on_where_another_worker_comes_free(make_pool: Make) -> None:
    """The same with a second worker: what waits behind who waits for it is taken back."""
    pool = make_pool(2)
    warm(pool)
    gate = Gate(pool)
    asked = threading.Event()

    def ask() -> list[int]:
        futures = [pool.submit(operator.neg, number) for number in range(20)]
        asked.set()
        return [future.result(PATIENCE_S) for future in futures]

    asking = pool.submit("chores:call", ask)
    assert asked.wait(PATIENCE_S)
    gate.open()
    assert asking.result(PATIENCE_S) == [-number for number in range(20)]


def test_killed_worker_has_begun_one_task_at_most(make_pool: Make) -> None:
    """Of a row that a worker has, its death from outside fails the one that ran, and no other."""
    pids: list[int] = []
    pool = make_pool(1, on={cloister.events.Ready: lambda event: pids.append(event.pid)})
    warm(pool)
    gate = Gate(pool)
    futures = [pool.submit(operator.neg, number) for number in range(30)]
    assert sent_behind(pool)
    os.kill(pids[0], 9)
    assert isinstance(gate.future.exception(PATIENCE_S), DomainCrashed)
    gate.leave()
    assert [future.result(PATIENCE_S) for future in futures] == [-number for number in range(30)]


def test_task_that_cannot_travel_in_a_row_fails_alone(make_pool: Make) -> None:
    """Arguments that can't travel, among what is given ahead: those before and behind are done."""
    pool = make_pool(1)
    warm(pool)
    gate = Gate(pool)
    lock = threading.Lock()
    futures = [pool.submit(len, lock if number % 3 == 0 else [number]) for number in range(30)]
    gate.open()
    assert [isinstance(future.exception(PATIENCE_S), TypeError) for future in futures] == [
        n % 3 == 0 for n in range(30)
    ]
    assert [future.result() for number, future in enumerate(futures) if number % 3] == [1] * 20


def test_ctrl_c_while_a_task_is_sent_loses_nothing_else(make_pool: Make) -> None:
    """An argument whose encoding is interrupted fails its task alone; all else is done, by the same worker."""

    class Interrupting:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    pool = make_pool(1)
    warm(pool)
    gate = Gate(pool)
    before = [pool.submit(operator.neg, number) for number in range(5)]
    with pytest.raises(KeyboardInterrupt):
        pool.submit(partial(len, [cloister.pickled(Interrupting())]))
    (worker,) = pool._force.workers
    gate.open()
    assert [future.result(PATIENCE_S) for future in before] == [0, -1, -2, -3, -4]
    assert pool._force.workers == {worker}


def test_ctrl_c_after_a_task_was_sent_sends_it_once(make_pool: Make, marks: Path) -> None:
    """Where the interrupt comes just behind the sending, the task runs, and is not sent again with the next one."""
    pool = make_pool(1)
    warm(pool)
    gate = Gate(pool)
    clocks: Any = pool._force.clocks
    watch = clocks.watch

    def interrupted(_: Any) -> None:
        clocks.watch = watch
        raise KeyboardInterrupt

    clocks.watch = interrupted
    with pytest.raises(KeyboardInterrupt):
        pool.submit("chores:note", str(marks), "once")
    after = [pool.submit("chores:note", str(marks), f"after-{number}") for number in range(3)]
    gate.open()
    assert wait(after, PATIENCE_S).not_done == set()
    assert marks.read_text().split() == ["once", "after-0", "after-1", "after-2"]
