"""Leases: an opt-in end of objects that are still held, with sponsors, and nothing of it for all others."""

from __future__ import annotations

import gc
import math
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import MarshalError
from tests.patience import wait_until

MODULES = Path(__file__).parent.parent / "modules"
GONE = r"object #\d+ is gone: its lease ran out"


@pytest.fixture
def domain() -> Iterator[cloister.Domain]:
    """A domain with the leased objects."""
    with cloister.Domain("lessor", setup=cloister.Setup(path=[MODULES])) as one:
        yield one


def clock_runs() -> bool:
    """Whether the thread of the leases is there."""
    return any(thread.name == "cloister-leases" for thread in threading.enumerate())


def test_object_without_a_lease_lives_while_it_is_held(domain: cloister.Domain) -> None:
    """O13: leases exist only as an opt-in: what has none is never let go while it is held, and no thread looks."""
    held = domain.create("leased:Held")
    domain.create("leased:Short")
    wait_until(lambda: domain.call("leased:alive") == 1)
    assert held.name() == "held"
    assert not clock_runs()


@pytest.mark.parametrize("way", ["create", "handle", "result", "attribute of a result"])
def test_object_is_let_go_when_its_lease_runs_out(domain: cloister.Domain, way: str) -> None:
    """O13: a leased object that is still held is released when its time is up; every use says why, and others live."""
    other = domain.create("leased:Held")
    short: Any = domain.create_handle("leased:Short") if way == "handle" else domain.create("leased:Short")
    if way == "result":
        short = short.itself()
    wait_until(lambda: domain.call("leased:alive") == 1)
    with pytest.raises(MarshalError, match=GONE):
        short.unwrap() if way == "handle" else short.name()
    with pytest.raises(MarshalError, match=GONE):
        other.__setattr__("friend", short)
    del short
    gc.collect()
    assert other.name() == "held"
    domain.call("leased:alive")  # the release of what is gone is no offence
    assert domain.eval("1") == 1


def test_calls_renew_a_lease(domain: cloister.Domain) -> None:
    """O13: each call, and each new hand-over, keeps the object for as long again; reading its state here does not."""
    value = Value()
    keep = domain.call("leased:keep", cloister.lease(3600)(value))
    (entry,) = [entry for entry in domain._life.peer.exports._by_number.values() if entry.value is value]
    assert entry.lease is not None
    begun = entry.lease.due
    assert keep() == "the host's"
    called = entry.lease.due
    domain.call("leased:keep", cloister.lease(60)(value))
    assert begun < called < entry.lease.due


def test_sponsor_on_the_other_side_renews_until_it_does_not(domain: cloister.Domain) -> None:
    """O13: when a lease runs out its sponsor is asked, here one of the holder's; None lets the object go."""
    asked: list[int] = []

    def sponsor() -> float | None:
        asked.append(len(asked))
        return 0.03 if len(asked) < 4 else None

    held = domain.call("leased:sponsored", sponsor)
    wait_until(lambda: domain.call("leased:alive") == 0)
    assert asked == [0, 1, 2, 3]
    with pytest.raises(MarshalError, match=GONE):
        held.name()


def test_sponsor_that_raises_or_answers_nonsense_ends_the_lease(
    domain: cloister.Domain, caplog: pytest.LogCaptureFixture
) -> None:
    """A sponsor that raises is logged, and the object let go; the domain goes on."""
    kept = [domain.call("leased:asked_in_vain"), domain.call("leased:sponsored", lambda: "long")]
    wait_until(lambda: domain.call("leased:alive") == 0)
    wait_until(lambda: caplog.text.count("the sponsor of a lease raised") == 2)
    assert "no money" in caplog.text
    assert len(kept) == 2


@pytest.mark.parametrize("answer", [-1, math.nan, math.inf, True])
def test_sponsor_that_answers_no_number_of_seconds_is_asked_once(
    domain: cloister.Domain, answer: float, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no number of seconds ends the lease, and does not let the sponsor be asked for ever."""
    asked: list[int] = []

    def sponsor() -> float | None:
        asked.append(1)
        return answer if len(asked) < 20 else None

    held = domain.call("leased:sponsored", sponsor)
    wait_until(lambda: domain.call("leased:alive") == 0)
    wait_until(lambda: "the sponsor of a lease raised" in caplog.text)
    assert len(asked) == 1
    with pytest.raises(MarshalError, match=GONE):
        held.name()


def test_sponsor_that_exits_ends_the_lease(domain: cloister.Domain) -> None:
    """`sys.exit()` in a sponsor is no answer, and nobody waits for one."""
    held = domain.call("leased:sponsored_by_one_that_exits")
    wait_until(lambda: domain.call("leased:alive") == 0)
    with pytest.raises(MarshalError, match=GONE):
        held.name()


def test_sponsor_whose_domain_has_ended_keeps_nothing(domain: cloister.Domain) -> None:
    """A sponsor in a domain that is gone gives no answer; the object is let go, and other leases run on."""
    with cloister.Domain("sponsor", setup=cloister.Setup(path=[MODULES])) as other:
        held = domain.call("leased:sponsored", other.eval("lambda: 0.02"))
        assert held.name() == "held"
    wait_until(lambda: domain.call("leased:alive") == 0)
    with pytest.raises(MarshalError, match=GONE):
        held.name()


def test_lease_of_a_hundred_thousand_years_stops_no_other(domain: cloister.Domain) -> None:
    """A lease that is longer than a thread can sleep does no harm to those after it."""
    long = domain.call("leased:sponsored", lambda: None, 3e12)
    short = domain.create("leased:Short")
    wait_until(lambda: domain.call("leased:alive") == 1)
    assert long.name() == "held"
    with pytest.raises(MarshalError, match=GONE):
        short.name()


def test_sponsor_that_does_not_answer_costs_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sponsor that hangs is given up; other leases run out meanwhile."""
    monkeypatch.setattr("cloister.objects.leases.SPONSOR_S", 0.1)
    release = threading.Event()
    hung, short = Value(), Value()
    with cloister.Domain("lessee", setup=cloister.Setup(path=[MODULES])) as domain:
        keep = domain.call(
            "leased:keep", cloister.lease(0.01, renew_on_call=0, sponsor=lambda value: release.wait(20))(hung)
        )
        domain.call("leased:keep", cloister.lease(0.01)(short))
        references = weakref.ref(hung), weakref.ref(short)
        del hung, short
        try:
            wait_until(lambda: references[1]() is None)
            exports = domain._life.peer.exports
            wait_until(lambda: not any(entry.value is references[0]() for entry in list(exports._by_number.values())))
            with pytest.raises(MarshalError, match=GONE):
                keep()
        finally:
            release.set()
        wait_until(lambda: references[0]() is None)
    wait_until(lambda: not clock_runs())


class Value:
    """Something of the host's."""

    def name(self) -> str:
        return "the host's"


def test_object_of_the_host_is_let_go_too() -> None:
    """O13: a lease on what is shared with a guest ends the grant; the guest gets a clear error, and goes on."""
    value = Value()
    reference = weakref.ref(value)
    wanted = threading.Event()
    wanted.set()
    terms = cloister.lease(0.01, renew_on_call=0, sponsor=lambda value: 0.01 if wanted.is_set() else None)
    with cloister.Domain("lessee", setup=cloister.Setup(path=[MODULES])) as domain:
        keep = domain.call("leased:keep", terms(value))
        assert keep() == "the host's"
        del value
        wanted.clear()
        wait_until(lambda: reference() is None)
        with pytest.raises(MarshalError, match=GONE):
            keep()
        assert domain.eval("1") == 1
    wait_until(lambda: not clock_runs())


def test_thread_of_the_leases_ends_with_the_last_object() -> None:
    """A lease that runs for an hour keeps no thread once its object is dropped, or its domain gone."""
    with cloister.Domain("lessee", setup=cloister.Setup(path=[MODULES])) as domain:
        keep = domain.call("leased:keep", cloister.lease(3600)(Value()))
        assert clock_runs()
        del keep
        gc.collect()
        wait_until(lambda: (domain.call("gc:collect"), not clock_runs())[1])
        kept = domain.call("leased:keep", cloister.lease(3600)(Value()))
        assert clock_runs()
    wait_until(lambda: not clock_runs())
    del kept


def test_forked_child_has_no_thread_of_leases_to_wait_for() -> None:
    """In a forked child leases of its own begin anew."""
    with cloister.Domain("lessee", setup=cloister.Setup(path=[MODULES])) as domain:
        keep = domain.call("leased:keep", cloister.lease(3600)(Value()))
        child = os.fork()
        if not child:
            code = 1
            try:
                with cloister.Domain("own", setup=cloister.Setup(path=[MODULES])) as own:
                    mine = own.call("leased:keep", cloister.lease(0.01)(Value()))
                    wait_until(lambda: not clock_runs())
                    try:
                        mine()
                    except MarshalError:
                        code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert keep() == "the host's"


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan"), "1", None, True])
def test_terms_that_are_none_are_refused(wrong: Any) -> None:
    """A lease is for a number of seconds; a sponsor can be called; a class must take the mark."""
    with pytest.raises(ValueError, match="seconds"):
        cloister.lease(wrong)
    if wrong is not None:
        with pytest.raises(ValueError, match="renew_on_call"):
            cloister.lease(1, renew_on_call=wrong)
    with pytest.raises(TypeError, match="sponsor"):
        cloister.lease(1, sponsor=3)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="takes no attributes"):
        cloister.lease(1)(int)
    assert repr(cloister.lease(2)) == "lease(2, renew_on_call=2)"
