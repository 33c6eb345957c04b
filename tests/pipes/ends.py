"""Every kind of pipe, made and closed for a test: what the conformance suite runs over.

Here are `KINDS`, and `Workshop`, which makes both ends of a kind. Not here: what is claimed about them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from cloister import aio, pipes
from cloister.pipes.channel import Format
from cloister.pipes.pipe import Pipe
from tests.pipes.memory import memory_pair

KINDS = ["named", "dotnet", "pair", "memory", "asyncio", "uvloop"]

JOIN_S = 10.0
"""A thread that has not ended by then hangs."""

_numbers = itertools.count(1)


def fresh_name() -> str:
    """A name that no other test uses."""
    return f"test-{next(_numbers)}"


class Loop:
    """An event loop in a thread of its own, and blocking calls into it."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = factory()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test loop")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine over there and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(JOIN_S)

    def close(self) -> None:
        """End the loop and its thread."""
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(JOIN_S)
        assert not self._thread.is_alive()
        self._loop.close()


class AwaitedPipe:
    """An asyncio pipe with the blocking interface: every call is run in its loop."""

    def __init__(self, loop: Loop, pipe: aio.Pipe) -> None:
        self._loop = loop
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._pipe, name)
        if not callable(attribute):
            return attribute

        async def call(*args: Any, **options: Any) -> Any:
            result = attribute(*args, **options)
            return await result if asyncio.iscoroutine(result) else result

        return lambda *args, **options: self._loop.run(call(*args, **options))

    def __iter__(self) -> Any:
        iterator = self._pipe.__aiter__()
        while True:
            try:
                yield self._loop.run(iterator.__anext__())  # type: ignore[arg-type]  # an async generator's step
            except StopAsyncIteration:
                return


class Workshop:
    """Makes the two ends of a pipe of one kind; everything is closed by `close`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._open: list[Any] = []
        self._loop: Loop | None = None
        if kind == "asyncio":
            self._loop = Loop(asyncio.new_event_loop)
        elif kind == "uvloop":
            import uvloop

            self._loop = Loop(uvloop.new_event_loop)

    @property
    def more_than_fits(self) -> int:
        """So many bytes don't fit between two ends while nobody reads."""
        return 5_000 if self.kind == "memory" else 2_000_000

    def make(self, **options: Any) -> tuple[Any, Any]:
        """Two connected ends; `options` as for `pipes.pair`."""
        ends = self._make(options)
        self._open += ends
        return ends

    def _make(self, options: dict[str, Any]) -> tuple[Any, Any]:
        if self.kind == "pair":
            return pipes.pair(**options)
        if self.kind == "memory":
            form = Format(**options)
            left, right = memory_pair(step=1, room=1000)
            return Pipe(left, form), Pipe(right, form)
        if self._loop is not None:
            left, right = self._loop.run(self._connect_awaited(options))
            return AwaitedPipe(self._loop, left), AwaitedPipe(self._loop, right)
        name = fresh_name()
        style: Any = "dotnet" if self.kind == "dotnet" else "cloister"
        with pipes.PipeServer(name, style=style, **options) as server:
            client = pipes.connect(name, 5, style=style, **options)
            return client, server.accept(5)

    async def _connect_awaited(self, options: dict[str, Any]) -> tuple[aio.Pipe, aio.Pipe]:
        name = fresh_name()
        async with aio.PipeServer(name, **options) as server:
            client = await aio.connect(name, 5, **options)
            return client, await server.accept(5)

    def close(self) -> None:
        """Close all that was made."""
        for end in self._open:
            end.close()
        if self._loop is not None:
            self._loop.close()


def is_here(kind: str) -> bool:
    """Whether this kind can be made with what is installed."""
    return kind != "uvloop" or importlib.util.find_spec("uvloop") is not None


class Background:
    """A function in a thread; `result` waits for it and gives what it returned or raised."""

    def __init__(self, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._call = (function, args, options)
        self._thread = threading.Thread(target=self._run, name="test background")
        self._thread.start()

    def _run(self) -> None:
        function, args, options = self._call
        try:
            self._result = function(*args, **options)
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        self._thread.join(JOIN_S)
        assert not self._thread.is_alive(), "the operation hangs"
        if self._error is not None:
            raise self._error
        return self._result
