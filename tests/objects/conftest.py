"""The domain that the tests of one module share, with the folder of guest modules on its path; and ways to look."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.domain.guest_peer import GuestPeer
from cloister.lanes import frame_lane, shared_lane
from tests.patience import wait_until

MODULES = Path(__file__).parent.parent / "modules"


@pytest.fixture(scope="session")
def setup() -> cloister.Setup:
    """A set-up that finds the modules of the tests; the host itself never imports them."""
    return cloister.Setup(path=[MODULES])


@pytest.fixture
def own_domain(setup: cloister.Setup) -> Iterator[cloister.Domain]:
    """A domain of one test alone, which can take shared memory."""
    with cloister.Domain("own", setup=setup) as made:
        made.wait_ready(30)
        wait_until(lambda: made._life.peer.segments._able)
        yield made


@pytest.fixture(scope="module", params=["whole", "byte by byte"])
def domain(setup: cloister.Setup, request: pytest.FixtureRequest) -> Iterator[cloister.Domain]:
    """A domain that the tests of one module share; it must be usable after each of them.

    There is one for each way in which its lanes deliver: as the pipe does, and one byte at a time on both sides.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "byte by byte":
            patch.setenv("CLOISTER_LANE_READ_BYTES", "1")
            patch.setattr(frame_lane, "READ_BYTES", 1)
            patch.setattr(shared_lane, "READ_BYTES", 1)
        watchdog = cloister.Watchdog(beat=0.05)  # releases ride on the beat
        with cloister.Domain("shop", setup=setup, watchdog=watchdog) as shared:
            assert shared.submit("operator:add", 1, 2).result(30) == 3
            yield shared
            assert shared.call("operator:add", 1, 2) == 3


@pytest.fixture(scope="module")
def copies() -> Iterator[Any]:
    """The module of types that travel, imported by the host under the name that the guest imports it by."""
    sys.path.insert(0, str(MODULES))
    try:
        yield importlib.import_module("copies")
    finally:
        sys.path.remove(str(MODULES))


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all calls that go to any domain from now on."""
    made: list[str] = []
    call = GuestPeer.call

    def counted(self: GuestPeer, target: int, name: str, *rest: object) -> object:
        made.append(name)
        return call(self, target, name, *rest)  # type: ignore[arg-type]  # handed on as they come

    monkeypatch.setattr(GuestPeer, "call", counted)
    return made
