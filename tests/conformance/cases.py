"""The table: what every way of calling a domain promises. Each case is a coroutine that takes a side.

Cancellation and ends are in `cancellations`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DomainCrashed, MarshalError, RemoteError
from tests.conformance.sides import Side, got

__all__ = ["CANCELLED", "CASES", "Case", "cancel", "case", "goes_on"]

Case = Callable[[Side], Coroutine[Any, Any, None]]
CASES: list[Case] = []

CANCELLED = (concurrent.futures.CancelledError, asyncio.CancelledError)


def case(function: Case) -> Case:
    """Add a case to the table."""
    CASES.append(function)
    return function


async def goes_on(side: Side, domain: Any) -> None:
    """The domain serves the next calls, and none of them gets an answer that was meant for another."""
    for number in range(20):
        assert await got(domain.call("errands:echo", number)) == number
    futures = [domain.submit("errands:echo", number) for number in range(100, 120)]
    assert [await side.result(future) for future in futures] == list(range(100, 120))
    assert domain.state.value == "ready"


async def cancel(side: Side, domain: Any, future: Any) -> None:
    """Cancel a call: its future says so at once, and the domain goes on."""
    assert future.cancel()
    with pytest.raises(CANCELLED):
        await side.result(future)
    assert future.cancelled()
    await goes_on(side, domain)


# -- results and exceptions --------------------------------------------------------------------------------------------


@case
async def values_come_back_as_they_went(side: Side) -> None:
    """Results: every kind of value keeps its type, arguments keep their places."""
    domain = side.new()
    for value in (None, 2**70, -1.5, "ü\ud800", b"x" * 100_000, (1, [2, {"a": {3}}]), frozenset("ab"), range(3)):
        back = await got(domain.call("errands:echo", value))
        assert back == value
        assert type(back) is type(value)
    assert await got(domain.call("builtins:dict", [(1, 2)], a=3)) == {1: 2, "a": 3}
    await got(domain.exec("x = 20"))
    assert await got(domain.eval("x + 1")) == 21


@case
async def objects_stay_and_keep_their_identity(side: Side) -> None:
    """Results: a proxy is the same proxy each time and the object itself at home; attributes, items, handles."""
    domain = side.new()
    box = await got(domain.create("conforming:Box", 1))
    assert await got(box.add(2)) == 3
    assert await got(box.value) == 3
    assert await got(box["ab"]) == "abab"
    assert await got(box.same(box))
    assert await got(domain.call("errands:echo", box)) is box
    handle = await got(domain.create_handle("fractions:Fraction", 1, 3))
    assert str(await got(handle.unwrap())) == "1/3"
    with pytest.raises(AttributeError):
        await got(box.nothing)


@case
async def calls_of_one_caller_keep_their_order(side: Side) -> None:
    """Results: what is called one after the other happens in this order; futures have their own results."""
    domain = side.new()
    touched = await got(domain.create("errands:Touched"))
    for number in range(50):
        await got(touched.touch(number))
    assert await got(touched.all()) == list(range(50))
    futures = [domain.submit("operator:add", number, 1) for number in range(300)]
    assert [await side.result(future) for future in futures] == list(range(1, 301))


@case
async def exceptions_keep_type_cause_notes_and_groups(side: Side) -> None:
    """Exceptions: known types arrive as such, all others as RemoteError, and the domain serves the next call."""
    domain = side.new()
    with pytest.raises(ValueError, match="outer") as caught:
        await got(domain.call("conforming:fail", "cause"))
    assert isinstance(caught.value.__cause__, KeyError)
    assert "a note" in caught.value.__notes__
    with pytest.raises(RemoteError, match="of the guest's own"):
        await got(domain.call("conforming:fail", "strange"))
    with pytest.raises(RemoteError, match="SystemExit"):
        await got(domain.call("conforming:fail", "exit"))
    with pytest.raises(ExceptionGroup) as group:
        await got(domain.call("conforming:fail", "group"))
    assert [type(error) for error in group.value.exceptions] == [ValueError, KeyError]
    box = await got(domain.create("conforming:Box", 1))
    with pytest.raises(LookupError, match="not in the box"):
        await got(box.fail())
    with pytest.raises(MarshalError, match="lock"):
        await got(domain.call("errands:echo", threading.Lock()))
    with pytest.raises(ModuleNotFoundError):
        await got(domain.call("no_such_module:f"))
    assert await got(domain.call("errands:add", 1, 1)) == 2


@case
async def futures_fail_alone(side: Side) -> None:
    """Exceptions: of many submitted calls each has its own outcome."""
    domain = side.new()
    futures = [domain.submit("operator:truediv", 6, number) for number in (1, 0, 2)]
    outcomes: list[Any] = []
    for future in futures:
        try:
            outcomes.append(await side.result(future))
        except ZeroDivisionError:
            outcomes.append("failed")
    assert outcomes == [6.0, "failed", 3.0]


@case
async def map_keeps_order_and_places(side: Side) -> None:
    """Results and exceptions: `map` in order, in chunks, with its exceptions in their places, told of its progress."""
    domain = side.new()
    steps: list[tuple[int, int | None]] = []
    told = domain.map(pow, range(5), [2] * 5, chunksize=2, progress=lambda done, total: steps.append((done, total)))
    assert await side.list(told) == [0, 1, 4, 9, 16]
    assert steps == [(2, 5), (4, 5), (5, 5)]
    mixed = domain.map("operator:floordiv", [4, 4, 4], [1, 0, 2], chunksize=2, return_exceptions=True)
    assert [getattr(type(each), "__name__", "") for each in await side.list(mixed)] == [
        "int",
        "ZeroDivisionError",
        "int",
    ]
    failing = domain.map("operator:floordiv", [4, 4, 4], [1, 0, 2], chunksize=2)
    assert await side.next(failing) == 4
    with pytest.raises(ZeroDivisionError):
        await side.next(failing)


# -- streams -----------------------------------------------------------------------------------------------------------


@case
async def streams_of_the_guest(side: Side) -> None:
    """Streams: in order, from generators and async generators; the exception at its place; `finally` at the close."""
    domain = side.new()
    for source in ("conforming:count", "conforming:tick"):
        assert await side.list(await got(domain.call(source, 3000))) == list(range(3000))
        stream = await got(domain.call(source, 10**9))
        assert [await side.next(stream) for _ in range(3)] == [0, 1, 2]
        await side.close(stream)
        assert await got(domain.call("conforming:noted")) == ["closed"] * (2 if source.endswith("count") else 4)
        with pytest.raises(StopAsyncIteration):
            await side.next(stream)
    failing = await got(domain.call("flows:failing", 5))
    assert [await side.next(failing) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="after 5"):
        await side.next(failing)


@case
async def streams_of_the_host(side: Side) -> None:
    """Streams: a generator among the arguments is read only as far as the guest asks, and is closed when it is left."""
    domain = side.new()
    made: list[int] = []

    def endless() -> Any:
        try:
            while True:
                made.append(len(made))
                yield len(made)
        finally:
            made.append(-1)

    assert await got(domain.call("conforming:read", endless(), 5)) == [1, 2, 3, 4, 5]
    await side.until(lambda: made[-1] == -1, "the generator of the host was closed")
    assert len(made) < 40

    def failing() -> Any:
        yield 1
        raise KeyError("of the host")

    with pytest.raises(KeyError, match="of the host"):
        await got(domain.call("conforming:read", failing(), 5))
    assert await got(domain.call("conforming:read", iter(range(2000)), 5000)) == list(range(2000))


@case
async def stream_of_a_domain_that_dies(side: Side) -> None:
    """Streams: the items that had arrived are given, then the report is raised."""
    domain = side.new()
    stream = await got(domain.call("conforming:crash", 3))
    read: list[int] = []

    async def read_on() -> None:
        while True:
            read.append(await side.next(stream))

    with pytest.raises(DomainCrashed) as caught:
        await read_on()
    assert read == [0, 1, 2][: len(read)]
    assert caught.value.report is domain.report


@case
async def stream_that_never_yields(side: Side) -> None:
    """Streams: a time-out ends the wait for an item that never comes; the domain goes on."""
    domain = side.new()
    mark = side.mark()
    stream = await got(domain.call("conforming:items", str(mark)))
    with cloister.timeout(0.3), pytest.raises(CallTimeout):
        assert [await side.next(stream), await side.next(stream)] == []
    assert await got(domain.call("errands:add", 1, 1)) == 2


# -- call-backs --------------------------------------------------------------------------------------------------------


@case
async def call_backs_of_every_kind(side: Side) -> None:
    """Call-backs: functions, partials, bound methods, shared objects; from the call's thread and from another one."""
    domain = side.new()

    async def double(number: int) -> int:
        return number * 2

    class Ledger:
        def __init__(self) -> None:
            self.sum = 0

        def add(self, number: int) -> int:
            self.sum += number
            return self.sum

    ledger, up = Ledger(), side.back(double)
    assert await got(domain.call("errands:call", up, 4)) == 8
    assert await got(domain.call("errands:call", functools.partial(up, 5))) == 10
    assert await got(domain.call("errands:call", ledger.add, 4)) == 4
    assert await got(domain.call("conforming:from_thread", up, 6)) == [12]
    assert await side.result(domain.submit("errands:call", up, 7)) == 14
    keeper = await got(domain.create("callers:Keeper", cloister.share(ledger)))
    assert await got(keeper.use("add", 6)) == 10


@case
async def exceptions_of_call_backs(side: Side) -> None:
    """Call-backs: what one raises is raised in the guest, and comes back; what it returns must be copied."""
    domain = side.new()

    async def fail() -> None:
        raise LookupError("in the host")

    async def refuse() -> object:
        return threading.Lock()

    for _ in range(3):
        with pytest.raises(LookupError, match="in the host"):
            await got(domain.call("errands:call", side.back(fail)))
        with pytest.raises(MarshalError, match="lock"):
            await got(domain.call("errands:call", side.back(refuse)))
    assert await got(domain.call("errands:add", 1, 1)) == 2


@case
async def call_back_that_calls_the_same_domain(side: Side) -> None:
    """Call-backs: one may use its own domain in every way while the guest waits for it."""
    domain = side.new()

    async def use() -> list[Any]:
        found = [await got(domain.call("errands:add", 1, 2)), await side.result(domain.submit("errands:add", 3, 4))]
        found += await side.list(await got(domain.call("conforming:count", 3)))
        box = await got(domain.create("conforming:Box", 5))
        return [*found, await got(box.add(1))]

    assert await got(domain.call("errands:call", side.back(use))) == [3, 7, 0, 1, 2, 6]
    assert await got(domain.call("conforming:from_thread", side.back(lambda _: use()), 0)) == [[3, 7, 0, 1, 2, 6]]


@case
async def context_of_the_caller_holds_in_call_backs(side: Side) -> None:
    """Call-backs: the context variables of the call, the time left and the logical thread hold in what it leads to."""
    domain = side.new()
    colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")

    async def look() -> list[Any]:
        left = await got(domain.call("errands:time_left"))
        return [colour.get(), left is not None and left <= 30, await got(domain.call("errands:logical_thread"))]

    colour.set("red")
    with cloister.timeout(30):
        found = await got(domain.call("errands:call", side.back(look)))
    assert found[:2] == ["red", True]


# -- nesting -----------------------------------------------------------------------------------------------------------


@case
async def calls_nest_fifty_deep(side: Side) -> None:
    """Nesting: 50 levels of guest and host, on the calling thread, and from a submitted call."""
    domain = side.new()

    async def up(depth: int) -> int:
        return 1 + int(await got(domain.call("conforming:down", depth - 1, back))) if depth else 0

    back = side.back(up)
    assert await got(domain.call("conforming:down", 50, back)) == 50
    assert await side.result(domain.submit("conforming:down", 50, back)) == 50


@case
async def coroutines_nest_fifty_deep(side: Side) -> None:
    """Nesting: the same where the guest's side is a coroutine, which awaits the host."""
    domain = side.new()

    async def up(depth: int) -> int:
        if not depth:
            return 0
        return 1 + int(await side.result(domain.submit("conforming:await_down", depth - 1, back)))

    back = side.back(up)
    depth = 50 if side.name != "threads" else 20  # each of them keeps one of 32 threads of the host
    assert await side.result(domain.submit("conforming:await_down", depth, back)) == depth


@case
async def calls_nest_over_two_domains(side: Side) -> None:
    """Nesting: host to A to host to B and so on, 50 deep, is one logical call."""
    domains = [side.new("a"), side.new("b")]
    seen: set[int] = set()

    async def up(depth: int) -> int:
        seen.add(await got(domains[depth % 2].call("errands:logical_thread")))
        return 1 + int(await got(domains[depth % 2].call("conforming:down", depth - 1, back))) if depth else 0

    back = side.back(up)
    assert await got(domains[1].call("conforming:down", 50, back)) == 50
    assert len(seen) == 1


@case
async def one_place_is_enough_to_nest(side: Side) -> None:
    """Nesting: where one call runs at a time, a call-back that calls again has its place already."""
    domain = side.new(max_concurrency=1)

    async def up(depth: int) -> int:
        return 1 + int(await got(domain.call("conforming:down", depth - 1, back))) if depth else 0

    back = side.back(up)
    assert await got(domain.call("conforming:down", 20, back)) == 20


@case
async def nesting_without_end_is_an_error_of_its_caller(side: Side) -> None:
    """Nesting: a call-back that calls itself for ever ends with RecursionError; the domain goes on."""
    domain = side.new()

    async def up() -> Any:
        return await got(domain.call("errands:call", back))

    back = side.back(up)
    with pytest.raises(RecursionError):
        await got(domain.call("errands:call", back))
    await goes_on(side, domain)


@case
async def coroutines_that_nest_without_end_are_cancelled(side: Side) -> None:
    """Nesting: coroutines have no stack to run out of; giving up the first call ends all of them."""
    if side.name == "threads":
        return  # there each of them keeps a thread of the host, so there is an end
    domain = side.new()
    marks: list[int] = []

    async def up() -> Any:
        marks.append(1)
        return await got(domain.call("conforming:await_host", str(side.mark()), up))

    future = domain.submit("conforming:await_host", str(side.mark()), up)
    await side.until(lambda: len(marks) > 400, "many calls were nested")
    await cancel(side, domain, future)
    await side.until(lambda: not domain.status().calls, "all of them are over")
