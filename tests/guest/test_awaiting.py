"""Coroutines of a guest that await the host: progress, many at once, nested, given up, at the end of the domain."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import cloister
import cloister.aio
from cloister import calling, waits
from cloister.errors import CallTimeout
from tests.patience import wait_until

Make = Callable[..., cloister.Domain]
JOIN_S = 20.0


class Box:
    """An object of the host's."""

    def __init__(self) -> None:
        self.content = [0, 0, 0]

    def put(self, value: int) -> str:
        """Keep a value."""
        self.content.append(value)
        return "kept"

    def get(self) -> int:
        """The value that was kept last."""
        return self.content[-1]

    def __len__(self) -> int:
        return len(self.content)

    def __iter__(self) -> Any:
        return iter(self.content)

    def __contains__(self, value: object) -> bool:
        return value in self.content


def test_coroutine_awaits_a_call_back(make: Make) -> None:
    """A call-back that is passed into an ``async def`` is awaited there, and called in order."""
    domain = make()
    told: list[int] = []

    def tell(step: int) -> int:
        told.append(step)
        return step * 2

    assert domain.call("coroutines:progress", tell, 50) == [2 * step for step in range(50)]
    assert told == list(range(50))
    assert domain.submit("coroutines:progress", tell, 3).result(JOIN_S) == [0, 2, 4]
    with pytest.raises(KeyError, match="'no'"):
        domain.call("coroutines:progress", lambda step: dict[str, int]()["no"], 1)


def test_loop_goes_on_while_the_host_works(make: Make) -> None:
    """The guest's loop turns while one of its tasks waits for the host, which serves the call on another thread."""
    domain = make()
    served: list[str] = []

    def slow() -> None:
        served.append(threading.current_thread().name)
        until = time.monotonic() + JOIN_S
        while domain.call("coroutines:echo", 1) == 1 and len(served) < 20:
            served.append("nested")
            assert time.monotonic() < until

    assert domain.call("coroutines:ticking", slow) > 0
    assert "calls" in served[0]


def test_thousand_questions_at_once(make: Make) -> None:
    """1,000 calls to the host are open at once from one task, served by a bounded crew, each with its own answer."""
    domain = make()
    running, most, lock = 0, 0, threading.Lock()

    def ask(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return number + 1
        finally:
            with lock:
                running -= 1

    assert domain.call("coroutines:together", ask, 1000) == list(range(1, 1001))
    assert most <= 32


def test_nested_awaits_to_a_depth(make: Make) -> None:
    """Coroutine and call-back call each other 20 deep; the logical thread stays the same."""
    domain = make()
    logical = set()

    def up(depth: int) -> int:
        logical.add(calling.logical_thread())
        return int(domain.call("coroutines:descend", up, depth))

    assert up(20) == 20
    assert len(logical) == 1


def test_object_of_the_host_in_a_coroutine(make: Make) -> None:
    """Methods are awaited; ``len``, ``in`` and ``for`` are refused with the way out."""
    domain = make()
    assert domain.call("coroutines:use", cloister.share(Box())) == ["kept", 1, True, True, True, 4]


def test_streams_of_the_host_are_read_in_a_coroutine(make: Make) -> None:
    """``async for`` reads a generator and an iterable of a host without a loop; ``for`` is refused, and names it."""
    domain = make()
    many = (number * number for number in range(1000))
    read = domain.call("coroutines:read_through", many, cloister.share(range(3)), iter("ab"))
    assert read == [True, [number * number for number in range(1000)], True, [0, 1, 2], True, ["a", "b"]]


def test_calls_of_the_host_become_tasks(make: Make) -> None:
    """`TaskGroup.create_task` takes a call of the host's object, as it takes the coroutine of an ``async def``."""
    assert make().call("coroutines:as_tasks", lambda number: number + 1) == [1, 2, 3]


def test_plain_function_in_a_coroutine_gets_the_future(make: Make) -> None:
    """A plain function gets a future inside a task; in a thread of `asyncio.to_thread` it gets the result."""
    domain = make()
    assert domain.call("coroutines:by_helper", lambda number: number + 1) == [True, 8, 8]


def test_loops_of_the_guests_own(make: Make) -> None:
    """Code that runs `asyncio.run` itself awaits the host as well; each loop's lane goes with it."""
    domain = make()
    before = len(os.listdir(f"/proc/{domain.pid}/fd"))
    assert domain.call("coroutines:own_loop", lambda number: number, 20) == [3] * 20
    assert len(os.listdir(f"/proc/{domain.pid}/fd")) <= before + 4
    here = len(os.listdir("/proc/self/fd"))
    assert domain.call("coroutines:own_loop", lambda number: number, 20) == [3] * 20
    end = time.monotonic() + JOIN_S
    while len(os.listdir("/proc/self/fd")) > here:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_call_of_the_host_is_given_up(make: Make) -> None:
    """`asyncio.wait_for` and `cloister.timeout` end the wait in the guest; the host's function goes on to its end."""
    domain = make()
    release, ended = threading.Event(), threading.Semaphore(0)

    def slow() -> None:
        release.wait(JOIN_S)
        ended.release()

    assert domain.call("coroutines:give_up", slow) == ["TimeoutError", "CallTimeout"]
    release.set()
    for _ in range(2):
        assert ended.acquire(timeout=JOIN_S)
    assert domain.call("coroutines:progress", lambda step: step, 1) == [0]


def test_time_out_of_the_host_ends_a_task_that_awaits_it(make: Make) -> None:
    """A call that times out while its coroutine awaits the host is cancelled there."""
    domain = make()
    release = threading.Event()
    begun = threading.Event()

    def never() -> None:
        begun.set()
        release.wait(JOIN_S)

    domain.call("coroutines:progress", lambda step: step, 1)
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.5).call("coroutines:wait_for_host", never)
    assert begun.wait(JOIN_S)
    notes: list[Any] = []
    end = time.monotonic() + JOIN_S
    while "CancelledError" not in notes and "CallTimeout" not in notes:
        notes += domain.call("coroutines:notes")
        assert time.monotonic() < end
        time.sleep(0.005)
    release.set()


def test_value_that_cannot_travel_fails_the_future(make: Make) -> None:
    """What can't be sent to the host is the future's MarshalError, and the lane goes on."""
    domain = make()
    assert domain.call("coroutines:send_what_cannot_travel", lambda value: value) == "MarshalError"
    assert domain.call("coroutines:progress", lambda step: step, 1) == [0]


@pytest.mark.parametrize("end", ["unload", "kill"])
def test_domain_ends_while_its_loop_awaits_the_host(make: Make, end: str) -> None:
    """O05: A domain that ends while coroutines of it await the host leaves nothing behind, and its callers are told."""
    domain = make(stop_timeout=5)
    begun, release = threading.Semaphore(0), threading.Event()

    def slow(number: int) -> None:
        begun.release()
        release.wait(3 * JOIN_S)

    future = domain.submit("coroutines:together", slow, 20)
    for _ in range(20):
        assert begun.acquire(timeout=JOIN_S)
    getattr(domain, end)()
    try:
        with pytest.raises((cloister.DomainUnloaded, cloister.DomainCrashed)):
            future.result(JOIN_S)
        wait_until(lambda: not waits._graph.loose)  # no strand is uncertain for the sake of what has gone
    finally:
        release.set()


def test_main_loop_awaits_the_host(make: Make, modules: Any) -> None:
    """The tasks of an asyncio loop on the main thread await the host like those of any loop."""
    domain = make(setup=cloister.Setup(path=[modules], main_loop="asyncio"))
    assert domain.call("coroutines:progress", lambda step: domain.call("coroutines:echo", step), 5) == [0, 1, 2, 3, 4]
    assert domain.call("coroutines:together", lambda number: number, 100) == list(range(100))


def test_host_with_a_loop_is_awaited_by_its_guest(modules: Any) -> None:
    """A guest's coroutine awaits call-backs of an asyncio host, coroutines and functions, also nested in each other."""

    async def main() -> None:
        async with cloister.aio.Domain("awaited", setup=cloister.Setup(path=[modules]), echo=False) as domain:
            loop = asyncio.get_running_loop()

            async def tell(step: int) -> int:
                assert asyncio.get_running_loop() is loop
                await asyncio.sleep(0)
                return step * 2

            async def up(depth: int) -> int:
                return int(await domain.call("coroutines:descend", up, depth))

            assert await domain.call("coroutines:progress", tell, 5) == [0, 2, 4, 6, 8]
            assert await domain.call("coroutines:progress", lambda step: step, 3) == [0, 1, 2]
            assert await domain.call("coroutines:together", tell, 300) == [2 * step for step in range(300)]
            assert await up(12) == 12
            account: Any = await domain.create("coroutines:Account")
            async with account:
                assert await account.add(3) == 3
            assert await account.history() == ["entered", "left"]

    asyncio.run(main())


ASK = """
import threading, coroutines
told = []

def begin(ask):
    def run():
        try:
            coroutines.own_loop(ask, 1)
        except Exception as error:
            told.append(str(error))
    threading.Thread(target=run, daemon=True).start()
"""


@pytest.mark.parametrize("begun", [True, False])
def test_loop_of_the_host_is_closed_while_it_is_awaited(
    modules: Any, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """A loop that is closed without ceremony answers nothing, neither what it ran nor what it was to run: whoever
    awaits that in the guest is told so."""
    monkeypatch.setattr("cloister.aio.callbacks.MIND_S", 0.01)
    loop, asked = asyncio.new_event_loop(), asyncio.Event()
    domain = cloister.aio.Domain("awaited", setup=cloister.Setup(path=[modules]), echo=False)
    tasks: list[Any] = []

    async def ask(step: int) -> None:
        tasks.append(asyncio.current_task())
        asked.set()
        await asyncio.Event().wait()

    async def begin() -> None:
        await domain.exec(ASK)
        await domain.call("__cloister__:begin", ask)
        if begun:
            await asked.wait()

    async def hear() -> None:
        while not (told := await domain.eval("told")):
            await asyncio.sleep(0.01)
        assert "no event loop of the host" in told[0]
        await domain.unload()

    threads: Any = domain._life.guest_threads
    loop.run_until_complete(begin())
    if not begun:
        wait_until(lambda: bool(threads._open_shared))
    loop.close()
    asyncio.run(asyncio.wait_for(hear(), JOIN_S))
    assert bool(tasks) == begun
    assert not waits._graph.loose
    for task in tasks:
        task._log_destroy_pending = False
