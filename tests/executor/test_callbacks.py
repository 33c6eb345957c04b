"""Done-callbacks, nested pools, and calls back into the host: on which thread, and what may wait for what."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import pytest

import cloister
from cloister import waits
from cloister.errors import DeadlockDetected, WrongProcess
from cloister.executor import callbacks
from cloister.executor.seats import wait_for
from cloister.levels.watcher import watcher

Make = Callable[..., cloister.DomainPoolExecutor]
Pool = cloister.DomainPoolExecutor
PATIENCE_S = 20.0


def test_done_callback_runs_on_the_reading_thread_of_the_worker(make_pool: Make) -> None:
    """A done-callback runs on the thread that reads the worker's answers; on this one where the future is done."""
    pool = make_pool(1, name="named")
    ran: list[str] = []
    gate = threading.Event()
    future = pool.submit("chores:call", gate.wait)
    called = threading.Event()

    def note(_: Future[Any]) -> None:
        ran.append(threading.current_thread().name)
        called.set()

    future.add_done_callback(note)
    gate.set()
    assert called.wait(PATIENCE_S)
    future.add_done_callback(note)
    assert ran == ["cloister-named-1-shared", threading.current_thread().name]


def test_callback_that_raises_submits_or_cancels_harms_nothing(
    make_pool: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Callbacks that raise, submit, and cancel: the pool goes on."""
    pool = make_pool(1)
    later: list[Future[int]] = []
    ready = threading.Event()

    def submit_more(done: Future[int]) -> None:
        if len(later) < 10:
            later.append(pool.submit(operator.neg, len(later)))
            later[-1].add_done_callback(submit_more)
            return
        ready.set()
        raise ValueError("from a callback")

    gate = threading.Event()
    first = pool.submit("chores:call", gate.wait)
    first.add_done_callback(submit_more)
    waiting = pool.submit("chores:loop_for_ever")
    first.add_done_callback(lambda _: waiting.cancel())
    gate.set()
    assert ready.wait(PATIENCE_S)
    assert [future.result(PATIENCE_S) for future in later] == [-number for number in range(10)]
    assert waiting.cancelled()
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4


def test_callback_that_blocks_holds_up_its_worker_alone(make_pool: Make) -> None:
    """While a callback waits, the other workers go on, also for what the callback itself submits and waits for."""
    pool = make_pool(2, task_timeout=10)
    release, gate, through = threading.Event(), threading.Event(), threading.Event()
    results: list[int] = []

    def wait_for_others(_: Future[Any]) -> None:
        results.extend(pool.submit(operator.neg, number).result(PATIENCE_S) for number in range(5))
        release.wait(PATIENCE_S)
        through.set()

    future = pool.submit("chores:call", gate.wait)
    future.add_done_callback(wait_for_others)
    gate.set()
    others = [pool.submit(operator.neg, number) for number in range(50)]
    assert [other.result(PATIENCE_S) for other in others] == [-number for number in range(50)]
    release.set()
    assert through.wait(PATIENCE_S)
    assert results == [0, -1, -2, -3, -4]


def test_callback_is_not_left_behind_one_that_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two callbacks that come before the one idle thread has woken: another thread goes on with the second."""
    monkeypatch.setattr(callbacks, "IDLE_S", PATIENCE_S)
    release, idle, ran = threading.Event(), threading.Event(), threading.Event()
    made = callbacks.Callbacks("left")
    condition = made._condition
    watcher.enter()
    try:
        made.run(idle.set)
        assert idle.wait(PATIENCE_S)
        while not made._idle or (made._timer is not None and made._timer.pending):
            time.sleep(0.001)
        with condition:  # the idle thread can't wake
            made.run(partial(release.wait, PATIENCE_S))
            made.run(ran.set)
        assert ran.wait(PATIENCE_S / 2)
        assert not release.is_set()
    finally:
        release.set()
        while made._threads:
            with condition:
                condition.notify_all()
            time.sleep(0.001)
        watcher.leave()


def test_shutdown_in_a_callback_does_not_wait_for_itself(make_pool: Make) -> None:
    """A done-callback may shut the pool down; it does not wait there."""
    pool = make_pool(1)
    gate, done = threading.Event(), threading.Event()
    future = pool.submit("chores:call", gate.wait)

    def end(_: Future[Any]) -> None:
        pool.shutdown()
        done.set()

    future.add_done_callback(end)
    gate.set()
    assert done.wait(PATIENCE_S)
    with pytest.raises(RuntimeError):
        pool.submit(pow, 1, 1)


def test_task_calls_back_and_submits_to_its_own_pool(make_pool: Make) -> None:
    """A task may call its host, which submits to the same pool and waits, where another worker is free."""
    pool = make_pool(2)
    assert pool.submit("chores:call", lambda: pool.submit(pow, 2, 5).result(PATIENCE_S)).result(PATIENCE_S) == 32


def test_task_has_a_pool_of_its_own(make_pool: Make) -> None:
    """A worker may be the host of a pool itself."""
    pool = make_pool(1)
    assert pool.submit("chores:pool_of_its_own", [1, 2, 3]).result(PATIENCE_S) == [-1, -2, -3]


def test_submit_and_shutdown_race(make_pool: Make) -> None:
    """Threads that submit while another shuts down: each task is refused, or done."""
    for cancel in (False, True):
        pool = make_pool(2)
        futures: list[Future[int]] = []
        refused = threading.Event()

        def submit(pool: Pool = pool, futures: list[Future[int]] = futures, refused: threading.Event = refused) -> None:
            try:
                while True:
                    batch = [pool.submit(operator.neg, 1) for _ in range(20)]
                    futures.extend(batch)
                    wait(batch, PATIENCE_S)
            except RuntimeError:
                refused.set()

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        pool.submit(pow, 2, 2).result(PATIENCE_S)
        pool.shutdown(cancel_futures=cancel)
        for thread in threads:
            thread.join(PATIENCE_S)
        assert refused.is_set()
        assert all(future.done() for future in futures)


def run(program: str) -> str:
    """Run a program; return what it printed. It must end well, and soon."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_interpreter_exit_with_a_pool_in_use_does_not_hang() -> None:
    """A program that ends with tasks that hang, wait, and have yet to start a worker, ends."""
    printed = run(
        "import cloister, time\n"
        "pool = cloister.DomainPoolExecutor(2, stop_timeout=0.2)\n"
        "print(pool.submit(pow, 2, 2).result())\n"
        "futures = [pool.submit(time.sleep, 600) for _ in range(10)]\n"
        "other = cloister.DomainPoolExecutor(1)\n"
        "other.submit(time.sleep, 600)\n"
        "while not futures[0].running(): time.sleep(0.01)\n"
    )
    assert printed == "4\n"


def test_interpreter_exit_is_not_held_up_by_done_callbacks() -> None:
    """What is cancelled when a program ends may have callbacks that never return: it ends nevertheless."""
    printed = run(
        "import cloister, time, threading\n"
        "pool = cloister.DomainPoolExecutor(1, stop_timeout=0.2)\n"
        "futures = [pool.submit(time.sleep, 600) for _ in range(10)]\n"
        "for future in futures: future.add_done_callback(lambda _: threading.Event().wait())\n"
        "while not futures[0].running(): time.sleep(0.01)\n"
        "print('ends')\n"
    )
    assert printed == "ends\n"


def test_thread_that_outlives_the_main_one_goes_on_with_its_pool() -> None:
    """A thread that is not a daemon uses a pool to its end when the main thread is through; no start hangs it."""
    printed = run(
        "import cloister, threading\n"
        "pool = cloister.DomainPoolExecutor(1)\n"
        "pool.submit(pow, 2, 2).result()\n"
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    with pool:\n"
        "        print(sum(pool.map(abs, range(-4, 0))))\n"
        "    late = cloister.DomainPoolExecutor(1)\n"
        "    try:\n"
        "        print(late.submit(pow, 2, 2).result())\n"
        "    except cloister.StartFailed:  # from Python 3.12 on no thread can be started any more\n"
        "        print(4)\n"
        "threading.Thread(target=work).start()\n"
    )
    assert printed == "10\n4\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_leaves_the_pool_of_its_parent_alone(make_pool: Make) -> None:
    """In a forked child the pool raises WrongProcess, and its end disturbs nothing in the parent."""
    pool = make_pool(1)
    assert pool.submit(pow, 2, 2).result(PATIENCE_S) == 4
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            pool.submit(pow, 2, 2)
        except WrongProcess:
            os.write(writer, b"w")
        pool.shutdown()
        os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reader, 2) == b"w"
    os.close(reader)
    assert pool.submit(pow, 2, 3).result(PATIENCE_S) == 8


def test_task_that_waits_for_a_task_that_no_worker_can_take_is_told(make_pool: Make) -> None:
    """A call-back that waits for a task of its own pool, while every worker waits so, is DeadlockDetected at once, with
    the chain; with a free worker, a time-out, or a time limit it waits. The pool goes on."""
    single, double = make_pool(1), make_pool(2)
    seen: list[object] = []

    def ask(pool: Any, timeout: float | None = None) -> int:
        try:
            return int(pool.submit(pow, 2, 3).result(timeout))
        except (DeadlockDetected, TimeoutError) as error:
            seen.append(error)
            raise

    with pytest.raises(DeadlockDetected, match=r"1 in all.*held by thread"):
        single.submit("chores:call", partial(ask, single)).result(30)
    assert len(seen) == 1
    with pytest.raises(TimeoutError):
        single.submit("chores:call", partial(ask, single, 0.1)).result(30)
    assert single.submit(pow, 2, 2).result(30) == 4
    assert double.submit("chores:call", partial(ask, double)).result(30) == 8
    assert double.submit("chores:call", partial(ask, single)).result(30) == 8


def test_task_that_begins_just_when_somebody_waits_for_it_is_no_deadlock(
    make_pool: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker gets the task between the mark of who waits and the entry in the graph: the entry does not stay."""
    pool = make_pool(1)
    gate = threading.Event()
    future: Any = pool.submit("chores:call", gate.wait)
    while not future.running():
        assert not future.done()
    work, real = future.work, waits.expect

    def expect(resource: waits.Resource, strand: int) -> None:
        work.begins()
        real(resource, strand)
        work.expected = False

    monkeypatch.setattr(waits, "expect", expect)

    def wait(_: float | None) -> None:
        assert work.options["strand"] not in [strand for strand, _ in waits._graph.waiting()]

    wait_for(work, future.done, wait, None)
    gate.set()
    assert future.result(PATIENCE_S)


def test_callbacks_are_not_held_up_after_the_last_domain_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that the end of the watcher has taken away is asked for again."""
    made, release, ran = callbacks.Callbacks("later"), threading.Event(), threading.Event()
    watcher.enter()
    try:
        monkeypatch.setattr(callbacks, "HELD_S", 3600.0)
        made.run(lambda: release.wait(PATIENCE_S))
        made.run(lambda: None)
    finally:
        watcher.leave()
    assert watcher.wait_ended(PATIENCE_S)
    monkeypatch.undo()
    watcher.enter()
    try:
        made.run(ran.set)
        assert ran.wait(PATIENCE_S / 2)
    finally:
        release.set()
        watcher.leave()
        assert watcher.wait_ended(PATIENCE_S)
    while made._threads:
        threading.Event().wait(0.005)
