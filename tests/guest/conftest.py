"""Domains for the tests of what runs inside them: made with the modules of the tests, and gone at the end of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloister
from tests.guests import end

MODULES = Path(__file__).parent.parent / "modules"


@pytest.fixture
def modules() -> Path:
    """The folder with the modules of the tests."""
    return MODULES


@pytest.fixture
def make(modules: Path) -> Iterator[Callable[..., cloister.Domain]]:
    """Make domains that find the modules of the tests; the test ends them all."""
    made: list[cloister.Domain] = []

    def make_one(name: str = "guest", *, setup: cloister.Setup | None = None, **options: Any) -> cloister.Domain:
        options.setdefault("echo", False)
        domain = cloister.Domain(name, setup=setup or cloister.Setup(path=[modules]), **options)
        made.append(domain)
        return domain

    yield make_one
    for domain in made:
        end(domain)
