"""From an event loop: one awaited call at a time, and 1,000 gathered at once.

One at a time is held against a bare protocol of uvloop: MessagePack with a length before it, a future for the answer,
and a child that reads with a blocking socket. Gathered calls are held against what encoding and dispatching alone cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import msgpack

import cloister
import cloister.aio
from benchmarks import dispatch, harness, peers
from benchmarks.harness import Entered, Table

CALLS = 200
ROUNDS = 12
GATHERED = 1000
CALL_AIM = 1.5
GATHER_AIM = 3.33
"""A third of the calls per second that encoding and dispatching alone allow."""

Call = Callable[[int], Awaitable[Any]]


def run() -> Iterator[Table]:
    """One table of single calls for each placement, and one of gathered calls."""
    for placement in harness.placements():
        yield harness.contest(
            "Async: await add(int) -> int",
            {
                "uvloop protocol": partial(_looped, "uvloop", _protocol, _one_by_one),
                "cloister.aio on uvloop": partial(_looped, "uvloop", _domain, _one_by_one),
                "asyncio protocol": partial(_looped, "asyncio", _protocol, _one_by_one),
                "cloister.aio on asyncio": partial(_looped, "asyncio", _domain, _one_by_one),
            },
            rounds=harness.rounds(ROUNDS),
            placement=placement,
            aims={"cloister.aio on uvloop": CALL_AIM},
        )
    yield harness.contest(
        f"Async: one of {GATHERED:,} calls that are gathered",
        {
            "encode + dispatch": partial(dispatch.dispatched, GATHERED),
            "cloister.aio on uvloop": partial(_looped, "uvloop", _domain, _gathered),
            "cloister.aio on asyncio": partial(_looped, "asyncio", _domain, _gathered),
            "uvloop protocol": partial(_looped, "uvloop", _protocol, _gathered),
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        aims={"cloister.aio on uvloop": GATHER_AIM},
        extra=lambda _, seconds: {"calls/s": 1 / seconds},
    )


@contextlib.contextmanager
def _looped(
    loop: str,
    opened: Callable[[], contextlib.AbstractAsyncContextManager[tuple[Call, int]]],
    measured: Callable[[Call], Awaitable[list[float]]],
) -> Iterator[Entered]:
    """A contestant on a loop of its own, which runs only while it is measured."""
    factory = harness.need("uvloop").new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        stack = contextlib.AsyncExitStack()
        call, pid = runner.run(stack.enter_async_context(opened()))

        async def measure() -> list[float]:
            return await measured(call)

        try:
            yield lambda: runner.run(measure()), [pid]
        finally:
            runner.run(stack.aclose())


async def _one_by_one(call: Call) -> list[float]:
    clock = time.perf_counter
    times = []
    for number in range(CALLS):
        begun = clock()
        result = await call(number)
        times.append(clock() - begun)
        assert result == number + 1
    return times


async def _gathered(call: Call) -> list[float]:
    begun = time.perf_counter()
    results = await asyncio.gather(*[call(number) for number in range(GATHERED)])
    took = time.perf_counter() - begun
    assert results == list(range(1, GATHERED + 1))
    return [took / GATHERED]


@contextlib.asynccontextmanager
async def _domain() -> AsyncIterator[tuple[Call, int]]:
    async with cloister.aio.Domain("bench") as domain:
        adder = await domain.create(peers.ADDER)
        await adder.add(1)
        assert domain.pid is not None
        yield adder.add, domain.pid


# -- the bare protocol -------------------------------------------------------------------------------------------------


class _Bare(asyncio.Protocol):
    """The client's side: frames with a length, and a future for each call."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._data = b""
        self._calls = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def call(self, number: int) -> asyncio.Future[Any]:
        self._calls += 1
        future = self._waiting[self._calls] = asyncio.get_running_loop().create_future()
        body = msgpack.packb([self._calls, "add", [number], {}])
        self._transport.write(struct.pack("<I", len(body)) + body)
        return future

    def data_received(self, data: bytes) -> None:
        messages, self._data = split(self._data + data)
        for number, result in messages:
            self._waiting.pop(number).set_result(result)


def split(data: bytes) -> tuple[list[Any], bytes]:
    """The messages in `data`, and what is left of it."""
    messages, at = [], 0
    while len(data) - at >= 4:
        end = at + 4 + struct.unpack_from("<I", data, at)[0]
        if end > len(data):
            break
        messages.append(msgpack.unpackb(data[at + 4 : end]))
        at = end
    return messages, data[at:]


def serve(fd: int) -> None:
    """The other side: answer until the end; all answers to what came together leave together."""
    methods, data = {"add": peers.Adder().add}, b""
    with socket.socket(fileno=fd) as link:
        while received := link.recv(65536):
            messages, data = split(data + received)
            answers = [msgpack.packb([number, methods[name](*args)]) for number, name, args, _ in messages]
            link.sendall(b"".join(struct.pack("<I", len(answer)) + answer for answer in answers))


@contextlib.asynccontextmanager
async def _protocol() -> AsyncIterator[tuple[Call, int]]:
    ours, theirs = socket.socketpair()
    code = f"from {__name__} import serve; serve({theirs.fileno()})"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], env={**os.environ})
    theirs.close()
    transport, protocol = await asyncio.get_running_loop().create_connection(_Bare, sock=ours)
    try:
        assert await protocol.call(1) == 2
        yield protocol.call, process.pid
    finally:
        transport.close()
        await asyncio.sleep(0)
        process.wait(10)
