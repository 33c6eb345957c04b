"""Coroutines of a guest: called, mapped, submitted, cancelled, told one-way, at the end of the domain."""

from __future__ import annotations

import contextvars
import gc
import importlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister import calling, is_proxy
from cloister.domain import events
from cloister.errors import CallCancelled, CallTimeout, RemoteError
from cloister.guest.coroutines import Coroutines
from cloister.guest.threads import Threads
from tests.patience import wait_until

Make = Callable[..., cloister.Domain]
JOIN_S = 20.0


class Notes:
    """What the guest has noted, as it comes."""

    def __init__(self, domain: cloister.Domain) -> None:
        self._domain, self.all = domain, list[Any]()

    def has(self, note: str) -> bool:
        """Whether a note has come by now."""
        self.all += self._domain.call("coroutines:notes")
        return note in self.all


# -- calls -------------------------------------------------------------------------------------------------------------


def test_async_def_is_called_like_a_function(make: Make) -> None:
    """A synchronous host calls, creates, evaluates and submits coroutines, and gets what they return."""
    domain = make()
    assert domain.call("coroutines:echo", (1, "two")) == (1, "two")
    assert domain.call("coroutines:where") == ("cloister-loop", True)
    account: Any = domain.create("coroutines:Account")
    assert account.add(5) == 5
    assert account(2) == 7
    assert account.now() == 7
    made: Any = domain.create("coroutines:make_account", 3)
    assert made.add(1) == 4
    domain.exec("import coroutines")
    assert domain.eval("coroutines.echo(4)") == 4
    assert domain.submit("coroutines:echo", 5).result(JOIN_S) == 5
    assert cloister.submit(made.add, 6).result(JOIN_S) == 10
    assert is_proxy(domain.create_handle("coroutines:make_account", 8))


def test_async_def_is_mapped(make: Make) -> None:
    """`map` over a coroutine function keeps order and chunks; exceptions come at their places."""
    domain = make()
    assert list(domain.map("coroutines:echo", range(20), chunksize=7)) == list(range(20))
    results = list(domain.map("coroutines:fail", ["a", "b"], chunksize=2, return_exceptions=True))
    assert [str(result) for result in results] == ["a", "b"]


def test_initializer_may_be_a_coroutine(make: Make, modules: Path) -> None:
    """An initializer that is an ``async def`` has ended before the domain is ready."""
    setup = cloister.Setup(path=[modules], initializer="coroutines:set_up")
    domain = make(setup=setup)
    assert domain.call("coroutines:notes") == ["set up on cloister-loop"]


@pytest.mark.parametrize("way", ["call", "submit"])
def test_what_a_coroutine_raises_travels(make: Make, way: str) -> None:
    """Exceptions arrive as those of functions do; SystemExit ends the call and neither the loop nor the domain."""
    domain = make()
    use: Callable[..., Any] = domain.call
    if way == "submit":
        use = lambda *args: domain.submit(*args).result(JOIN_S)  # noqa: E731 - shorter here
    with pytest.raises(ValueError, match="wrong") as caught:
        use("coroutines:fail", "wrong")
    assert "coroutines.py" in str(caught.value.__cause__)
    for _ in range(2):
        with pytest.raises(RemoteError, match="SystemExit"):
            use("coroutines:end_with", 3)
    assert use("coroutines:echo", 1) == 1


def test_thousand_coroutines_wait_for_each_other_without_a_thread_each(make: Make) -> None:
    """1,000 submitted coroutines are open at once, on the one loop; a call beside them lets them all through."""
    domain = make()
    futures = [domain.submit("coroutines:meet", "gate") for _ in range(1000)]
    domain.submit("coroutines:echo", 1).result(JOIN_S)
    assert domain.call("errands:threads") < 60
    domain.call("coroutines:open_gate", "gate")
    assert [future.result(JOIN_S) for future in futures] == ["gate"] * 1000


def test_context_of_the_call_holds_in_the_coroutine(make: Make) -> None:
    """The time left and the logical thread are those of the call, also after a turn of the loop."""
    domain = make()
    assert domain.call("coroutines:waiting", "x") is None
    with calling.timeout(60):
        assert 50 < domain.call("coroutines:waiting", "x") <= 60
        assert 50 < domain.submit("coroutines:waiting", "x").result(JOIN_S) <= 60
    assert domain.call("coroutines:logical_thread") == calling.logical_thread()
    assert domain.submit("coroutines:logical_thread").result(JOIN_S) == calling.logical_thread()


def test_coroutine_called_by_a_call_back_runs_while_the_main_thread_waits(make: Make) -> None:
    """Nested: a function of the guest calls the host, which calls a coroutine of the guest, and so on."""
    domain = make()

    def up(depth: int) -> int:
        return depth and int(domain.call("coroutines:call_in_thread", up, depth - 1)) + 1

    assert domain.call("errands:call", lambda: domain.call("coroutines:echo", 4)) == 4
    assert up(6) == 6


# -- cancel ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thread", ["main", "another"])
def test_time_out_cancels_the_task(make: Make, thread: str) -> None:
    """A call whose time is up is cancelled as asyncio does it, whichever thread waits for it; the domain serves on."""
    domain = make()
    notes = Notes(domain)
    seconds = 0.1

    def call() -> None:
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=seconds).call("coroutines:forever")

    while not notes.has("begun"):  # on a busy machine the first ones may be over before they have begun
        if thread == "main":
            call()
        else:
            worker = threading.Thread(target=call)
            worker.start()
            worker.join(JOIN_S)
        seconds *= 2
    wait_until(lambda: notes.has("CancelledError"))
    assert domain.call("coroutines:echo", 1) == 1


def test_cancelled_future_cancels_the_task(make: Make) -> None:
    """`cancel()` of a submitted coroutine cancels its task; other tasks go on."""
    domain = make()
    other = domain.submit("coroutines:meet", "other")
    future = domain.submit("coroutines:forever")
    notes = Notes(domain)
    wait_until(lambda: notes.has("begun"))
    assert future.cancel()
    wait_until(lambda: notes.has("CancelledError"))
    domain.call("coroutines:open_gate", "other")
    assert other.result(JOIN_S) == "other"


def test_nested_coroutine_that_times_out_unwinds_before_its_caller_goes_on(make: Make) -> None:
    """A nested call of a coroutine that times out raises when the task has unwound; the calls around it go on."""
    domain = make()
    domain.call("coroutines:notes")

    def nested() -> str:
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=0.5).call("coroutines:forever")
        return ",".join(domain.call("coroutines:notes"))

    assert domain.call("errands:call", nested) == "begun,CancelledError"


def test_coroutine_that_swallows_cancellation_holds_up_nobody(make: Make) -> None:
    """The host goes on at once, other calls are served, and the late result reaches nobody."""
    domain = make()
    domain.call("coroutines:notes")
    future = domain.submit("coroutines:stubborn", 30)
    notes = Notes(domain)
    wait_until(lambda: notes.has("begun"))
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.5).call("coroutines:stubborn", 30)
    wait_until(lambda: notes.has("swallowed"))
    assert future.cancel()
    assert domain.call("coroutines:echo", 1) == 1
    assert domain.submit("coroutines:echo", 2).result(JOIN_S) == 2


def test_unload_with_a_stubborn_coroutine_is_bounded(make: Make) -> None:
    """O05: A domain ends though a coroutine swallows its cancellation, and the report says that it was unloaded."""
    domain = make(stop_timeout=10)
    domain.submit("coroutines:stubborn", 60)
    notes = Notes(domain)
    wait_until(lambda: notes.has("begun"))
    begun = time.monotonic()
    domain.unload()
    assert time.monotonic() - begun < 8
    assert domain.report is not None
    assert domain.report.reason.value == "unloaded"


def test_tasks_unwind_at_the_end_of_the_domain(make: Make, tmp_path: Path) -> None:
    """At the end of a domain the tasks of its loop are cancelled, and their ``finally`` runs."""
    domain = make()
    trace = tmp_path / "trace"
    future = domain.submit("coroutines:leave_at_exit", str(trace))
    notes = Notes(domain)
    wait_until(lambda: notes.has("begun"))
    domain.unload()
    assert trace.read_text() == "unwound\n"
    with pytest.raises(cloister.DomainUnloaded):
        future.result(JOIN_S)


# -- nobody waits ------------------------------------------------------------------------------------------------------


def test_one_way_call_of_a_coroutine(make: Make) -> None:
    """A one-way call of an ``async def`` begins its task and holds up no later call."""
    domain = make()
    account: Any = domain.create("coroutines:Account")
    for _ in range(10):
        cloister.one_way(account.add)(1)
    wait_until(lambda: bool(account.now() == 10))


def test_exception_that_no_task_takes_is_an_event(make: Make) -> None:
    """What a task or a call-back of the loop raises and nobody takes is an UnhandledException event."""
    told: list[events.UnhandledException] = []
    domain = make(on={events.UnhandledException: told.append})
    domain.call("coroutines:later_failure")
    domain.call("gc:collect")
    domain.call("coroutines:soon", "in the loop")
    cloister.one_way(domain.create("coroutines:Account").add)("no number")
    wait_until(lambda: len(told) == 3)
    assert {type(event.error) for event in told} == {KeyError, LookupError, TypeError}


# -- asynchronous contexts ---------------------------------------------------------------------------------------------


def test_asynchronous_context_is_entered_with_an_ordinary_with(make: Make) -> None:
    """A synchronous host enters a remote object that has only ``__aenter__`` with ``with``."""
    domain = make()
    account: Any = domain.create("coroutines:Account")
    with account as entered:
        assert entered is account
    with account:
        raise ZeroDivisionError  # swallowed over there
    with pytest.raises(KeyError), account:
        raise KeyError
    assert account.history() == ["entered", "left", "entered", "ZeroDivisionError", "entered", "KeyError"]


# -- the pool ----------------------------------------------------------------------------------------------------------


def test_calls_in_call_backs_do_not_starve_the_pool(make: Make) -> None:
    """Many submitted calls wait in call-backs for one that is submitted after them: it is served all the same."""
    domain = make()
    released = threading.Event()
    waiting = [domain.submit("errands:call", lambda: released.wait(JOIN_S)) for _ in range(30)]
    domain.submit("errands:call", released.set).result(JOIN_S)
    assert all(future.result(JOIN_S) for future in waiting)


def test_getstate_that_waits_for_another_call_does_not_block_the_lane(make: Make, modules: Path) -> None:
    """An answer whose ``__getstate__`` calls the host is encoded without holding up the other answers of its lane."""
    domain = make()
    results: list[Any] = []

    def ask() -> int:
        results.append(domain.submit("operator:add", 1, 1).result(JOIN_S))
        return 5

    sys.path.append(str(modules))
    try:
        importlib.import_module("asking")
    finally:
        sys.path.remove(str(modules))
    future = domain.submit("asking:make", ask)
    assert future.result(JOIN_S).answer == 5
    assert results
    gc.collect()


def test_coroutine_that_never_came_to_a_loop_may_be_cancelled() -> None:
    """Where the domain is about to end, what was begun has failed at once; to cancel it then does nothing."""
    coroutines = Coroutines(Threads())
    coroutines.close()
    told: list[Any] = []

    async def nothing() -> None:
        pass

    started = coroutines.start(nothing(), contextvars.copy_context(), "nothing", lambda *outcome: told.append(outcome))
    started.cancel()
    started.after(0, told.clear)
    ((value, error),) = told
    assert value is None
    assert isinstance(error, CallCancelled)
