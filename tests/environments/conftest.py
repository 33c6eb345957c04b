"""A cache of its own, wheels to install from, and domains that are gone at the end of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloister.domain.domain import Domain
from cloister.environments.build import find_uv
from cloister.errors import EnvironmentFailed
from tests.domain.journal import Journal
from tests.environments.wheels import make_wheel
from tests.guests import end


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with two versions of a package, and one that needs it."""
    folder = tmp_path / "wheels"
    make_wheel(folder, "acme", "1.0")
    make_wheel(folder, "acme", "2.0")
    make_wheel(folder, "mill", "1.0", needs=("acme<2",))
    return folder


@pytest.fixture
def cache(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; uv, which must be there, installs from the wheels alone and keeps nothing of them elsewhere."""
    try:
        find_uv()
    except EnvironmentFailed:
        pytest.skip("uv is not installed")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("CLOISTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def make(journal: Journal) -> Iterator[Callable[..., Domain]]:
    """Make domains that write into the journal; the test ends them all."""
    made: list[Domain] = []

    def make_one(name: str = "subject", **options: Any) -> Domain:
        options.setdefault("on", journal.all)
        domain = Domain(name, echo=False, **options)
        made.append(domain)
        return domain

    yield make_one
    for domain in made:
        end(domain)


@pytest.fixture
def journal() -> Journal:
    """Takes the events of a domain."""
    return Journal()
