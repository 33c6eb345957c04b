"""Bad input at every level: a clear error at the right place, and everything else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister import events
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.errors import LevelUnavailable, MarshalError, StartFailed
from tests.domain.journal import Journal

Make = Callable[..., Domain]


@pytest.fixture
def proving(modules: None) -> Any:
    """The module of the tests, known to this side too."""
    import proving as module  # type: ignore[import-not-found]  # the fixture puts it on the path

    return module


def test_a_set_up_that_can_not_be(make: Make, level: str, tmp_path: Path) -> None:
    """What does not parse, or is not there, is named at the creation: which domain, which option, what is wrong."""
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(StartFailed, match=r"domain 'shop': .*bad\.toml' \(Setup\.config\): Invalid statement"):
        make("shop", setup=Setup(config="bad.toml", base=tmp_path))
    with pytest.raises(StartFailed, match=r"domain 'shop': the folder '/nowhere' of Setup\.base is not there"):
        make("shop", setup=Setup(base="/nowhere"))
    refused = LevelUnavailable if level == "thread" else StartFailed
    with pytest.raises(refused, match=r"Setup\(path=|the folder '/nowhere' of Setup\.path is not there"):
        make("shop", setup=Setup(path=["/nowhere"]))
    refused = LevelUnavailable if level != "process" else StartFailed
    with pytest.raises(refused, match=r"Setup\(python=|there is no Python interpreter at '/nowhere/python'"):
        make("shop", setup=Setup(python="/nowhere/python"))


def test_a_type_that_refuses_to_be_copied(domain: Domain, proving: Any) -> None:
    """What a class raises while an instance leaves, or arrives, is the MarshalError of that value, both ways."""
    refusals = {
        "proving:WontLeave": r"result: copying this WontLeave raised RuntimeError: no state for you",
        "proving:WontArrive": r"WontArrive arrived and could not be rebuilt: its __setstate__ raised RuntimeError: I ",
    }
    for name, said in refusals.items():
        handle, future = domain.create_handle(name), domain.submit(name)
        with pytest.raises(MarshalError, match=said) as caught:
            handle.unwrap()
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(MarshalError, match=said):
            future.result(30)
    with pytest.raises(MarshalError, match=r"args\[0\]\[1\]: copying this WontLeave raised RuntimeError"):
        domain.call("proving:give_back", [1, proving.WontLeave()])
    with pytest.raises(MarshalError, match=r"a WontArrive arrived and could not be rebuilt"):
        domain.call("proving:give_back", [1, proving.WontArrive()])
    with pytest.raises(MarshalError, match=r"WontArrive arrived and could not be rebuilt"):
        domain.call("conformance:nested_call", proving.WontArrive)
    with pytest.raises(MarshalError, match=r"args\[0\].*can't be pickled: RuntimeError: no pickle of this"):
        domain.call("proving:give_back", cloister.pickled(proving.WontBePickled()))
    assert domain.call("proving:give_back", 3) == 3


def test_handlers_that_raise_or_block(make: Make, level: str) -> None:
    """A resolve handler that raises or gives no answer is in the ImportError; an event handler that raises is told."""
    seen, release = Journal(), threading.Event()

    def broken(event: events.Ready) -> None:
        raise RuntimeError("no disk")

    def lookup(wanted: cloister.Lookup) -> Any:
        if wanted.name == "lost":
            raise RuntimeError("no disk")
        return release.wait(30) or None

    setup = Setup() if level == "thread" else Setup(resolve={"module": lookup}, resolve_timeout=0.1)
    domain = make(on={events.Ready: broken, events.UnhandledException: seen.write}, setup=setup)
    told = seen.wait_for(events.UnhandledException, 30)
    assert (told.domain, told.where, str(told.error)) == ("subject", "a handler of Ready", "no disk")
    if level != "thread":
        with pytest.raises(ImportError, match=r"'lost'; a resolve handler of the host failed: RuntimeError: no disk"):
            domain.call("lost:f")
        try:
            with pytest.raises(ImportError, match=r"a handler gave no answer within 0\.1 s"):
                domain.call("slow:f")
        finally:
            release.set()
    assert domain.call("math:sqrt", 16) == 4
