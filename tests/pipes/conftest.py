"""The fixtures of the pipes' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipes.ends import KINDS, Workshop, is_here

if is_here("uvloop"):
    import uvloop

    # libuv opens a pipe for signals with the first loop of a process, and keeps it; no test leaks it.
    uvloop.new_event_loop().close()


@pytest.fixture(params=[kind for kind in KINDS if is_here(kind)])
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """A maker of pipes, of each kind in turn."""
    maker = Workshop(request.param)
    yield maker
    maker.close()
