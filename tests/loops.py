"""Event loops for tests: each kind that is supported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("uvloop") is not None:
    import uvloop

    # libuv opens a pipe for signals with the first loop of a process, and keeps it; no test leaks it.
    uvloop.new_event_loop().close()

__all__ = ["Run", "run", "run_asyncio"]

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end, in each kind of loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if request.param == "uvloop":
        if find_spec("uvloop") is None:
            pytest.skip("uvloop is not installed on this Python: pip install uvloop")
        factory = uvloop.new_event_loop

    def run_in_it(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(coroutine)

    return run_in_it


@pytest.fixture(name="run")
def run_asyncio() -> Run:
    """As `run`, for what does not depend on the kind of loop: under asyncio alone."""
    return asyncio.run
