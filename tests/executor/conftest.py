"""Pools for the tests: they find the modules of the tests, and are gone at the end of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloister
from tests.guests import end_pool

MODULES = Path(__file__).parent.parent / "modules"


@pytest.fixture
def make_pool() -> Iterator[Callable[..., cloister.DomainPoolExecutor]]:
    """Make pools; the test kills what is left of them."""
    made: list[cloister.DomainPoolExecutor] = []

    def make(max_workers: int = 1, **options: Any) -> cloister.DomainPoolExecutor:
        options.setdefault("setup", cloister.Setup(path=[MODULES]))
        options.setdefault("echo", False)
        pool = cloister.DomainPoolExecutor(max_workers, **options)
        made.append(pool)
        return pool

    yield make
    for pool in made:
        end_pool(pool)


@pytest.fixture
def pool(make_pool: Callable[..., cloister.DomainPoolExecutor]) -> cloister.DomainPoolExecutor:
    """A pool of two workers."""
    return make_pool(2)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A file in which guests leave a line for each thing that they did."""
    path = tmp_path / "marks"
    path.touch()
    return path
