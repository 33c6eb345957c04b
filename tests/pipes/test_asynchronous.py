"""What is special about pipes for asyncio; what they share with all others is in test_conformance.py."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cloister import aio, pipes
from cloister.errors import (
    NotConnected,
    PipeBusy,
    PipeCancelled,
    PipeClosed,
    PipeError,
    PipeTimeout,
)
from tests.pipes import descriptors
from tests.pipes.ends import fresh_name, is_here

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end, in each kind of loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if request.param == "uvloop":
        if not is_here("uvloop"):
            pytest.skip("uvloop is not installed on this Python: pip install uvloop")
        import uvloop

        factory = uvloop.new_event_loop

    def run_in_it(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(coroutine)

    return run_in_it


async def turns(count: int = 3) -> None:
    """Let the other tasks go on until they wait."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_accept_connect_read_and_write_are_awaited(run: Run) -> None:
    """S50: a server and a client in one loop, without a thread."""

    async def main() -> None:
        name = fresh_name()
        threads = threading.active_count()
        async with aio.PipeServer(name) as server:
            accepting = asyncio.create_task(server.accept())
            async with await aio.connect(name, 5) as client, await accepting as served:
                reading = asyncio.create_task(served.read_string())
                await turns()
                assert not reading.done()
                await client.write_string("안녕")
                assert await reading == "안녕"
                assert client.peer == (os.getpid(), os.geteuid())
            assert threading.active_count() <= threads
            assert server.name in repr(server)
            assert os.path.exists(server.path)
            server.fileno()
        assert server.closed

    run(main())


def test_a_blocking_client_meets_an_awaited_server(run: Run) -> None:
    """Both kinds of pipe speak the same on the wire."""

    async def main() -> None:
        name = fresh_name()
        with_thread = asyncio.to_thread(ask, name)
        async with aio.PipeServer(name, framing="line", encoding="utf-16-le") as server:
            asking = asyncio.create_task(with_thread)
            async with await server.accept(5) as pipe:
                await pipe.write_string(await pipe.read_string(5) + "!")
            assert await asking == "hello!"

    def ask(name: str) -> str:
        with pipes.connect(name, 5, framing="line", encoding="utf-16-le") as pipe:
            pipe.write_string("hello")
            return pipe.read_string(5)

    run(main())


def test_a_thousand_cancelled_reads_lose_nothing(run: Run) -> None:
    """S24: tasks that read are cancelled 1,000 times, at random turns of the loop; every message arrives whole."""

    async def main() -> None:
        chance = random.Random(50)
        left, right = aio.pair()
        messages = [chance.randbytes(chance.randrange(40)) for _ in range(200)]
        stream = b"".join(struct.pack("<I", len(message)) + message for message in messages)
        received: list[bytes] = []
        cancelled = at = 0

        async def read() -> None:
            while True:
                # No await between the end of the read and the append: what was read is kept.
                received.append(await right.read_message())

        async with left, right:
            while cancelled < 1000 or len(received) < len(messages):
                reading = asyncio.create_task(read())
                await turns(chance.randrange(4))
                step = chance.randrange(20)
                await left.write_bytes(stream[at : at + step])
                at += step
                await turns(chance.randrange(4))
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                cancelled += 1
                assert cancelled < 20_000
        assert received == messages

    run(main())


def test_a_cancelled_write_is_never_torn(run: Run) -> None:
    """S27: a task cancelled while it writes leaves either nothing or a message that goes on whole."""

    async def main() -> None:
        left, right = aio.pair()
        async with left, right:
            message = bytes(2_000_000)
            writing = asyncio.create_task(left.write_message(message))
            await turns()
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert 0 < left.unsent < len(message)
            reading = asyncio.create_task(right.read_message(5))
            await left.write_message(b"next", timeout=5)
            assert await reading == message
            assert await right.read_message(5) == b"next"

    run(main())


def test_an_accept_is_cancelled_closed_and_timed_out(run: Run) -> None:
    """S17, S23: each end of an accept without a client is told apart, within 100 ms, and the server goes on."""

    async def main() -> None:
        name = fresh_name()
        async with aio.PipeServer(name) as server:
            with pytest.raises(PipeTimeout):
                await server.accept(timeout=0.01)
            first = asyncio.create_task(server.accept())
            await turns()
            with pytest.raises(PipeTimeout, match="another task"):
                await server.accept(timeout=0.01)
            server.cancel()
            with pytest.raises(PipeCancelled):
                await first
            async with await aio.connect(name, 0), await server.accept(0):
                pass
            task = asyncio.create_task(server.accept())
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            last = asyncio.create_task(server.accept())
            await turns()
            server.close()
            with pytest.raises(PipeCancelled):
                await asyncio.wait_for(last, 30)
            with pytest.raises(NotConnected):
                await server.accept()

    run(main())


def test_a_client_waits_for_the_server_and_for_a_free_instance(run: Run) -> None:
    """connect() waits for both; the accept that waits goes on when an instance is freed."""

    async def main() -> None:
        name = fresh_name()
        with pytest.raises(NotConnected, match=r"waited 0\.02 s"):
            await aio.connect(name, 0.02)
        connecting = asyncio.create_task(aio.connect(name, 5))
        await turns()
        async with aio.PipeServer(name, max_instances=1) as server:
            served = await server.accept(5)
            first = await connecting
            with pytest.raises(PipeBusy):
                await aio.connect(name, 0)
            waiting = asyncio.create_task(aio.connect(name, 5))
            accepting = asyncio.create_task(server.accept(5))
            await turns()
            served.close()
            async with await waiting as second, await accepting as served:
                await served.write_message(b"your turn")
                assert await second.read_message(5) == b"your turn"
            first.close()

    run(main())


def test_a_read_that_was_cancelled_before_it_waits_ends(run: Run) -> None:
    """cancel() also ends a read that waits for its turn."""

    async def main() -> None:
        left, right = aio.pair()
        async with left, right:
            reads = [asyncio.create_task(right.read_message()) for _ in range(2)]
            await turns()
            right.cancel()
            for read in reads:
                with pytest.raises(PipeCancelled):
                    await read
            await left.write_message(b"x")
            assert await right.read_message(5) == b"x"

    run(main())


def test_a_read_keeps_its_time_behind_one_that_was_waiting(run: Run) -> None:
    """A task that reads again, while another has waited for its turn, is behind that one, and within its time."""

    async def main() -> None:
        left, right = aio.pair()
        async with left, right:

            async def read_twice() -> None:
                assert await right.read_message() == b"1"
                with pytest.raises(PipeTimeout, match="another task"):
                    await right.read_message(timeout=0.05)

            first = asyncio.create_task(read_twice())
            await turns()
            second = asyncio.create_task(right.read_message())
            await turns()
            await left.write_message(b"1")
            await asyncio.wait_for(first, 5)
            await left.write_message(b"2")
            assert await second == b"2"

    run(main())


def test_a_close_in_the_moment_when_data_came_is_a_cancel(run: Run) -> None:
    """S23: a read that has been woken, but has not run yet when the pipe is closed, was cancelled."""

    async def main() -> None:
        left, right = aio.pair()
        async with left, right:
            read = asyncio.create_task(right.read_message())
            await turns()
            for ready in right._waiters._waiting:
                ready.set_result(None)
            right.close()
            with pytest.raises(PipeCancelled):
                await read

    run(main())


@pytest.mark.parametrize("timeout", [1e6, 1e300, float("inf")])
def test_a_time_of_weeks_is_no_less(run: Run, timeout: float) -> None:
    """A time limit far away does not overflow, and a message that comes is read."""

    async def main() -> None:
        left, right = aio.pair()
        async with left, right:
            reads = [asyncio.create_task(right.read_message(timeout)) for _ in range(2)]
            await turns()
            for each in (b"1", b"2"):
                await left.write_message(each, timeout)
            assert [await read for read in reads] == [b"1", b"2"]

    run(main())


def test_messages_are_iterated(run: Run) -> None:
    """``async for`` gives the messages until the peer closes between two of them."""

    async def main() -> None:
        left, right = aio.pair()
        async with left, right:
            await left.write_message(b"1")
            await left.write_message(b"2")
            left.close()
            assert [message async for message in right] == [b"1", b"2"]

    run(main())


def test_an_inherited_end_is_awaited(run: Run) -> None:
    """from_fd() adopts an end that this process was given."""

    async def main() -> None:
        left, right = pipes.pair()
        with left:
            async with aio.from_fd(right.detach()) as adopted:
                left.write_message(b"x")
                assert await adopted.read_message(5) == b"x"
                left.close()
                with pytest.raises(PipeClosed):
                    await adopted.read_message(5)

    run(main())


def test_a_full_descriptor_table_fails_the_accept_and_the_server_accepts_again(run: Run) -> None:
    """S19: a failed accept is reported, and the client is served afterwards."""

    async def main() -> None:
        name = fresh_name()
        async with aio.PipeServer(name) as server, await aio.connect(name, 5) as client:
            with descriptors.only_free(0), pytest.raises(PipeError, match="ulimit"):
                await server.accept(0)
            async with await server.accept(5) as served:
                await client.write_message(b"patient")
                assert await served.read_message(5) == b"patient"

    run(main())


def test_a_write_that_meets_an_error_keeps_the_stream_whole(run: Run) -> None:
    """The error of a peer that has gone is reported, and what had begun is marked."""

    async def main() -> None:
        left, right = aio.pair()
        async with left:
            right.close()
            with pytest.raises(PipeClosed) as caught:
                await left.write_message(b"x")
            assert not caught.value.begun

    run(main())


def test_what_is_forgotten_warns_and_is_closed() -> None:
    """A server and a pipe that were never closed give a ResourceWarning."""
    server = aio.PipeServer(fresh_name())
    with pytest.warns(ResourceWarning, match="never closed"):
        del server
