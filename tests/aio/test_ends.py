"""What ends around a domain for asyncio: loops, the interpreter, forks, Ctrl-C; and many domains on one loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout
from tests.aio.domains import MODULES, new
from tests.loops import Run as Run
from tests.loops import run_asyncio as run_asyncio
from tests.soak import loop_domains

LIMIT_S = 30


def program(text: str, *, status: int = 0) -> str:
    """Run a program that uses a domain; return what it printed, and fail where it hangs, warns or leaves a guest."""
    source = f"MODULES = {str(MODULES)!r}\nimport asyncio, os, signal, sys, cloister\n" + textwrap.dedent(text)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", source],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def test_interpreter_exit_with_open_calls_does_not_hang() -> None:
    """A program ends with calls outstanding and the domain alive: the exit unloads it."""
    out = program(
        """
        async def main():
            global domain
            domain = cloister.aio.Domain("left")
            await domain.wait_ready()
            domain.submit("time:sleep", 600)
            await asyncio.sleep(0.05)
            print("ends", domain.pid)
        asyncio.run(main())
        """
    )
    pid = int(out.split()[1])
    assert not Path(f"/proc/{pid}").exists()


def test_keyboard_interrupt_ends_the_call_and_the_program() -> None:
    """Ctrl-C in `asyncio.run` cancels the main task: the call is stopped, `async with` unloads, nothing hangs."""
    out = program(
        """
        async def main():
            async with cloister.aio.Domain("busy") as domain:
                await domain.wait_ready()
                asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGINT)
                try:
                    await domain.call("time:sleep", 600)
                finally:
                    print("stopped")
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert out.split() == ["stopped", "interrupted"]


def test_keyboard_interrupt_in_a_plain_call_back_ends_the_program() -> None:
    """What a call-back raises that is no Exception goes on upwards here; the domain is unloaded at exit."""
    out = program(
        """
        def interrupted():
            raise KeyboardInterrupt
        async def main():
            async with cloister.aio.Domain("busy", setup=cloister.Setup(path=[MODULES])) as domain:
                await domain.call("errands:call", interrupted)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert "interrupted" in out


def test_forked_child_leaves_the_domain_and_the_loop_alone() -> None:
    """In a forked child the domain is the parent's: it raises there, and the parent's calls go on."""
    out = program(
        """
        async def main():
            async with cloister.aio.Domain("parents") as domain:
                await domain.wait_ready()
                sleeping = domain.submit("time:sleep", 0.3)
                await asyncio.sleep(0.05)
                pid = os.fork()
                if not pid:
                    async def use():
                        try:
                            await domain.call("operator:add", 1, 1)
                        except cloister.WrongProcess:
                            os._exit(7)
                    asyncio.run(use())
                    os._exit(8)
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                await sleeping
                print(await domain.call("operator:add", 1, 1))
        asyncio.run(main())
        """
    )
    assert out.split() == ["7", "2"]


def test_loop_closed_by_hand_with_open_calls(run: Run) -> None:
    """A loop that is closed without ceremony leaves a lane that is closed with the next one, or with the domain."""
    domain = new()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(domain.wait_ready())
    call = loop.run_until_complete(_submitted(domain))
    loop.close()
    assert not call.done()
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0

    async def main() -> None:
        assert await domain.call("operator:add", 1, 1) == 2
        await domain.unload()

    run(main())
    if before:
        assert len(os.listdir("/proc/self/fd")) < before
    call.cancel()


@pytest.mark.parametrize("ends", ["while the other one closes", "without ceremony"])
def test_thread_of_the_guest_is_told_when_the_loops_of_its_lane_end(ends: str) -> None:
    """A lane goes to another loop when its own closes; where that one closes too, the guest's thread does not hang.

    So it is where the lane arrives while the other loop finishes its asynchronous generators, and for loops that are
    closed without that, as soon as the next one comes. The thread gets an error then, and its next call is served.
    """
    domain = new()
    first, second, third = (asyncio.new_event_loop() for _ in range(3))

    async def answer(number: int) -> int:
        return number

    async def begin() -> Any:
        caller = await domain.create("callers:Caller", answer)
        assert await caller.ask(0) == 0
        return caller

    async def use() -> None:
        assert await domain.call("operator:add", 1, 1) == 2

    caller = first.run_until_complete(begin())
    second.run_until_complete(use())
    if ends == "without ceremony":
        first.close()
        second.close()
    else:
        closing = second.create_task(second.shutdown_asyncgens())
        first.run_until_complete(first.shutdown_asyncgens())  # the lane is on its way, behind the first step of that
        first.close()
        second.run_until_complete(closing)
        second.close()

    async def go_on() -> None:
        async with domain, asyncio.timeout(LIMIT_S):
            assert "CallCancelled" in str(await caller.ask(1))
            assert await caller.ask(2) == 2

    third.run_until_complete(go_on())
    third.run_until_complete(third.shutdown_asyncgens())
    third.close()


async def _submitted(domain: cloister.aio.Domain) -> asyncio.Future[object]:
    return domain.submit("time:sleep", 60)


def test_call_is_cancelled_while_it_waits_for_the_start_and_for_room(run: Run) -> None:
    """A call that was not sent yet is given up without a message; it never begins."""

    async def main() -> None:
        async with new() as domain:
            early = domain.submit("errands:keep", 1)
            early.cancel()
            late = domain.submit("errands:keep", 2)
            await late
            with pytest.raises(asyncio.CancelledError):
                await early
            assert await domain.call("errands:kept") == [2]

    run(main())


def test_time_out_of_asyncio_stops_the_call(run: Run) -> None:
    """`asyncio.timeout` cancels the task, which stops the call; `asyncio.wait_for` too."""

    async def main() -> None:
        async with new() as domain:
            await domain.wait_ready()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await domain.call("errands:python_loop")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(domain.submit("errands:python_loop"), 0.05)
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())


def test_call_that_does_not_stop_kills_its_domain_where_that_was_asked_for(run: Run) -> None:
    """`kill_after`: a call into native code that never returns is ended with its domain, and the error says so."""

    async def main() -> None:
        async with new() as domain:
            await domain.wait_ready()
            view = domain.with_options(timeout=1, kill_after=0.1)  # by then it is in native code
            with pytest.raises(CallTimeout, match="killed") as caught:
                await view.call("errands:runaway_expression")
            assert caught.value.report is not None

    run(main())


def test_thousand_gathered_calls_with_large_arguments_in_bounded_memory(run: Run) -> None:
    """1,000 calls of 100 KB at once: what waits encoded is bounded, all are answered."""
    from cloister.lanes import loop_shared

    async def main() -> None:
        async with new() as domain:
            block = b"x" * 100_000
            calls = [domain.submit(len, block) for _ in range(1000)]
            (lane,) = domain._peer._loops.values()
            most = 0
            while not all(call.done() for call in calls):
                most = max(most, lane._queued)
                await asyncio.sleep(0.001)
            assert [call.result() for call in calls] == [100_000] * 1000
            assert most <= loop_shared.MAX_QUEUED_BYTES + 200_000

    run(main())


def test_many_domains_on_one_loop() -> None:
    """20 domains on one loop, each with calls and call-backs at once: none is lost, no thread serves any of them.

    ``python -m tests.soak.loop_domains 200`` is the long form.
    """
    before = threading.active_count()
    assert asyncio.run(loop_domains.run(20)) - before <= 4
