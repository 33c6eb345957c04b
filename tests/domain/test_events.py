"""Events of a domain: typed, once each, in order, to handlers and to streams, never on the way of a call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister import aio, events
from cloister.aio.event_streams import LoopEventStream
from cloister.domain.domain import Domain
from cloister.errors import CallTimeout, DomainUnloaded, LevelUnavailable, StartFailed
from cloister.report import Reason
from tests.domain.journal import MODULES, Journal
from tests.patience import wait_until

Make = Callable[..., Domain]
SETUP = cloister.Setup(path=[MODULES])

needs_monitoring = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")


# -- handlers --------------------------------------------------------------------------------------------------------


def test_events_of_a_whole_life_come_once_and_in_the_stated_order(make: Make, journal: Journal) -> None:
    """S03, S47: connected, ready, unloading, exited: each once, in this order, with the domain's name and pid."""
    domain = make("ordered")
    domain.call("happenings:fail_in_thread", "here")
    journal.wait_for(events.UnhandledException)
    domain.unload()
    journal.wait_for(events.Exited)
    assert journal.kinds() == ["Connected", "Ready", "UnhandledException", "Unloading", "Exited"]
    assert {(event.domain, event.pid) for event in journal.events} == {("ordered", domain.pid)}


def test_on_is_a_decorator_and_gives_the_handler_back(make: Make) -> None:
    """S47: `@domain.on(Type)` adds a handler and leaves the function as it is; `off` ends it, once."""
    domain = make(on={})
    seen: list[str] = []

    @domain.on(events.Output)
    def note(event: events.Output) -> None:
        seen.append(event.line)

    domain.exec("print('one')")
    wait_until(lambda: seen)
    domain.off(events.Output, note)
    domain.exec("print('two')")
    with pytest.raises(LookupError, match="no handler of Output"):
        domain.off(events.Output, note)
    domain.unload()
    assert seen == ["one"]


@pytest.mark.parametrize("wrong", [int, "Exited", None, events.ProcessExit])
def test_what_is_no_event_of_a_domain_is_refused(make: Make, wrong: object) -> None:
    """A handler or a stream is for a type of event; the end of one's own process belongs to `current_domain()`."""
    domain = make(on={})
    with pytest.raises(TypeError, match=r"cloister\.events|current_domain"):
        domain.on(wrong, print)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(TypeError, match=r"cloister\.events|current_domain"):
        domain.events(wrong)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(TypeError, match="can't be called"):
        domain.on(events.Exited, 3)  # type: ignore[call-overload]  # that is the point


def test_coroutine_function_is_no_handler(make: Make) -> None:
    """A handler that somebody would have to await is refused, and the error says what there is instead."""

    async def handle(event: events.Event) -> None:
        raise AssertionError

    domain = make(on={})
    for subscribe in (domain.on, cloister.current_domain().on):
        with pytest.raises(TypeError, match=r"async for event in domain\.events\(UnhandledException\)"):
            subscribe(events.UnhandledException, handle)
    with pytest.raises(TypeError, match="nothing is awaited"):
        make(on={events.Exited: handle})


def test_handler_that_raises_is_logged_and_told(make: Make, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """S47: a handler that raises is an `UnhandledException` of its own; later events and other handlers go on."""

    def broken(event: events.Ready) -> None:
        raise RuntimeError("no room")

    with caplog.at_level(logging.ERROR, "cloister"):
        domain = make(on={events.Ready: broken, **journal.all})
        domain.wait_ready()
        told = journal.wait_for(events.UnhandledException)
        domain.unload()
        journal.wait_for(events.Exited)
    assert (told.where, str(told.error)) == ("a handler of Ready", "no room")
    assert "a handler of Ready raised" in caplog.text
    assert journal.kinds()[-1] == "Exited"


def test_handlers_that_raise_at_everything_end_in_the_log(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A handler of all events that always raises, also at what is told of its raising, stops nothing."""

    def broken(event: events.Event) -> None:
        raise RuntimeError(type(event).__name__)

    domain = make(on={events.Event: broken})
    assert domain.eval("6 * 7") == 42
    domain.unload()
    wait_until(lambda: "RuntimeError: Exited" in caplog.text)
    assert "RuntimeError: UnhandledException" in caplog.text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_handler_that_wants_to_end_its_thread_ends_nothing(
    make: Make, journal: Journal, kind: type[BaseException]
) -> None:
    """S47: `sys.exit()` in a handler, or what else is no Exception, is told as any other; what comes later is told."""

    def leave(event: events.Ready) -> None:
        raise kind("enough")

    domain = make(on={events.Ready: leave, **journal.all})
    domain.exec("print('later')")
    domain.unload()
    journal.wait_for(events.Exited)
    told = journal.of(events.UnhandledException)
    assert [(event.where, type(event.error), str(event.error)) for event in told] == [
        ("a handler of Ready", kind, "enough")
    ]
    assert [event.line for event in journal.of(events.Output)] == ["later"]


def test_handler_of_the_last_moments_that_exits_holds_up_no_end(make: Make, journal: Journal) -> None:
    """O06: `sys.exit()` in a handler of `Unloading`, here or in the domain, is no more than a handler that raises."""
    domain = make(stop_timeout=600, on={events.Unloading: sys.exit, **journal.all})
    domain.exec("import cloister, sys\ncloister.current_domain().on(cloister.events.Unloading, sys.exit)")
    domain.unload()
    assert journal.wait_for(events.Exited).report.reason is Reason.UNLOADED


@pytest.mark.parametrize("kind", [events.Ready, events.Output, events.ModuleLoaded, events.UnhandledException])
def test_domain_is_unloaded_by_a_handler(make: Make, journal: Journal, kind: type[events.Event]) -> None:
    """O05: a handler of any event may unload its domain, and everything ends as it does otherwise."""
    unloaded = threading.Event()
    domain = make(on=journal.all, stop_timeout=600)

    def unload(event: events.Event) -> None:
        domain.unload()
        unloaded.set()

    domain.on(kind, unload)
    with contextlib.suppress(DomainUnloaded):
        domain.exec("import numbers_apart, threading; print('one')")
        cloister.one_way(domain.eval("int"))("no number")
        domain.call("time:sleep", 30)
    assert unloaded.wait(30)
    assert journal.wait_for(events.Exited).report.reason is Reason.UNLOADED
    assert journal.kinds()[-2:] == ["Unloading", "Exited"]


def test_handlers_come_and_go_while_they_are_told(make: Make) -> None:
    """One that takes itself out, puts another one in, or takes out the next, changes what is told from then on."""
    domain = make(on={})
    heard: list[str] = []
    done = threading.Event()

    def once(event: events.Output) -> None:
        heard.append(f"once {event.line}")
        domain.off(events.Output, once)
        domain.on(events.Output, late)

    def late(event: events.Output) -> None:
        heard.append(f"late {event.line}")
        if event.line == "3":
            done.set()

    domain.on(events.Output, once)
    for number in (1, 2, 3):
        domain.exec(f"print({number})")
        wait_until(lambda number=number: any(words.endswith(str(number)) for words in heard))
    assert done.wait(30)
    assert [words for words in heard if words.startswith("once")] == ["once 1"]
    assert heard[-1] == "late 3"


def test_slow_handler_holds_up_no_call(make: Make) -> None:
    """Handlers run on another thread: while one hangs, calls go on."""
    release, entered = threading.Event(), threading.Event()

    def slow(event: events.Output) -> None:
        entered.set()
        release.wait(20)

    domain = make(on={events.Output: slow})
    try:
        domain.exec("print('held up')")
        assert entered.wait(10)
        assert [domain.call("operator:add", number, 1) for number in range(20)] == list(range(1, 21))
    finally:
        release.set()


# -- unhandled exceptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "where", "kind"),
    [
        ("fail_in_thread", "thread lost", LookupError),
        ("fail_in_task", "task", OSError),
        ("fail_in_loop_of_ones_own", "task", OSError),
    ],
)
def test_exception_of_a_thread_or_a_task_is_told_once(
    make: Make, journal: Journal, call: str, where: str, kind: type[Exception]
) -> None:
    """S47: what a thread of the guest's own or a task of any loop raises is told once, and the domain goes on."""
    domain = make()
    domain.call(f"happenings:{call}", "nobody waits")
    domain.call("gc:collect")
    told = journal.wait_for(events.UnhandledException)
    assert (told.where, type(told.error), str(told.error)) == (where, kind, "nobody waits")
    assert domain.eval("1") == 1
    domain.unload()
    assert len(journal.of(events.UnhandledException)) == 1


def test_exception_that_ends_the_domain_is_told_before_its_end(make: Make, journal: Journal) -> None:
    """S47: what the main thread raises between calls is told, and then the end that it makes."""
    make().call("troubles:raise_when_idle", 0.01)
    journal.wait_for(events.Exited)
    told = journal.of(events.UnhandledException)
    assert [(event.where, type(event.error)) for event in told] == [("main thread", ValueError)]


def test_exception_with_a_caller_is_no_event(make: Make, journal: Journal) -> None:
    """S47: what a caller gets is not told; what a one-way call raises is, under its name."""
    domain = make()
    with pytest.raises(ValueError, match="to the caller"):
        domain.call("happenings:fail", "to the caller")
    customers = domain.create("customers:Customers")
    cloister.one_way(customers.boom)()
    told = journal.wait_for(events.UnhandledException)
    assert (told.where, type(told.error)) == ("boom", KeyError)
    assert len(journal.of(events.UnhandledException)) == 1


# -- modules, lookups, every exception -------------------------------------------------------------------------------


def test_loaded_modules_are_told_to_a_late_handler(make: Make) -> None:
    """S47: with `on()` a running domain begins to tell of the modules that it loads; each once."""
    domain = make(on={})
    domain.wait_ready()
    seen = Journal()
    domain.on(events.ModuleLoaded, seen.write)
    domain.load("numbers_apart")
    domain.load("numbers_apart")
    loaded = seen.wait_for(events.ModuleLoaded)
    domain.unload()
    assert loaded.module == "numbers_apart"
    assert loaded.file.endswith("numbers_apart.py")
    assert [event.module for event in seen.of(events.ModuleLoaded)].count("numbers_apart") == 1


def test_failed_lookups_are_told_to_a_stream(make: Make) -> None:
    """S47: a stream of ResolveFailed alone makes the domain tell what it did not find, with who asked."""
    domain = make(on={})
    domain.wait_ready()
    with domain.events(events.ResolveFailed) as stream:
        with pytest.raises(ModuleNotFoundError):
            domain.load("lost_for_ever")
        found = stream.next(10)
    assert found is not None
    assert (found.kind, found.name) == ("module", "lost_for_ever")


@needs_monitoring
@pytest.mark.parametrize("late", [False, True])
def test_every_exception_is_told_once_where_it_was_raised(make: Make, late: bool) -> None:
    """S47: opted in, also those that somebody catches are told, with type, text and place."""
    seen = Journal()
    domain = make(on={} if late else {events.ExceptionRaised: seen.write})
    if late:
        domain.wait_ready()
        domain.on(events.ExceptionRaised, seen.write)
    assert domain.call("happenings:catch", "deep down") == "'deep down'"
    domain.call("happenings:raise_oddly")
    with pytest.raises(ValueError, match="the end"):
        domain.call("happenings:fail", "the end")

    def ours() -> list[events.ExceptionRaised]:
        return [event for event in seen.of(events.ExceptionRaised) if "happenings" in event.file]

    wait_until(lambda: len(ours()) == 3)
    domain.unload()
    first, odd, last = ours()
    assert (first.kind, first.message, first.function) == ("builtins.KeyError", "'deep down'", "catch.<locals>.deep")
    assert (odd.kind, odd.message) == ("happenings.Odd", "<its text raised RuntimeError>")
    assert (last.kind, last.thread) == ("builtins.ValueError", "MainThread")
    assert first.line > 0


@needs_monitoring
def test_flood_of_exceptions_is_bounded_and_the_domain_goes_on(make: Make) -> None:
    """A loop that raises 30,000 exceptions ends, and so does the domain; what can't be told is left out."""
    domain = make(on={events.ExceptionRaised: lambda event: None})
    domain.call("happenings:raise_often", 30_000)
    assert domain.eval("1") == 1


@needs_monitoring
def test_what_is_raised_last_is_told_before_the_end(make: Make) -> None:
    """S47: what waits to be told when the domain is asked to end is told before `Exited`."""
    seen = Journal()
    domain = make(on={events.ExceptionRaised: seen.write, events.Exited: seen.write})
    domain.call("happenings:raise_often", 2000)
    domain.unload()
    seen.wait_for(events.Exited, 30)
    assert len([event for event in seen.of(events.ExceptionRaised) if "happenings" in event.file]) == 2000
    assert seen.kinds()[-1] == "Exited"


def test_watching_modules_changes_no_search(make: Make) -> None:
    """Code that looks whether a module is there finds none, as ever, and the host is asked once."""
    asked: list[str] = []
    domain = make(on={events.ModuleLoaded: lambda event: None})
    domain.on_resolve("module", lambda request: asked.append(request.name))
    domain.exec("import importlib.util")
    assert domain.eval("importlib.util.find_spec('lost_for_ever')") is None
    with pytest.raises(ModuleNotFoundError):
        domain.load("lost_for_ever")
    assert asked == ["lost_for_ever", "lost_for_ever"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python has sys.monitoring")
def test_a_python_that_can_not_tell_every_exception_says_so(make: Make) -> None:
    """Before Python 3.12 asking for ExceptionRaised is an error that says what is needed; nothing is traced."""
    domain = make(on={})
    domain.wait_ready()
    with pytest.raises(LevelUnavailable, match=r"needs Python 3\.12 or later"):
        domain.on(events.ExceptionRaised, print)
    with pytest.raises(LevelUnavailable, match=r"needs Python 3\.12 or later"):
        domain.events(events.ExceptionRaised)
    assert domain.eval("1") == 1
    with pytest.raises((StartFailed, LevelUnavailable), match=r"needs Python 3\.12 or later"):
        make(on={events.ExceptionRaised: print}).wait_ready()


# -- streams ---------------------------------------------------------------------------------------------------------


def test_stream_gives_events_in_order_and_ends_after_the_last(make: Make) -> None:
    """S47: iterating gives the events of the wanted types in order, and ends when the domain has."""
    domain = make(on={})
    stream = domain.events(events.Output, events.Exited)
    domain.exec("print('a'); print('b')")
    domain.unload()
    assert [getattr(event, "line", "end") for event in stream] == ["a", "b", "end"]
    assert stream.next(0) is None
    assert list(domain.events()) == []


def test_stream_of_all_events_begins_with_the_next(make: Make) -> None:
    """Without types a stream gives everything from the moment it was made."""
    domain = make(on={})
    domain.wait_ready()
    stream = domain.events()
    domain.unload()
    assert [type(event).__name__ for event in stream] == ["Unloading", "Exited"]


def test_stream_that_nobody_reads_is_bounded(make: Make) -> None:
    """At most `max_waiting` events wait; the oldest go first, are counted, and the last one is always there."""
    domain = make(on={})
    stream = domain.events(max_waiting=3)
    domain.exec("for number in range(50): print(number)")
    domain.unload()
    left = list(stream)
    assert len(left) == 3
    assert type(left[-1]) is events.Exited
    assert stream.dropped >= 48
    for wrong in (0, True, None):
        with pytest.raises(ValueError, match="max_waiting"):
            domain.events(max_waiting=wrong)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(("wrong", "kind"), [("1", TypeError), (-1, ValueError), (True, TypeError)])
def test_time_for_an_event_is_a_number_of_seconds(make: Make, wrong: Any, kind: type[Exception]) -> None:
    """What is no number of seconds is refused, not waited for."""
    with make(on={}).events(events.Exited) as stream, pytest.raises(kind, match="the time for an event"):
        stream.next(timeout=wrong)


def test_closing_a_stream_ends_who_waits_for_it(make: Make) -> None:
    """A thread that waits for an event is let go when another one closes the stream; a time limit is an error."""
    domain = make(on={})
    domain.wait_ready()
    stream = domain.events(events.Exited)
    with pytest.raises(CallTimeout, match="no event came within"):
        stream.next(0.01)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.extend(stream))
    thread.start()
    stream.close()
    thread.join(10)
    assert not thread.is_alive()
    assert got == []
    stream.close()


def test_forgotten_stream_is_not_kept(make: Make) -> None:
    """A stream that nobody holds costs its domain nothing."""
    domain = make(on={})
    for _ in range(10):
        domain.events()
    gc.collect()
    domain.events()
    assert len(domain._life.subscriptions._streams) == 1


def test_stream_in_a_forked_child_is_over(make: Make) -> None:
    """The events of a domain are told to the process that made it; in a forked child the stream ends."""
    domain = make(on={})
    domain.wait_ready()
    stream = domain.events()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            stream.close()
            os.write(writer, b"over" if list(stream) == [] and list(domain.events()) == [] else b"odd")
        finally:
            os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 10) == b"over"
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    domain.unload()
    assert [type(event) for event in stream] == [events.Unloading, events.Exited]


# -- asyncio ---------------------------------------------------------------------------------------------------------


def test_events_are_iterated_over_on_a_loop() -> None:
    """S47: `async for` gives the events in order and ends with the domain; other tasks run meanwhile."""

    async def read() -> tuple[list[str], int]:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(beat())
        seen = []
        async with aio.Domain("looped", echo=False) as domain:
            stream = domain.events()
            await domain.exec("print('one'); print('two')")
            async for event in stream:
                seen.append(type(event).__name__)
                if getattr(event, "line", "") == "two":
                    break
            async with domain.events(events.Exited) as end:
                await domain.unload()
                seen += [type(event).__name__ async for event in end]
        task.cancel()
        return seen, beats

    seen, beats = asyncio.run(read())
    assert [name for name in seen if name not in ("Connected", "Ready")] == ["Output", "Output", "Exited"]
    assert beats > 3


def test_stream_on_a_loop_is_closed_and_cancelled() -> None:
    """A task that waits for an event can be cancelled, and ends when the stream is closed."""

    async def wait() -> None:
        async with aio.Domain("waited", echo=False) as domain:
            await domain.wait_ready()
            stream = domain.events(events.Exited)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.01)
            waiting = asyncio.create_task(_all(stream))
            await asyncio.sleep(0)
            stream.close()
            assert await waiting == []

    asyncio.run(wait())


async def _all(stream: LoopEventStream[events.Exited]) -> list[events.Exited]:
    return [event async for event in stream]


def test_late_wishes_of_a_loop_do_not_hold_it_up() -> None:
    """On a loop `on` returns at once; the domain begins to tell of loaded modules soon after."""

    async def load() -> str:
        seen = Journal()
        async with aio.Domain("late", setup=SETUP, echo=False) as domain:
            await domain.wait_ready()
            domain.on(events.ModuleLoaded, seen.write)
            for _ in range(500):
                await domain.exec("import sys; sys.modules.pop('numbers_apart', None); import numbers_apart")
                if seen.of(events.ModuleLoaded):
                    break
                await asyncio.sleep(0.01)
        return seen.of(events.ModuleLoaded)[0].module

    assert asyncio.run(load()) == "numbers_apart"


# -- races -----------------------------------------------------------------------------------------------------------


def test_subscribing_while_a_domain_ends_leaves_nobody_waiting(make: Make) -> None:
    """A stream that is made at any moment of an end ends; so does every thread that reads one."""
    for pause in (0.0, 0.002, 0.01):
        domain = make(on={})
        domain.wait_ready()
        killer = threading.Thread(target=domain.kill)
        killer.start()
        time.sleep(pause)
        readers = [threading.Thread(target=lambda one: list(one), args=(domain.events(),)) for _ in range(4)]
        for reader in readers:
            reader.start()
        for thread in (killer, *readers):
            thread.join(10)
            assert not thread.is_alive()
