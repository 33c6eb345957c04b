"""Domains for the tests of lanes, and two ways to read: in whole messages, and one byte at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.lanes import frame_lane, shared_lane

MODULES = Path(__file__).parent.parent / "modules"


@pytest.fixture(params=["whole", "bytewise"])
def reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How much a read of a lane takes, here and in the guests that are started from now on."""
    kind: str = request.param
    if kind == "bytewise":
        monkeypatch.setenv("CLOISTER_LANE_READ_BYTES", "1")
        monkeypatch.setattr(frame_lane, "READ_BYTES", 1)
        monkeypatch.setattr(shared_lane, "READ_BYTES", 1)
    return kind


@pytest.fixture
def start() -> Iterator[Callable[..., cloister.Domain]]:
    """Start a domain that finds the modules of the tests, and wait until it is ready; it ends with the test."""
    started: list[cloister.Domain] = []

    def start(name: str = "lanes", **options: Any) -> cloister.Domain:
        domain = cloister.Domain(name, setup=cloister.Setup(path=[MODULES]), **options)
        started.append(domain)
        domain.wait_ready(30)
        return domain

    yield start
    for domain in started:
        with domain:
            pass


@pytest.fixture
def domain(reads: str, start: Callable[..., cloister.Domain]) -> cloister.Domain:
    """A domain whose lanes read in whole messages, and again one whose lanes deliver one byte at a time."""
    return start()
