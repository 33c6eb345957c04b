"""Guests whose main thread runs a message loop: asyncio, Qt, and one of the user's own."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DeadlockDetected, DomainCrashed, StartFailed
from tests.patience import wait_until

JOIN_S = 20.0
Make = Callable[..., cloister.Domain]
qt = pytest.param(
    "qt",
    marks=pytest.mark.skipif(importlib.util.find_spec("PySide6") is None, reason="PySide6-Essentials is not installed"),
)
every_loop = pytest.mark.parametrize("loop", ["asyncio", qt, "loops:selecting"])


@pytest.fixture
def make_with(make: Make, modules: Path) -> Callable[..., cloister.Domain]:
    """Make domains whose main thread runs a loop."""

    def make_one(loop: str, initializer: str | None = None, **options: Any) -> cloister.Domain:
        setup = cloister.Setup(
            path=[modules], main_loop=loop, initializer=initializer, extra_env={"QT_QPA_PLATFORM": "offscreen"}
        )
        return make(setup=setup, **options)

    return make_one


@every_loop
def test_loop_serves_calls_and_its_timer_sends_messages(make_with: Make, loop: str) -> None:
    """S52: A guest whose main thread runs a message loop serves calls on it, and a timer in it tells the host."""
    domain = make_with(loop)
    assert domain.call("loops:thread") == "MainThread"
    told: list[int] = []
    enough = threading.Event()

    def tell(number: int) -> None:
        told.append(number)
        if not number:
            enough.set()

    domain.call("loops:tell_by_timer", tell, 5, 0.005)
    assert enough.wait(JOIN_S)
    assert told == [4, 3, 2, 1, 0]
    assert domain.call("loops:thread") == "MainThread"


@every_loop
def test_coroutine_does_not_hold_up_the_loop(make_with: Make, loop: str) -> None:
    """A call of an ``async def`` waits, and the timers of the loop come meanwhile; asyncio runs it on its own loop."""
    domain = make_with(loop)
    domain.call("loops:count_ticks", 0.002)
    domain.call("loops:ticks")
    where = domain.call("loops:wait_for_ticks", 10)
    assert where == ("MainThread" if loop == "asyncio" else "cloister-loop")
    assert domain.call("loops:ticks") >= 10
    assert domain.call("loops:nothing") == 1


@every_loop
def test_nested_calls_on_the_loop(make_with: Make, loop: str) -> None:
    """A function on the loop's thread calls the host, which calls it again, 20 deep; all stays on that thread."""
    domain = make_with(loop)

    def up(depth: int) -> int:
        assert domain.call("loops:thread") == "MainThread"
        return 0 if depth == 0 else int(domain.call("errands:descend", up, depth - 1)) + 1

    assert domain.call("errands:descend", up, 20) == 20
    counter = domain.create("collections:Counter")
    for _ in range(500):
        cloister.one_way(counter.update)("ab")
    assert counter.total() == 1000


def test_nested_coroutine_on_a_loop_that_stands_still(make_with: Make) -> None:
    """A coroutine that is called while the loop's own thread waits for the host can't run: that is said, not waited."""
    domain = make_with("asyncio")

    def nested() -> str:
        with pytest.raises(DeadlockDetected, match="async def"):
            domain.call("loops:nothing")
        return "told"

    assert domain.call("errands:call", nested) == "told"
    assert domain.call("loops:nothing") == 1


@every_loop
def test_other_threads_and_submitted_calls_beside_the_loop(make_with: Make, loop: str) -> None:
    """Calls of other host threads have threads of their own; with one call at a time all are on the loop's thread."""
    domain = make_with(loop)
    assert domain.call("loops:thread") == "MainThread"
    assert domain.submit("loops:thread").result(JOIN_S).startswith(("cloister-shared", "cloister-lane"))
    assert domain.submit("loops:nothing").result(JOIN_S) == 1
    single = make_with(loop, max_concurrency=1)
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(single.call("loops:thread"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    assert names == ["MainThread"] * 4


@every_loop
@pytest.mark.parametrize("how", ["loops:block", "loops:forever"])
def test_time_out_interrupts_a_call_on_the_loop(make_with: Make, loop: str, how: str) -> None:
    """A call on the loop's thread is interrupted, a coroutine cancelled; the loop goes on and serves the next call."""
    domain = make_with(loop)
    domain.call("loops:count_ticks", 0.002)
    args = (60,) if how == "loops:block" else ()
    for _ in range(2):
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=0.3).call(how, *args)
        wait_until(lambda: domain.call("loops:names") == ["Interrupted" if args else "CancelledError"])
        assert domain.call("loops:thread") == "MainThread"
    domain.call("loops:ticks")
    wait_until(lambda: domain.call("loops:ticks") > 0)


@every_loop
@pytest.mark.parametrize("doing", ["nothing", "blocked", "swallowing", "waiting"])
def test_unload_ends_the_loop(make_with: Make, loop: str, doing: str, tmp_path: Path) -> None:
    """O05: Unload ends a domain whose main thread runs a loop, in whatever state it is; its exit hooks run."""
    domain = make_with(loop, stop_timeout=10, watchdog=cloister.Watchdog(beat=0.02))
    trace = tmp_path / "trace"
    calls: dict[str, tuple[Any, ...]] = {
        "blocked": ("loops:block", 60),
        "swallowing": ("loops:swallow_stop",),
        "waiting": ("loops:forever",),
    }
    errors: list[BaseException] = []
    begun = threading.Event()

    def use_main() -> None:  # the main thread's lane belongs to the first thread that calls
        assert domain.call("loops:thread") == "MainThread"
        domain.call("loops:at_exit", str(trace))
        begun.set()
        if doing in calls:
            try:
                domain.call(*calls[doing])
            except cloister.DomainUnloaded as error:
                errors.append(error)

    caller = threading.Thread(target=use_main)
    caller.start()
    assert begun.wait(JOIN_S)
    wait_until(lambda: doing == "nothing" or domain.status().running > 0)
    now = time.monotonic()
    domain.unload()
    assert time.monotonic() - now < 9
    caller.join(JOIN_S)
    assert len(errors) == (doing in calls)
    assert trace.read_text() == "exit hook\n"
    assert domain.report is not None
    assert domain.report.reason.value == "unloaded"


def test_initializer_finds_the_loop(make_with: Make) -> None:
    """The loop is there before the initializer, which may be a coroutine of it."""
    domain = make_with("asyncio", initializer="loops:set_up")
    assert domain.call("loops:names") == ["MainThread"]


def test_loop_that_ends_by_itself_ends_the_domain(make_with: Make) -> None:
    """A loop that returns ends its domain like a program that returns; one that raises ends it with what it raises."""
    domain = make_with("loops:leaving")
    wait_until(lambda: domain.report is not None)
    with pytest.raises(DomainCrashed) as caught:
        domain.call("loops:thread")
    assert caught.value.report.reason.value == "exited"
    assert caught.value.report.exit_code == 0
    failing = make_with("loops:failing")
    with pytest.raises(DomainCrashed) as crashed:
        failing.call("loops:thread")
    assert crashed.value.report.reason.value == "raised"
    assert "no window" in str(crashed.value.report)


def test_loop_that_is_not_there_fails_the_start(make_with: Make) -> None:
    """A name that names nothing is told before anything starts, a module that is not there fails the start."""
    with pytest.raises(ValueError, match="main_loop"):
        cloister.Setup(main_loop="tk")
    with pytest.raises(StartFailed, match="nowhere"):
        make_with("nowhere:run").call("loops:thread")


def test_kill_of_the_process_is_noticed_as_ever(make_with: Make) -> None:
    """A domain with a loop that is killed is a crash with a report."""
    domain = make_with("asyncio")
    domain.call("loops:thread")
    os.kill(domain.pid, 9)
    with pytest.raises(DomainCrashed):
        domain.call("loops:thread")
