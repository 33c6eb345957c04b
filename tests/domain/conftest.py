"""Domains for the tests of their lives: made with the modules of the tests, and gone at the end of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from tests.domain.journal import MODULES, Journal


@pytest.fixture
def journal() -> Journal:
    """Takes the events of a domain."""
    return Journal()


@pytest.fixture
def make(journal: Journal) -> Iterator[Callable[..., Domain]]:
    """Make domains that find the modules of the tests and write into the journal; the test ends them all."""
    made: list[Domain] = []

    def make_one(name: str = "subject", *, setup: Setup | None = None, **options: Any) -> Domain:
        options.setdefault("on", journal.all)
        options.setdefault("echo", False)
        domain = Domain(name, setup=setup or Setup(path=[MODULES]), **options)
        made.append(domain)
        return domain

    yield make_one
    for domain in made:
        domain.kill()
