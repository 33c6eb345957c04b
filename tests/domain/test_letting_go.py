"""What is left of a domain that has ended and that nobody holds: nothing, without the garbage collector."""

from __future__ import annotations

import gc
import os
import signal
import sys
import weakref
from collections.abc import Callable, Iterator

import pytest

import cloister
from cloister.domain.domain import Domain
from cloister.domain.life import Life
from cloister.domain.setup import Setup
from cloister.levels.watcher import watcher
from tests.guests import TEMPLATES
from tests.patience import wait_until

ROUNDS = 6
SOME = 300
"""Objects that may come and go by themselves, such as those of the watcher; one domain has some hundreds."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The garbage collector does not run by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _nothing(domain: Domain) -> None:
    domain.call("math:sqrt", 4)


def _submits(domain: Domain) -> None:
    assert domain.submit("math:sqrt", 4).result() == 2


def _crashes(domain: Domain) -> None:
    assert domain.pid is not None
    domain.call("math:sqrt", 4)
    os.kill(domain.pid, signal.SIGKILL)
    with pytest.raises(cloister.DomainCrashed):
        domain.call("time:sleep", 30)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
@pytest.mark.parametrize("use", [_nothing, _submits, _crashes])
@pytest.mark.parametrize("limit", [None, 1], ids=["unlimited", "one call at a time"])
@pytest.mark.usefixtures("uncollected")
def test_a_domain_that_ended_leaves_nothing_to_collect(use: Callable[[Domain], None], limit: int | None) -> None:
    """The life of a domain is gone with the last reference to the domain, after an unload and after a crash; what has
    accumulated after some domains is far less than one of them."""

    def once() -> weakref.ref[Life]:
        domain = cloister.Domain("brief", setup=Setup(template=TEMPLATES), max_concurrency=limit)
        use(domain)
        life = weakref.ref(domain._life)
        domain.unload()
        return life

    once()
    assert watcher.wait_ended(30)
    wait_until(lambda: once()() is None)
    gc.collect()
    before = len(gc.get_objects())
    lives = [once() for _ in range(ROUNDS)]
    wait_until(lambda: not any(life() for life in lives))
    wait_until(lambda: len(gc.get_objects()) - before < SOME)


@pytest.mark.usefixtures("uncollected")
def test_a_domain_that_was_forgotten_leaves_nothing_to_collect() -> None:
    """The same where it ends after the last reference to it has gone."""
    domain = cloister.Domain("brief")
    domain.call("math:sqrt", 4)
    life = weakref.ref(domain._life)
    with pytest.warns(ResourceWarning):
        del domain
    wait_until(lambda: life() is None)


def test_a_map_of_a_domain_that_is_gone_says_so() -> None:
    """Who reads on in a map after the domain has gone is told of its end, as ever."""
    domain = cloister.Domain("brief")
    results = domain.map("math:sqrt", range(1000), buffersize=2)
    assert next(results) == 0
    domain.unload()
    del domain
    with pytest.raises(cloister.DomainUnloaded):
        list(results)


def test_a_proxy_and_an_old_life_are_told_of_the_end() -> None:
    """A proxy of a domain that was reloaded, and then dropped, still gives the error of the end."""
    domain = cloister.Domain("brief")
    made = domain.create_handle("collections:Counter")
    domain.reload()
    with pytest.raises(cloister.DomainUnloaded):
        made.unwrap()
    domain.unload()
    del domain
    with pytest.raises(cloister.DomainUnloaded):
        made.unwrap()
