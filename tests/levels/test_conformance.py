"""One suite over all levels: what works at one works at each, with the same results (S14)."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import threading
import weakref
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister import events
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.errors import (
    CallTimeout,
    CannotUnload,
    DomainUnloaded,
    MarshalError,
    RemoteError,
    StartFailed,
)
from cloister.levels.watcher import watcher
from tests.patience import wait_until

Make = Callable[..., Domain]

VALUES: list[Any] = [
    None,
    True,
    2**200,
    1.5,
    2j,
    "text \ud55c",
    b"bytes",
    bytearray(b"changeable"),
    [1, [2, (3,)]],
    {"a": {1: "b"}, (1, 2): None},
    {1, 2},
    frozenset({3}),
    range(2, 9, 3),
    datetime.datetime(2001, 12, 2, 3, 4, 5),
    Decimal("1.10"),
    Path("/somewhere"),
]


def test_values_keep_their_types(domain: Domain) -> None:
    """S14: what can be copied comes back equal and of the same type."""
    for value in VALUES:
        back = domain.call("conformance:echo", value)
        assert back == value
        assert type(back) is type(value)


def test_an_argument_is_a_copy(domain: Domain) -> None:
    """S14: changing an argument over there changes nothing here."""
    mine = [1]
    assert domain.call("conformance:change", mine) == [1, 99]
    assert mine == [1]


def test_objects_live_over_there(domain: Domain) -> None:
    """S14: constructor, methods, special methods; a proxy that comes home is the object itself."""
    till = domain.create("conformance:Till", 5, step=2)
    assert cloister.is_proxy(till)
    assert till.add(1, 2) == 11
    assert (len(till), till[1], 2 in till, till.total) == (2, 2, True, 11)
    assert till.itself() is till
    assert till.is_same(till)
    second = domain.create("conformance:Till")
    assert not till.is_same(second)
    assert second.add(1) == 1


def test_a_handle_gives_a_copy_or_a_proxy(domain: Domain) -> None:
    """S14: `unwrap` copies a by-value type and gives a proxy of a by-reference one."""
    handle = domain.create_handle("conformance:Till", 3)
    assert cloister.is_proxy(handle)
    till = handle.unwrap()
    assert cloister.is_proxy(till)
    assert till.add(1) == 4
    with pytest.raises(MarshalError):
        domain.create_handle("threading:Lock").unwrap()


def test_a_copy_is_nobody_elses(make: Make) -> None:
    """S40: at each level two copies of one object, and the object itself, change apart."""
    import conformance  # type: ignore[import-not-found]  # the fixture puts it on the path

    domain = make()
    handle = domain.create_handle("conformance:ConformancePoint", 1, y=2)
    first, second = handle.unwrap(), handle.unwrap()
    assert not cloister.is_proxy(first)
    first.x = 10
    assert (second.x, handle.unwrap().x) == (1, 1)
    assert domain.call("conformance:echo", conformance.ConformancePoint(4)) == conformance.ConformancePoint(4)


def test_exceptions_arrive_whole(domain: Domain) -> None:
    """S14: type, text, note, cause and remote traceback; what nobody knows here is a RemoteError."""
    with pytest.raises(ValueError, match="bad x") as caught:
        domain.call("conformance:fail", "x")
    assert "a note" in caught.value.__notes__
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(RemoteError, match="unknown over there"):
        domain.call("conformance:trouble")
    with pytest.raises(RemoteError, match="SystemExit"):
        domain.call("conformance:leave", 3)
    assert domain.call("conformance:echo", "still there") == "still there"


def test_call_backs_nest_on_one_thread(domain: Domain) -> None:
    """S14: a call-back runs on the thread that waits, and may call again."""
    threads: set[int] = set()

    def up(depth: int) -> int:
        threads.add(threading.get_ident())
        return int(domain.call("conformance:down", depth, up))

    assert domain.call("conformance:down", 12, up) == 12
    assert threads == {threading.get_ident()}


def test_a_thread_of_the_guests_own_calls_back(domain: Domain) -> None:
    """S14: threads that the guest has started call the host too."""
    assert domain.call("conformance:from_own_thread", lambda number: number + 1) == 8


def test_an_exception_of_a_call_back_goes_through(domain: Domain) -> None:
    """S14: what a call-back raises passes the guest and arrives here."""

    def bad() -> None:
        raise LookupError("from the host")

    with pytest.raises(LookupError, match="from the host"):
        domain.call("conformance:nested_call", bad)


def test_a_host_thread_keeps_its_guest_thread(domain: Domain) -> None:
    """S14: each thread here faces one thread there, and the logical thread is the caller's."""
    first = domain.call("conformance:thread_id")
    assert domain.call("conformance:thread_id") == first
    others: list[int] = []
    thread = threading.Thread(target=lambda: others.append(domain.call("conformance:thread_id")))
    thread.start()
    thread.join(20)
    assert others != [first]
    assert domain.call("conformance:logical") == cloister.logical_thread()


def test_streams(domain: Domain) -> None:
    """S14: a generator is read as it comes; one that is closed early runs its `finally`."""
    assert list(domain.call("conformance:numbers", 300)) == list(range(300))
    stream = domain.call("conformance:numbers", 1_000_000)
    assert [next(stream), next(stream)] == [0, 1]
    stream.close()
    closed: list[str] = []

    def both_closed() -> bool:
        closed.extend(domain.call("conformance:take_closed"))
        return len(closed) == 2

    wait_until(both_closed)


def test_submit_and_map(domain: Domain) -> None:
    """S14: futures, maps with several columns, exceptions as results, coroutines."""
    futures = [domain.submit("conformance:echo", number) for number in range(50)]
    assert [future.result(20) for future in futures] == list(range(50))
    assert list(domain.map("operator:add", range(20), range(20), chunksize=3)) == [2 * each for each in range(20)]
    results = list(domain.map("conformance:half", range(4), return_exceptions=True))
    assert results[::2] == [0, 1]
    assert [type(result) for result in results[1::2]] == [ValueError, ValueError]
    assert domain.call("conformance:later", 4) == 8
    assert [each.result(20) for each in [domain.submit("conformance:later", n) for n in range(5)]] == [0, 2, 4, 6, 8]


def test_exec_and_programs(domain: Domain, tmp_path: Path) -> None:
    """S14: a namespace that lasts, code of ours that travels, a program's exit code."""
    domain.exec("total = sum(range(10))")
    assert domain.eval("total") == 45
    assert domain.call(lambda a: a * 2, 21) == 42
    program = tmp_path / "program.py"
    program.write_text("import sys\nraise SystemExit(int(sys.argv[1]))\n")
    assert domain.run_path(program, ["7"]) == 7


def test_who_runs_where(make: Make) -> None:
    """S14: the code of each domain knows its own, on all its threads; the host's stays the default one."""
    first, second = (make(name, setup=Setup(config={"colour": name + "ish"})) for name in ("red", "blue"))
    for domain in (first, second):
        assert domain.call("conformance:who") == (domain.name, domain.id, False, domain.name + "ish")
        assert domain.submit("conformance:who").result(20)[0] == domain.name
        assert list(domain.map("conformance:who_later", range(2))) == [f"{domain.name}0", f"{domain.name}1"]
        assert domain.call("conformance:nested_call", lambda: cloister.current_domain().name) == "default"
    assert cloister.current_domain().is_default


def test_data_slots_are_each_domains_own(make: Make) -> None:
    """O08: a slot is read and written from both sides, and empty in another domain."""
    first, second = make("first"), make("second")
    first.call("conformance:remember", 5)
    assert (first.get_data("kept"), second.get_data("kept")) == (5, None)
    assert cloister.current_domain().get_data("kept") is None


def test_time_is_up(domain: Domain) -> None:
    """S14: a call that runs too long is stopped there, and the domain goes on."""
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.2).call("conformance:spin")
    assert domain.call("conformance:echo", 1) == 1


def test_a_nested_call_shares_the_time(domain: Domain) -> None:
    """S14: a call in a call-back stops with the call around it."""
    with pytest.raises(CallTimeout), cloister.timeout(0.3):
        domain.call("conformance:nested_call", lambda: domain.call("conformance:spin"))
    assert domain.call("conformance:echo", 1) == 1


def test_a_future_is_cancelled(domain: Domain, tmp_path: Path) -> None:
    """S14: cancelling a running call frees its thread."""
    told = tmp_path / "told"
    future = domain.submit("conformance:spin_and_say", str(told))
    wait_until(told.exists)
    assert future.cancel()
    assert domain.submit("conformance:echo", 2).result(20) == 2


def test_events_in_their_order(make: Make) -> None:
    """S03, S47: connected, ready, the exception that nobody waited for, exited: each once, with name and pid."""
    seen: list[events.Event] = []
    domain = make("told", on={events.Event: seen.append})
    cloister.one_way(domain.create("conformance:Till").add)("not a number")
    wait_until(lambda: any(isinstance(event, events.UnhandledException) for event in seen))
    domain.unload()
    kinds = [type(event).__name__ for event in seen if not isinstance(event, events.Output)]
    assert kinds == ["Connected", "Ready", "UnhandledException", "Unloading", "Exited"]
    assert {(event.domain, event.pid) for event in seen} == {("told", domain.pid)}


def test_unload_is_once(make: Make) -> None:
    """O05: a second unload raises; every use after it raises at once."""
    domain = make()
    till = domain.create("conformance:Till")
    domain.unload()
    with pytest.raises(DomainUnloaded):
        domain.unload()
    with pytest.raises(DomainUnloaded):
        till.add(1)
    with pytest.raises(DomainUnloaded):
        domain.submit("conformance:echo", 1)
    assert domain.report is not None
    assert domain.report.reason.value == "unloaded"
    assert domain.state.value == "ended"


def test_unload_ends_what_runs(make: Make, tmp_path: Path) -> None:
    """O05: calls on any lane end with DomainUnloaded, and unload returns."""
    domain = make()
    files = [tmp_path / f"{number}" for number in range(3)]
    errors: list[BaseException] = []
    spin = (errors, domain.call, "conformance:spin_and_say")
    threads = [threading.Thread(target=_keep_error, args=(*spin, str(path))) for path in files[:2]]
    for thread in threads:
        thread.start()
    future = domain.submit("conformance:spin_and_say", str(files[2]))
    for path in files:
        wait_until(path.exists)
    domain.unload()
    for thread in threads:
        thread.join(20)
    assert [type(error) for error in errors] == [DomainUnloaded, DomainUnloaded]
    assert type(future.exception(20)) is DomainUnloaded


def test_unload_with_work_queued(make: Make, tmp_path: Path) -> None:
    """O05: calls that wait for their turn do not hold up the end."""
    domain = make(max_concurrency=1)
    told = tmp_path / "told"
    first = domain.submit("conformance:spin_and_say", str(told))
    rest = [domain.submit("conformance:echo", number) for number in range(100)]
    wait_until(told.exists)
    domain.unload()
    assert {type(future.exception(20)) for future in (first, *rest)} == {DomainUnloaded}


def test_unload_from_a_call_back(make: Make) -> None:
    """O05: a call-back unloads the domain that made it; the call around it ends."""
    domain = make()
    with pytest.raises(DomainUnloaded):
        domain.call("conformance:nested_call", domain.unload)
    assert domain.state.value == "ended"


def test_an_initializer_that_fails(make: Make) -> None:
    """S14: the start fails with what the initializer raised, at each level."""
    domain = make(setup=Setup(initializer="conformance:stop_by_raising", initargs=["no way"]))
    with pytest.raises(StartFailed, match="no way") as caught:
        domain.wait_ready()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.report is not None
    assert caught.value.report.reason.value == "start failed"


def test_a_domain_that_refuses_to_end(make: Make, tmp_path: Path, level: str) -> None:
    """O05: within this process `CannotUnload` after the deadline, and again; a process is killed. Both are bounded."""
    told, free = tmp_path / "told", tmp_path / "free"
    domain = make("mule", stop_timeout=0.2)
    errors: list[BaseException] = []
    thread = threading.Thread(
        target=_keep_error, args=(errors, domain.call, "conformance:stubborn", str(told), str(free))
    )
    thread.start()
    wait_until(told.exists)
    if level == "process":
        domain.unload()
        thread.join(20)
        assert domain.report is not None
        assert domain.report.reason.value == "stop time-out"
        return
    for _ in range(2):
        with pytest.raises(CannotUnload, match="mule"):
            domain.unload()
    thread.join(20)
    assert [type(error) for error in errors] == [DomainUnloaded]
    with pytest.raises(DomainUnloaded):
        domain.call("conformance:echo", 1)
    free.touch()
    assert domain._life.wait_ended(20)
    assert domain.state.value == "ended"


def test_the_same_from_an_event_loop(level: str, modules: None) -> None:
    """S14: `cloister.aio` gives the same results at each level."""

    async def main() -> tuple[Any, ...]:
        async with cloister.aio.Domain("loop", level=level) as domain:
            till = await domain.create("conformance:Till", 2)
            sums = await asyncio.gather(*(till.add(1) for _ in range(10)))
            halves = [each async for each in domain.map("conformance:half", range(0, 6, 2))]
            return max(sums), await domain.call("conformance:later", 3), halves, await domain.submit("math:sqrt", 9)

    assert asyncio.run(main()) == (12, 6, [0, 1, 2], 3.0)


@pytest.mark.usefixtures("by_exec")
def test_thirty_in_a_row_leave_nothing(level: str, modules: None) -> None:
    """S48: threads and descriptors are flat over many domains, and everything of one is freed."""
    dead: list[weakref.ref[Any]] = []
    count = 30 if level == "thread" else 6
    figures: list[tuple[int, int]] = []
    for number in range(count):
        domain = Domain(f"n{number}", level=level)
        till = domain.create("conformance:Till")
        till.add(1)
        dead += [weakref.ref(domain), weakref.ref(till), weakref.ref(domain._life)]
        domain.unload()
        del domain, till
        if os.path.isdir("/proc/self/fd"):
            figures.append((len(os.listdir("/proc/self/fd")), number))
    gc.collect()
    wait_until(lambda: gc.collect() >= 0 and not any(each() for each in dead))
    assert max(open_ for open_, _ in figures[2:]) <= figures[1][0] + 4


def test_unloading_what_has_ended_holds_nothing(level: str, modules: None) -> None:
    """S48: who waits for an end that came before leaves nothing with the watcher, which would hold the domain."""
    domain = Domain("over", level=level)
    domain.unload()
    assert watcher.wait_ended(30)
    domain._life.unload()
    dead: list[weakref.ref[Any]] = [weakref.ref(domain), weakref.ref(domain._life)]
    del domain
    wait_until(lambda: gc.collect() >= 0 and not any(each() for each in dead), 30)


def _keep_error(errors: list[BaseException], call: Callable[..., object], *args: object) -> None:
    """Call, and keep what is raised."""
    try:
        call(*args)
    except BaseException as error:
        errors.append(error)
