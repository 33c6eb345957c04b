"""Domains that code of a domain has made, at every pair of levels: who is where, and who ends first."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.domain.domain import Domain
from cloister.errors import DomainUnloaded
from tests.levels.conftest import AT_EVERY_LEVEL
from tests.patience import wait_until

Make = Callable[..., Domain]

JOIN_S = 30.0


@pytest.mark.parametrize("inner", AT_EVERY_LEVEL)
def test_a_domain_makes_domains(make: Make, inner: str) -> None:
    """Each domain lists what its own code has made; the code in each knows its own; a call passes through both."""
    before = cloister.domains()
    outer = make("outer")
    assert outer.call("nesting:make", "inner", inner) == "inner"
    assert outer.call("nesting:names") == ["inner"]
    assert outer.call("nesting:place_inside") == ("inner", "outer")
    assert [each.name for each in cloister.domains() if each not in before] == ["outer"]
    called_back = outer.call("nesting:pass_on", lambda name: (name, cloister.current_domain().name))
    assert called_back == ("inner", "default")
    with pytest.raises(LookupError, match="from within"):
        outer.call("nesting:fail_inside", "from within")
    outer.call("nesting:unload_inside")
    assert outer.call("nesting:names") == []
    with pytest.raises(DomainUnloaded):
        outer.call("nesting:place_inside")


@pytest.mark.parametrize("inner", AT_EVERY_LEVEL)
def test_a_domain_takes_its_domains_along(make: Make, level: str, inner: str, tmp_path: Path) -> None:
    """O05: unloading ends first what the domain has made, also where code of the domain waits for a call in there."""
    if level == "thread" and sys.version_info < (3, 12) and sys.gettrace() is not None:
        pytest.skip(
            "an interrupted thread that waits in the kernel stops every traced thread of Python 3.11; see guests.py"
        )
    outer = make("outer")
    told, said = tmp_path / "told", tmp_path / "said"
    outer.call("nesting:make", "inner", inner)
    outer.call("nesting:say_when_over", str(said))
    errors: list[BaseException] = []

    def wait_inside() -> None:
        try:
            outer.call("nesting:spin_inside", str(told))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait_inside)
    thread.start()
    wait_until(told.exists, JOIN_S)
    outer.unload()
    thread.join(JOIN_S)
    assert [type(error) for error in errors] == [DomainUnloaded]
    wait_until(lambda: said.exists() and said.read_text() == "inner unloaded", JOIN_S)


def test_a_thread_of_the_code_is_in_its_domain(make: Make, level: str) -> None:
    """S47: a thread that code starts belongs to its domain, as one of the host does to the default one."""
    start = threading.Thread.start
    domain = make("own")
    assert domain.call("nesting:place_in_thread") == "own"
    places: list[Any] = []
    thread = threading.Thread(target=lambda: places.append(cloister.current_domain().name))
    thread.start()
    thread.join(JOIN_S)
    assert places == ["default"]
    domain.unload()
    wait_until(lambda: threading.Thread.start is start, JOIN_S)
