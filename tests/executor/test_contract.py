"""What Executor promises, held by a pool of domains; in the manner of CPython's own tests of its executors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import operator
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, as_completed, wait
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, MarshalError

Make = Callable[..., cloister.DomainPoolExecutor]
Pool = cloister.DomainPoolExecutor
PATIENCE_S = 20.0


def test_pool_is_an_executor_that_runs_in_other_processes(pool: Pool) -> None:
    """`submit` runs functions, names, lambdas and partials with all their arguments, each in a worker."""
    import functools
    import os

    assert isinstance(pool, Executor)
    assert pool.submit(pow, 2, 10).result(PATIENCE_S) == 1024
    assert pool.submit(int, "ff", base=16).result(PATIENCE_S) == 255
    assert pool.submit("chores:double", 4).result(PATIENCE_S) == 8
    assert pool.submit(lambda x, *, fn: x + fn, 1, fn=2).result(PATIENCE_S) == 3
    assert pool.submit(functools.partial(pow, 2), 3).result(PATIENCE_S) == 8
    assert pool.submit("chores:pid").result(PATIENCE_S) != os.getpid()


def test_no_worker_is_started_before_there_is_work(make_pool: Make) -> None:
    """A pool that was only made has started nothing, and can be shut down."""
    pool = make_pool(2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cloister-")]
    pool.shutdown()


def test_results_and_exceptions_reach_wait_and_as_completed(pool: Pool) -> None:
    """`wait` and `as_completed` know the futures; an exception fails its own future alone."""
    futures: list[Future[Any]] = [pool.submit(operator.truediv, 1, number) for number in range(4)]
    assert wait(futures, PATIENCE_S).not_done == set()
    assert set(as_completed(futures, PATIENCE_S)) == set(futures)
    with pytest.raises(ZeroDivisionError):
        futures[0].result()
    assert [future.result() for future in futures[1:]] == [1.0, 0.5, 1 / 3]


def test_map_keeps_the_order_for_every_size_of_chunks(pool: Pool) -> None:
    """`map` gives the results in order, up to the shortest iterable, for every `chunksize` and `buffersize`."""
    for chunksize, buffersize in itertools.product((1, 3, 100), (1, 4, None)):
        results = pool.map(operator.add, range(25), itertools.count(100, 2) if buffersize else range(100, 200, 2),
                           chunksize=chunksize, buffersize=buffersize)  # fmt: skip
        assert list(results) == [100 + 3 * number for number in range(25)]
    assert list(pool.map(operator.neg, [])) == []


def test_map_raises_in_its_place_or_gives_exceptions(pool: Pool) -> None:
    """The exception of an item comes at its place and cancels the rest; or as a value, where that was asked for."""
    results: Iterator[Any] = pool.map(operator.truediv, [1, 2, 3], [1, 0, 1], chunksize=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    results = pool.map(operator.truediv, [1, 2, 3], [1, 0, 1], chunksize=2, return_exceptions=True)
    assert [type(result) for result in results] == [float, ZeroDivisionError, float]


def test_map_without_a_bound_sends_everything_at_once(pool: Pool) -> None:
    """As with other executors, `map` takes all items before it returns, also where nobody takes the results."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    pool.map(operator.neg, numbers())
    assert len(taken) == 100


def test_map_with_a_bound_takes_an_endless_input_as_it_goes(pool: Pool) -> None:
    """With `buffersize` the input may be endless; closing the results cancels what was sent, and takes no more."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    results: Any = pool.map(operator.neg, endless(), chunksize=2, buffersize=3)
    assert taken == 6
    assert list(itertools.islice(results, 10)) == [-number for number in range(10)]
    results.close()
    before = taken
    assert list(results) == []
    assert taken == before <= 18


def test_map_has_a_limit_for_all_its_results(pool: Pool) -> None:
    """`map(timeout=…)` raises a TimeoutError when the results are not there in time, and cancels the rest."""
    over = threading.Event()
    try:
        results = pool.map("chores:call", [over.wait], timeout=0.1)
        with pytest.raises(CallTimeout):
            next(results)
    finally:
        over.set()  # it waits here, in a thread of this process


def test_map_tells_its_progress_on_the_thread_that_iterates(pool: Pool) -> None:
    """`progress` is told how many items have come back, of how many; None where a length is not known."""
    told: list[tuple[int, int | None, int]] = []

    def progress(done: int, total: int | None) -> None:
        told.append((done, total, threading.get_ident()))

    list(pool.map(operator.neg, range(7), chunksize=3, progress=progress))
    list(pool.map(operator.neg, iter(range(3)), chunksize=3, progress=progress))
    me = threading.get_ident()
    assert told == [(3, 7, me), (6, 7, me), (7, 7, me), (3, None, me)]


def test_pending_future_is_cancelled_at_once(make_pool: Make) -> None:
    """A task that waits is cancelled at once, and never begins; `wait` hears of it."""
    pool = make_pool(1)
    release = threading.Event()
    running = pool.submit("chores:call", release.wait)
    pending = pool.submit("chores:call", pytest.fail)
    assert pending.cancel()
    assert pending.cancelled()
    assert pending.cancel()
    assert wait([pending], PATIENCE_S).done == {pending}
    with pytest.raises(CancelledError):
        pending.result()
    release.set()
    assert running.result(PATIENCE_S) is True
    assert not running.cancel()


def test_running_tells_whether_a_worker_has_the_task(make_pool: Make) -> None:
    """`running` is false before the task is with a worker, true while it is, false after."""
    pool = make_pool(1)
    begun, release = threading.Event(), threading.Event()

    def meet() -> None:
        begun.set()
        release.wait(PATIENCE_S)

    future = pool.submit("chores:call", meet)
    behind = pool.submit(pow, 2, 2)
    assert begun.wait(PATIENCE_S)
    assert future.running()
    assert not behind.running()
    release.set()
    assert behind.result(PATIENCE_S) == 4
    assert not future.running()


def test_shutdown_waits_for_what_was_submitted(make_pool: Make) -> None:
    """Everything that was submitted before the shutdown is done after it; later tasks are refused."""
    pool = make_pool(2)
    futures = [pool.submit("chores:double_late", number, 0.01) for number in range(10)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == [2 * number for number in range(10)]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(pow, 2, 2)
    pool.shutdown()


def test_shutdown_can_cancel_what_has_not_begun(make_pool: Make) -> None:
    """`cancel_futures` cancels what waits, and waits for what runs."""
    pool = make_pool(1)
    begun = threading.Event()
    running = pool.submit("chores:call", begun.set)
    slow = [pool.submit("chores:double_late", 1, 0.05) for _ in range(100)]
    assert begun.wait(PATIENCE_S)
    pool.shutdown(cancel_futures=True)
    assert running.done()
    assert all(future.done() for future in slow)
    assert sum(future.cancelled() for future in slow) >= 90


def test_shutdown_without_waiting_returns_at_once_and_the_work_is_done(make_pool: Make) -> None:
    """`shutdown(wait=False)` returns while tasks run, or workers start; they are done nevertheless."""
    pool = make_pool(1)
    future = pool.submit("chores:double_late", 4, 0.05)
    pool.shutdown(wait=False)
    assert not future.done()
    assert future.result(PATIENCE_S) == 8


def test_forgotten_pool_does_its_work_and_goes(make_pool: Make) -> None:
    """A pool that nobody holds finishes what was submitted and lets its workers go; the leak check sees to it."""
    pool = cloister.DomainPoolExecutor(1)
    future = pool.submit(pow, 2, 5)
    reference = weakref.ref(pool)
    del pool
    assert reference() is None
    assert future.result(PATIENCE_S) == 32


def test_futures_do_not_keep_their_arguments(pool: Pool) -> None:
    """What went into a task is let go when it is done, also while its future is kept."""

    identity = uuid.uuid4()
    reference = weakref.ref(identity)
    future = pool.submit(str, identity)
    assert future.result(PATIENCE_S) == str(identity)
    del identity
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4
    assert reference() is None


def test_what_cannot_travel_fails_its_future_alone(make_pool: Make) -> None:
    """Arguments, code, results and exceptions that can't travel fail their own future; the pool goes on."""
    pool = make_pool(1)
    lock = threading.Lock()
    bad = [pool.submit(len, lock) for _ in range(2000)]
    assert {type(future.exception(PATIENCE_S)) for future in bad} == {MarshalError}
    assert isinstance(pool.submit(lambda: lock).exception(PATIENCE_S), MarshalError)
    unpicklable = pool.submit("chores:raise_unpicklable", 7).exception(PATIENCE_S)
    assert isinstance(unpicklable, cloister.RemoteError)
    assert "number 7" in str(unpicklable)
    exits = pool.submit("chores:leave_the_interpreter").exception(PATIENCE_S)
    assert isinstance(exits, cloister.RemoteError)
    assert isinstance(pool.submit("chores:cycle_of", 1, 1).exception(PATIENCE_S), MarshalError)
    chunk = pool.map("chores:cycle_of", range(5), [2] * 5, chunksize=5, return_exceptions=True)
    assert [type(result) for result in chunk] == [int, int, MarshalError, int, int]
    exits_in_chunk = pool.map("chores:leave_the_interpreter", chunksize=1)
    assert list(exits_in_chunk) == []
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4


def test_ten_thousand_tasks_from_many_threads(make_pool: Make) -> None:
    """64 threads submit at once: every task is done, each with its own result."""
    pool = make_pool(2)
    results: dict[int, list[int]] = {}

    def work(base: int) -> None:
        futures = [pool.submit(operator.add, base, number) for number in range(100)]
        results[base] = [future.result(PATIENCE_S) for future in futures]

    threads = [threading.Thread(target=work, args=(base,)) for base in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert results == {base: [base + number for number in range(100)] for base in range(64)}


def test_run_in_executor_of_asyncio(pool: Pool) -> None:
    """`loop.run_in_executor` gives results and exceptions, and a cancelled awaiting cancels the task."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, pow, 2, 10) == 1024
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(pool, operator.truediv, 1, 0)
        waiting = loop.run_in_executor(pool, time.sleep, 60)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiting, 0.2)
        results = await asyncio.gather(*(loop.run_in_executor(pool, operator.neg, number) for number in range(100)))
        assert results == [-number for number in range(100)]

    asyncio.run(main())


def test_coroutines_run_in_the_worker(pool: Pool) -> None:
    """A task, or the function of a map, may be an ``async def``: it runs on the loop of its worker."""
    assert pool.submit("chores:double_on_a_loop", 3).result(PATIENCE_S) == 6
    results = pool.map("chores:double_on_a_loop", [1, "a", None], chunksize=3, return_exceptions=True)
    assert [type(result) for result in results] == [int, str, TypeError]


def test_options_are_checked(make_pool: Make) -> None:
    """An option out of range is refused when the pool is made."""
    for options in (
        {"max_workers": 0},
        {"max_tasks_per_worker": 0},
        {"task_timeout": -1},
        {"kill_after": float("nan")},
        {"idle_timeout": -0.1},
        {"stop_timeout": -1},
        {"initargs": (1,)},
        {"initializer": "a:b", "setup": cloister.Setup(initializer="c:d")},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            make_pool(**options)
    pool = make_pool(1)
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(pow, [1], chunksize=0)
    with pytest.raises(ValueError, match="time-out"):
        pool.with_options(timeout=-1)


def test_pool_stays_where_it_is(pool: Pool) -> None:
    """A pool can't be pickled, and says what to do."""
    import pickle

    with pytest.raises(MarshalError, match="share"):
        pickle.dumps(pool)
    assert "at most 2 workers" in repr(pool)


def test_a_view_is_the_same_pool(pool: Pool) -> None:
    """A view with options has the same workers; shutting it down shuts the pool down."""
    view = pool.with_options(timeout=30)
    assert {pool.submit("chores:pid").result(PATIENCE_S), view.submit("chores:pid").result(PATIENCE_S)}
    view.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(pow, 1, 1)


def test_a_view_keeps_what_it_is_not_given(make_pool: Make) -> None:
    """A view made for one option has the time limit and the other options of what it is a view of."""
    pool = make_pool(1, task_timeout=60)
    again = pool.with_options(idempotent=True)
    assert (again._timeout, again._idempotent) == (60, True)
    quick = again.with_options(timeout=0.3)
    assert (quick._timeout, quick._idempotent) == (0.3, True)
    free = quick.with_options(timeout=None)
    assert (free._timeout, free._idempotent) == (None, True)
    late = quick.with_options(idempotent=False).submit(time.sleep, 600).exception(PATIENCE_S)
    assert isinstance(late, CallTimeout)
    assert (pool._timeout, pool._idempotent) == (60, False)


def test_input_that_raises_comes_out_and_leaves_nothing(pool: Pool) -> None:
    """What the input of a map raises comes out at once; what was sent is cancelled."""

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        pool.map(operator.neg, broken())
    assert concurrent.futures.wait([pool.submit(pow, 1, 1)], PATIENCE_S).done
