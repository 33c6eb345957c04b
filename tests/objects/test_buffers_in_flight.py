"""Buffers that are released, resized or freed by another thread while a call with them is being sent, or waits."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import cloister
from cloister import arrays
from cloister.domain import guest_segments
from cloister.lanes.frame_lane import FrameLane

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes can't be stopped and continued there")

LENGTH = 64 * 1024
"""Numbers in what is sent: 512 KiB, which no pipe takes at once."""
DATA = np.arange(LENGTH).tobytes()


def numbers(first: int = 0) -> Any:
    """An array that no other one equals."""
    return np.arange(first, first + LENGTH)


def shared(first: int = 0) -> Any:
    """The same in shared memory, where there is some."""
    array = arrays.empty(LENGTH, int)
    array[:] = numbers(first)
    return array


KINDS: dict[str, tuple[Callable[[], Any], Callable[[list[Any]], None]]] = {
    "bytearray": (lambda: bytearray(DATA), lambda held: held[0].clear()),
    "view": (lambda: memoryview(bytearray(DATA)), lambda held: held[0].release()),
    "view of an array": (lambda: memoryview(shared()), lambda held: held[0].release()),
    "array": (numbers, list.clear),
    "shared array": (shared, list.clear),
}
"""What is sent, and what becomes of it meanwhile; it is held in a list, alone."""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that is stopped maps nothing: calls do not wait a second for that."""
    monkeypatch.setattr(guest_segments, "WAIT_S", 0.02)


@pytest.fixture(params=["shared memory", "pipe"])
def domain(setup: cloister.Setup, request: pytest.FixtureRequest) -> Iterator[cloister.Domain]:
    """A domain that gets large buffers in shared memory, and one that gets them through the pipe."""
    size = "1GiB" if request.param == "shared memory" else 0
    with cloister.Domain("flight", setup=dataclasses.replace(setup, shared_memory=size)) as made:
        assert made.call("operator:add", 1, 2) == 3
        yield made


@contextmanager
def stopped(domain: cloister.Domain) -> Iterator[None]:
    """The guest reads nothing meanwhile."""
    os.kill(domain.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(domain.pid, signal.SIGCONT)


def others() -> list[Any]:
    """What takes the memory that was freed."""
    gc.collect()
    return [each for n in range(2) for each in (numbers(7 + n), shared(7 + n), bytearray(b"\xff" * len(DATA)))]


def content(value: Any) -> bytes:
    """The bytes of what came back."""
    return value.tobytes() if isinstance(value, np.ndarray) else bytes(value)


def test_buffer_goes_while_its_call_is_written(domain: cloister.Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent arrives as it was, though it goes while its call is written, or waits for the guest to read."""
    asked = threading.Event()

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: FrameLane, *args: Any) -> Any:
            asked.set()
            return function(self, *args)

        return call

    for make, change in KINDS.values():
        held, came = [make()], []
        assert content(domain.call("buffers_inside:echo", held[0])) == DATA  # the guest knows its memory
        values = [held[0]]
        thread = threading.Thread(target=lambda: came.append(domain.call("buffers_inside:echo", values.pop())))  # noqa: B023 - it ends in this round
        asked.clear()
        with monkeypatch.context() as patch, stopped(domain):
            patch.setattr(FrameLane, "_listen", noted(FrameLane._listen))
            patch.setattr(FrameLane, "_send_rest", noted(FrameLane._send_rest))
            thread.start()
            assert asked.wait(30)
            change(held)
            kept = others()
        thread.join(60)
        assert content(came[0]) == DATA
        del kept


def test_buffer_goes_while_submitted_calls_wait(domain: cloister.Domain) -> None:
    """Of calls that wait together each has its own content, though some of their buffers are gone."""
    for make, change in KINDS.values():
        sent = [[make()] for _ in range(4)]
        for held in sent:
            assert content(domain.call("buffers_inside:echo", held[0])) == DATA  # the guest knows its memory
        with stopped(domain):
            futures = []
            for n, held in enumerate(sent):
                futures += [domain.submit("buffers_inside:echo", held[0]), domain.submit("buffers_inside:echo", n)]
                change(held)
            kept = others()
        assert [content(each.result(60)) for each in futures[::2]] == [DATA] * 4
        assert [each.result(60) for each in futures[1::2]] == list(range(4))
        del kept


def test_buffer_goes_while_its_call_runs(domain: cloister.Domain) -> None:
    """What a call has been given stays as it was until it ends, whatever its sender has done with it meanwhile."""
    for make, change in KINDS.values():
        held, kept = [make()], []

        def go() -> None:
            """Let go of what was sent, and take the memory."""
            change(held)  # noqa: B023 - called in this round
            kept.extend(others())  # noqa: B023 - called in this round
            for each in kept:  # noqa: B023 - called in this round
                domain.call("buffers_inside:kind", bytes(each))

        assert content(domain.call("buffers_inside:after", cloister.share(go), held[0])) == DATA


def test_buffers_go_while_calls_of_a_loop_wait(setup: cloister.Setup) -> None:
    """The same for calls that are awaited."""

    async def main() -> None:
        async with cloister.aio.Domain("flight", setup=setup) as domain:
            await domain.call("buffers_inside:kind", b"")
            for make, change in KINDS.values():
                held = [make()]
                with stopped(domain):  # type: ignore[arg-type]  # it has a pid as well
                    task = asyncio.ensure_future(domain.call("buffers_inside:echo", held[0]))
                    for _ in range(3):
                        await asyncio.sleep(0)
                    change(held)
                    kept = others()
                assert content(await task) == DATA
                del kept

    asyncio.run(main())
