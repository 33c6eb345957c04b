"""Domains at every level, with modules of the tests that all of them find."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloister.domain.domain import Domain
from cloister.errors import CannotUnload
from cloister.levels import interpreter

MODULES = str(Path(__file__).parent.parent / "modules")

AT_EVERY_LEVEL = [
    "thread",
    pytest.param(
        "interpreter",
        marks=pytest.mark.skipif(not interpreter.available, reason="the level interpreter needs Python 3.14"),
    ),
    "process",
]

Make = Callable[..., Domain]


@pytest.fixture(params=AT_EVERY_LEVEL)
def level(request: pytest.FixtureRequest) -> str:
    """Each level that this Python has."""
    name: str = request.param
    return name


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the modules of the tests be found here, and so by every domain; what was loaded here is forgotten."""
    monkeypatch.syspath_prepend(MODULES)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(MODULES):
            del sys.modules[name]


@pytest.fixture
def make(level: str, modules: None) -> Iterator[Make]:
    """Make domains at this level; they are gone at the end of the test."""
    made: list[Domain] = []

    def make_one(name: str = "subject", **options: Any) -> Domain:
        domain = Domain(name, level=level, **options)
        made.append(domain)
        return domain

    yield make_one
    for domain in made:
        if domain.state.value != "ended":
            try:
                domain._life.unload()
            except CannotUnload:
                assert domain._life.wait_ended(20)


@pytest.fixture
def domain(make: Make) -> Domain:
    """One domain."""
    return make()
