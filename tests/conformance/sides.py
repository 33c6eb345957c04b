"""The ways in which a program uses a domain, behind one face, so that one table of cases runs in all of them.

A case is a coroutine that takes a side. With threads nothing in it ever waits for a loop, so it is simply run through.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import cloister

__all__ = ["SIDES", "AsyncSide", "Side", "ThreadSide", "got"]

MODULES = Path(__file__).parent.parent / "modules"
WAIT_S = 30.0


async def got(value: Any) -> Any:
    """A result, whether it is there or is awaited."""
    return await value if inspect.isawaitable(value) else value


class Side:
    """One way to use a domain."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._marks = 0
        self._domains: list[Any] = []

    def new(self, name: str = "conforming", **options: Any) -> Any:
        """A domain that ends with the case."""
        domain = self.kind(name, setup=cloister.Setup(path=[str(MODULES)]), echo=False, **options)
        self._domains.append(domain)
        return domain

    @property
    def kind(self) -> type[Any]:
        """The class of its domains."""
        raise NotImplementedError

    def run(self, case: Callable[[Side], Coroutine[Any, Any, None]]) -> None:
        """Run a case, and end its domains."""
        raise NotImplementedError

    async def _whole(self, case: Callable[[Side], Coroutine[Any, Any, None]]) -> None:
        try:
            await case(self)
        finally:
            for domain in self._domains:
                await got(domain.kill())
                await got(domain.__aexit__() if isinstance(domain, cloister.aio.Domain) else domain.__exit__())

    def back(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """A call-back, in the form that this side hands out."""
        raise NotImplementedError

    async def pause(self) -> None:
        """Let others go on."""
        raise NotImplementedError

    async def result(self, future: Any) -> Any:
        """The result of a future."""
        raise NotImplementedError

    async def list(self, stream: Any) -> list[Any]:
        """All items of a stream."""
        raise NotImplementedError

    async def next(self, stream: Any) -> Any:
        """The next item of a stream; StopAsyncIteration or StopIteration at its end."""
        raise NotImplementedError

    async def close(self, stream: Any) -> None:
        """Leave a stream early."""
        raise NotImplementedError

    def mark(self) -> Path:
        """A file that is not there yet, by which a guest says that it has begun."""
        self._marks += 1
        return self._folder / f"begun-{self._marks}"

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for a state."""
        end = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < end, f"it never happened: {what}"
            await self.pause()


class ThreadSide(Side):
    """`cloister.Domain`."""

    name = "threads"
    kind = cloister.Domain

    def run(self, case: Callable[[Side], Coroutine[Any, Any, None]]) -> None:
        """Run a case through: nothing in it suspends."""
        _through(self._whole(case))

    def back(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """A plain function."""

        @functools.wraps(function)
        def plain(*args: Any) -> Any:
            return _through(function(*args))

        return plain

    async def pause(self) -> None:
        """Let others go on."""
        time.sleep(0.002)

    async def result(self, future: Any) -> Any:
        """Wait for a future."""
        return future.result(WAIT_S)

    async def list(self, stream: Any) -> list[Any]:
        """All items."""
        return list(stream)

    async def next(self, stream: Any) -> Any:
        """The next item."""
        try:
            return next(stream)
        except StopIteration:
            raise StopAsyncIteration from None

    async def close(self, stream: Any) -> None:
        """Leave it."""
        stream.close()


class AsyncSide(Side):
    """`cloister.aio.Domain`."""

    name = "asyncio"
    kind = cloister.aio.Domain
    factory: Callable[[], asyncio.AbstractEventLoop] = staticmethod(asyncio.new_event_loop)

    def run(self, case: Callable[[Side], Coroutine[Any, Any, None]]) -> None:
        """Run a case in a loop."""
        with asyncio.Runner(loop_factory=self.factory) as runner:
            runner.run(self._whole(case))

    def back(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """The coroutine itself."""
        return function

    async def pause(self) -> None:
        """Let others go on."""
        await asyncio.sleep(0.002)

    async def result(self, future: Any) -> Any:
        """Await a future."""
        return await asyncio.wait_for(future, WAIT_S)

    async def list(self, stream: Any) -> list[Any]:
        """All items."""
        return [item async for item in stream]

    async def next(self, stream: Any) -> Any:
        """The next item."""
        return await anext(stream)

    async def close(self, stream: Any) -> None:
        """Leave it."""
        await stream.aclose()


class UvloopSide(AsyncSide):
    """`cloister.aio.Domain` under uvloop."""

    name = "uvloop"


SIDES: list[type[Side]] = [ThreadSide, AsyncSide]
try:
    import uvloop
except ImportError:
    pass
else:
    uvloop.new_event_loop().close()  # libuv opens a pipe for signals with the first loop of a process, and keeps it
    UvloopSide.factory = staticmethod(uvloop.new_event_loop)
    SIDES.append(UvloopSide)


def _through(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("something was awaited where nothing waits for a loop")
