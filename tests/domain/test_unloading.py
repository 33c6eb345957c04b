"""Unloading: its event on both sides, from inside, with calls that run or wait, twice, and every use after it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

import cloister
from cloister import aio, events
from cloister.domain.domain import Domain
from cloister.domain.farewell import Farewell
from cloister.errors import DomainCrashed, DomainUnloaded
from cloister.report import Reason
from cloister.wire import packing
from tests.domain.journal import MODULES, Journal, is_running
from tests.patience import wait_until

Make = Callable[..., Domain]
LIMIT_S = 10


# -- the event of the unloading --------------------------------------------------------------------------------------


def test_handler_here_meets_a_working_domain(make: Make) -> None:
    """O06: the handler of `Unloading` calls, creates and evaluates in the domain, which ends only after it."""
    domain = make(on={})
    seen: list[object] = []

    @domain.on(events.Unloading)
    def last_words(event: events.Unloading) -> None:
        customers = domain.create("customers:Customers")
        seen.extend([event.domain, customers.add("Ada"), domain.eval("1 + 1"), domain.submit("os:getpid").result(10)])

    domain.wait_ready()
    domain.unload()
    assert seen == ["subject", 1, 2, domain.pid]
    assert domain.report is not None
    assert domain.report.reason is Reason.UNLOADED


def test_handler_over_there_meets_a_working_domain(make: Make, journal: Journal) -> None:
    """O06: a handler in the domain starts threads and calls the host, which calls it; exit hooks come after it."""
    domain = make()
    told: list[str] = []

    def tell(words: str) -> str:
        told.append(words)
        told.append(domain.call("partings:answer"))
        return "thanks"

    domain.call("partings:tell_before_the_end", tell)
    domain.call("partings:print_at_the_end")
    domain.unload()
    assert told == ["subject: a new thread", "still here"]
    assert journal.lines() == ["unloading subject", "exit subject"]


def test_handlers_here_run_before_those_over_there(make: Make, journal: Journal) -> None:
    """O06: the stated order: the creator's handlers, the domain's own, the exit hooks."""
    order: list[str] = []
    domain = make(on={})
    domain.call("partings:print_at_the_end")
    domain.on(events.Unloading, lambda event: order.append("here"))
    domain.on(events.Output, lambda event: order.append(event.line))
    domain.unload()
    assert order == ["here", "unloading subject", "exit subject"]


def test_handlers_that_raise_delay_nothing(make: Make, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """O06: a handler that raises is logged, here and there; the others run, and the domain ends as unloaded."""

    def broken(event: events.Unloading) -> None:
        raise RuntimeError("no goodbye here")

    domain = make(on={events.Unloading: broken, **journal.all})
    domain.call("partings:raise_before_the_end")
    with caplog.at_level(logging.ERROR):
        domain.unload()
    assert domain.report is not None
    assert domain.report.reason is Reason.UNLOADED
    assert journal.lines() == ["the second"]
    assert "no goodbye here" in caplog.text
    assert "no goodbye" in caplog.text.replace("no goodbye here", "")


@pytest.mark.parametrize("side", ["here", "there"])
def test_handler_that_hangs_is_waited_for_no_longer_than_the_stop(make: Make, side: str) -> None:
    """O06: handlers have `stop_timeout` in all; then the domain is asked to end, and ends."""
    release = threading.Event()
    domain = make(on={events.Unloading: lambda event: release.wait(30)} if side == "here" else {}, stop_timeout=1)
    domain.wait_ready()
    if side == "there":
        domain.call("partings:hang_before_the_end")
        wait_until(lambda: domain._life.farewell.guest_wants)  # it is told on another way than the answer
    begin = time.monotonic()
    try:
        domain.unload()
        assert time.monotonic() - begin < 5
        assert domain.report is not None
        assert domain.report.reason is Reason.UNLOADED
    finally:
        release.set()


@pytest.mark.parametrize("end", ["kill", "crash", "before ready"])
def test_other_ends_have_no_last_moments(make: Make, journal: Journal, end: str) -> None:
    """O06: a domain that is killed, crashes, or was not ready yet is not told to be unloading."""
    domain = make()
    if end != "before ready":
        domain.call("partings:print_at_the_end")
    if end == "crash":
        with pytest.raises(DomainCrashed):
            domain.call("os:_exit", 3)
    elif end == "kill":
        domain.kill()
    else:
        domain.unload()
    journal.wait_for(events.Exited)
    assert journal.of(events.Unloading) == []
    assert journal.lines() == []


def test_crash_in_the_last_moments_ends_them(make: Make) -> None:
    """O06: a domain that crashes while it says goodbye is over at once; its first cause stays the unloading."""
    domain = make(stop_timeout=20)

    @domain.on(events.Unloading)
    def crash(event: events.Unloading) -> None:
        domain.call("os:_exit", 3)

    domain.wait_ready()
    begin = time.monotonic()
    domain.unload()
    assert time.monotonic() - begin < LIMIT_S
    assert domain.report is not None
    assert domain.report.reason is Reason.UNLOADED


def test_unloading_by_an_event_loop_has_its_moments() -> None:
    """O06: `aio.Domain.unload` tells the same; a handler there and one here, and the loop goes on meanwhile."""
    seen: list[str] = []

    async def run() -> None:
        domain = aio.Domain("looped", setup=cloister.Setup(path=[MODULES]), echo=False)
        domain.on(events.Unloading, lambda event: seen.append("here"))
        domain.on(events.Output, lambda event: seen.append(event.line))
        await domain.call("partings:print_at_the_end")
        await domain.unload()

    asyncio.run(run())
    assert seen == ["here", "unloading looped", "exit looped"]


def test_handlers_over_there_run_where_the_stop_is_quicker_than_their_news(
    make: Make, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O06: that a domain has handlers may not have been heard yet when it is unloaded; they run all the same."""
    monkeypatch.setattr(Farewell, "heard", lambda self, wants: None)
    domain = make()
    domain.call("partings:print_at_the_end")
    domain.unload()
    assert journal.lines() == ["unloading subject", "exit subject"]


def test_end_of_the_program_tells_first_its_own_then_the_domains() -> None:
    """S47, O06: at interpreter exit: ProcessExit here, with domains that work; then Unloading, here and there."""
    program = f"""
import cloister
from cloister import events
here = cloister.current_domain()
domain = cloister.Domain("last", setup=cloister.Setup(path=[{MODULES!r}]))
domain.call("partings:print_at_the_end")
domain.on(events.Unloading, lambda event: print("handler here:", domain.call("partings:answer")))

@here.on(events.ProcessExit)
def leave(event):
    print("exit of", event.domain, domain.call("partings:answer"), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "exit of default still here",
        "handler here: still here",
        "unloading last",
        "exit last",
    ]


# -- from inside -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unload", "unload_in_a_coroutine", "unload_in_a_thread", "unload_twice"])
@pytest.mark.parametrize("way", ["call", "submit", "aio"])
def test_domain_unloads_itself_and_its_caller_is_told(how: str, way: str) -> None:
    """O05: unload from inside works, from any thread and in a coroutine; the call that did it gets DomainUnloaded."""
    setup, seen = cloister.Setup(path=[MODULES]), Journal()

    async def call_on_a_loop() -> None:
        async with aio.Domain("self", setup=setup, echo=False, on=seen.all) as domain:
            await domain.call(f"partings:{how}")

    with pytest.raises(DomainUnloaded):  # noqa: PT012 - one call, made in three ways
        if way == "aio":
            asyncio.run(call_on_a_loop())
        else:
            with Domain("self", setup=setup, echo=False, on=seen.all) as domain:
                if way == "submit":
                    domain.submit(f"partings:{how}").result(LIMIT_S)
                else:
                    domain.call(f"partings:{how}")
    report = seen.wait_for(events.Exited).report
    assert (report.reason, report.exit_code) == (Reason.UNLOADED, 0)
    assert seen.kinds()[-2:] == ["Unloading", "Exited"]
    if how == "unload_twice":
        assert seen.lines() == ["returned"]
    elif (how, way) == ("unload", "call"):
        assert seen.lines() == ["unwound"]


def test_domain_with_a_loop_unloads_itself() -> None:
    """O05: so does one whose main thread runs a message loop."""
    setup = cloister.Setup(path=[MODULES], main_loop="asyncio")
    for how in ("unload", "unload_in_a_coroutine"):
        with Domain("loop", setup=setup, echo=False) as domain:
            with pytest.raises(DomainUnloaded):
                domain.call(f"partings:{how}")
            assert domain._life.wait_ended(LIMIT_S)
            assert domain.report is not None
            assert domain.report.reason is Reason.UNLOADED


def test_domain_that_unloads_itself_between_calls_ends_in_order(make: Make, journal: Journal) -> None:
    """O05: a timer of the guest's own ends the domain; later calls are told that it was unloaded."""
    domain = make()
    domain.call("partings:unload_soon")
    journal.wait_for(events.Exited)
    with pytest.raises(DomainUnloaded):
        domain.call("partings:answer")
    with pytest.raises(DomainUnloaded):
        domain.unload()


# -- O05, sentence by sentence ---------------------------------------------------------------------------------------


def test_create_and_unload_in_a_loop(make: Make) -> None:
    """O05: domains are created and unloaded in a loop, one after the other; none of them is left."""
    pids = []
    for number in range(8):
        domain = make(f"one of many {number}", on={})
        assert domain.eval("1") == 1
        pids.append(domain.pid)
        domain.unload()
    assert not any(map(is_running, pids))


@pytest.mark.parametrize("again", [1, 2, 3])
def test_unloading_again_raises_every_time(make: Make, again: int) -> None:
    """O05: unload twice raises DomainUnloaded, and so does every further time."""
    domain = make(on={})
    domain.wait_ready()
    domain.unload()
    for _ in range(again):
        with pytest.raises(DomainUnloaded, match="unloaded before"):
            domain.unload()


def test_two_threads_that_unload_at_once_both_return(make: Make) -> None:
    """O05: of threads that unload at the same time each returns or is told; the domain ends once."""
    for _ in range(3):
        seen = Journal()
        domain = make(on=seen.all)
        domain.wait_ready()
        outcomes: list[object] = []

        def end(one: Domain, outcomes: list[object]) -> None:
            try:
                one.unload()
                outcomes.append(None)
            except DomainUnloaded as error:
                outcomes.append(error)

        threads = [threading.Thread(target=end, args=(domain, outcomes)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        assert len(outcomes) == 4
        assert None in outcomes
        seen.wait_for(events.Exited)
        assert len(seen.of(events.Unloading)) == len(seen.of(events.Exited)) == 1


def test_running_call_ends_with_domain_unloaded(make: Make) -> None:
    """O05: unload with a running call ends that call with DomainUnloaded, on call lanes, shared lanes and streams."""
    domain = make(on={})
    domain.wait_ready()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            domain.call("troubles:sleep", 30)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    future = domain.submit("troubles:sleep", 30)
    wait_until(lambda: len(domain.status().calls) == 2)
    domain.unload()
    thread.join(LIMIT_S)
    assert [type(error) for error in raised] == [DomainUnloaded]
    assert type(future.exception(LIMIT_S)) is DomainUnloaded


@pytest.mark.parametrize("workers", [None, 1])
def test_unload_with_work_queued_returns_promptly(make: Make, workers: int | None) -> None:
    """O05: with a hundred calls queued unload returns long before they could have run; each gets DomainUnloaded."""
    domain = make(on={}, max_concurrency=workers)
    domain.wait_ready()
    futures = [domain.submit("troubles:sleep", 5) for _ in range(100)]
    begin = time.monotonic()
    domain.unload()
    assert time.monotonic() - begin < 5
    assert {type(future.exception(LIMIT_S)) for future in futures} == {DomainUnloaded}


def test_every_use_after_unload_raises_at_once(make: Make) -> None:
    """O05: after unload a call on a proxy raises DomainUnloaded at once, and so does all else; copies live on."""
    domain = make(on={})
    customers = domain.create("customers:Customers")
    customers.add("Ada")
    names = customers.list()
    handle = domain.create_handle("customers:Customers")
    function = domain.eval("len")
    third = make("third", on={}).create("customers:Customers")
    domain.unload()
    uses: list[Callable[[], object]] = [
        lambda: customers.add("Bob"),
        lambda: customers.first,
        lambda: cloister.one_way(customers.add)("Bob"),
        lambda: cloister.submit(customers.add, "Bob"),
        lambda: function([]),
        handle.unwrap,
        lambda: domain.create("customers:Customers"),
        lambda: domain.create_handle("customers:Customers"),
        lambda: domain.call("os:getpid"),
        lambda: domain.submit("os:getpid"),
        lambda: list(domain.map("math:sqrt", [1.0])),
        lambda: domain.run_module("this"),
        lambda: domain.exec("1"),
        lambda: domain.eval("1"),
        lambda: domain.load("this"),
        domain.modules,
        lambda: domain.set_data("a", 1),
        lambda: domain.get_data("a"),
        domain.allocated,
        domain.wait_ready,
        domain.reload,
        lambda: domain.with_options(timeout=5).call("os:getpid"),
    ]
    for number, use in enumerate(uses):
        begin = time.monotonic()
        with pytest.raises(DomainUnloaded):
            use()
        assert time.monotonic() - begin < 2, number
    assert names == ["Ada"]
    assert repr(customers).startswith("<proxy")
    with pytest.raises(DomainUnloaded):
        third.call(customers.list)
    assert domain.status().state == "ended"


# -- this domain's own events ----------------------------------------------------------------------------------------


def test_default_domain_hears_of_its_own_events() -> None:
    """S47: in a host `current_domain().on` tells of exceptions of its threads and tasks, and of modules; each once."""
    program = """
import asyncio, logging, threading
import cloister
from cloister import events
logging.disable(logging.NOTSET)
here = cloister.current_domain()
seen = []
done = threading.Semaphore(0)

def note(event):
    seen.append((event.domain, event.where, str(event.error)))
    done.release()

here.on(events.UnhandledException, note)

@here.on(events.ModuleLoaded)
def loaded(event):
    if event.module == "this":
        seen.append((event.domain, event.module))
        done.release()

def fail(): raise ValueError("lost")
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
async def lose(): await asyncio.wait([asyncio.create_task(coroutine())])
async def coroutine(): raise OSError("dropped")
asyncio.run(lose())
import this
for _ in range(3):
    assert done.acquire(timeout=10)
print(sorted(seen))
here.off(events.UnhandledException, note)
for wrong in (events.Ready, events.Exited, int):
    try:
        here.on(wrong, print)
    except TypeError as error:
        print(str(error)[:21])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[-4:]
    assert lines[0] == "[('default', 'task', 'dropped'), ('default', 'this'), ('default', 'thread worker', 'lost')]"
    assert lines[1:] == ["a domain tells its ow"] * 2 + ["a handler is for a ty"]


def test_guest_hears_of_its_own_exceptions_beside_its_host(make: Make, journal: Journal) -> None:
    """S47: code in a domain and its creator are both told of an exception that nobody handles, once each."""
    domain = make()
    domain.exec(
        "import cloister, threading\nfrom cloister import events\nhere = cloister.current_domain()\n"
        "seen, told = [], threading.Event()\n"
        "@here.on(events.UnhandledException)\n"
        "def note(event):\n    seen.append((event.domain, event.where)); told.set()\n"
    )
    domain.call("happenings:fail_in_thread", "here")
    assert domain.eval("told.wait(10)")
    assert domain.eval("seen") == [("subject", "thread lost")]
    journal.wait_for(events.UnhandledException)
    domain.unload()
    assert len(journal.of(events.UnhandledException)) == 1


# -- without memory --------------------------------------------------------------------------------------------------


def no_memory(*_: object, **__: object) -> None:
    """What happens to whoever wants some."""
    raise MemoryError


@pytest.mark.parametrize("handled", [False, True])
def test_domain_that_cannot_be_asked_is_killed(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, handled: bool
) -> None:
    """Where there is no memory for the message that it is to end, unloading it kills it: who needs room gets it."""
    domain = make(on={events.Unloading: lambda event: None} if handled else {})
    assert domain.call("operator:neg", 1) == -1
    with monkeypatch.context() as patched:
        patched.setattr(packing, "_default", packing.default_packing()._replace(packer=no_memory))
        domain.unload()
    report = domain.report
    assert report is not None
    assert report.reason is Reason.STOP_TIMEOUT
    assert "could not be asked to end: MemoryError" in report.detail
    assert report.pid is None or not is_running(report.pid)
    with pytest.raises(DomainUnloaded):
        domain.call("operator:neg", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="where a domain is a group of processes")
def test_domain_is_killed_whose_descendants_cannot_be_counted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped for that, and must not stay so."""
    domain = make()
    domain.wait_ready()
    monkeypatch.setattr("cloister.levels.process_posix.descendants", no_memory)
    domain.kill()
    assert domain.report is not None
    assert domain.report.reason is Reason.KILLED
    assert domain.report.pid is None or not is_running(domain.report.pid)
