"""The busy wait: when a lane probes its pipe before it sleeps, and when it leaves that out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloister
from cloister.lanes import busy_wait
from cloister.lanes.busy_wait import LOOK_EVERY, SHORT_REST, BusyWait
from cloister.pipes import processors

if sys.platform == "win32":
    pytest.skip("lanes are for POSIX", allow_module_level=True)

HOST, GUEST = 0, 1


class Page:
    """A page that says where the two sides run, and a CPU to run on."""

    def __init__(self) -> None:
        self.cpus: Any = memoryview(bytearray(4)).cast("H")
        self.cpu = 0

    def current_cpu(self) -> int:
        return self.cpu


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    """A page, in a process that has no quota, and no other lane at work."""
    monkeypatch.setattr(busy_wait, "_allowed", True)
    monkeypatch.setattr(busy_wait, "_at_work", {})
    return Page()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: (read end, write end)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def host_side(page: Any) -> BusyWait:
    """The wait of the host's side; `page` is as much of one as it needs."""
    return BusyWait(page, HOST, GUEST)


def looked(page: Page) -> BusyWait:
    """One that has looked twice, as it does with the first message and the next after some more."""
    wait = host_side(page)
    wait.look()
    assert not wait.worthwhile
    wait.look()
    return wait


@pytest.mark.parametrize(("peer", "worthwhile"), [(0, False), (1, False), (2, True)])
def test_side_waits_busily_for_a_peer_on_another_cpu_alone(page: Page, peer: int, worthwhile: bool) -> None:
    """Not where nobody knows where the peer runs, not on the own CPU."""
    wait = host_side(page)
    page.cpus[GUEST] = peer
    wait.look()
    wait.look()
    assert wait.worthwhile is worthwhile
    assert page.cpus[HOST] == 1
    wait.end()
    assert not busy_wait._at_work


def test_lane_of_a_few_calls_asks_for_nothing(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quota is not read for the first message of a lane."""

    def asked() -> bool:
        raise AssertionError

    monkeypatch.setattr(busy_wait, "allowed", asked)
    host_side(page).look()


def test_many_lanes_at_work_do_not_wait_busily(page: Page) -> None:
    """With more than two lanes at work none begins to, and those that are idle do not count."""
    page.cpus[GUEST] = 2
    waits = [looked(page) for _ in range(3)]
    for wait in waits:
        wait.look()
    assert [wait.worthwhile for wait in waits] == [False, False, False]
    for known in list(busy_wait._at_work)[:2]:
        busy_wait._at_work[known] -= 2 * busy_wait.AT_WORK_NS
    waits[2].look()
    assert waits[2].worthwhile


@pytest.mark.parametrize(
    ("quota", "said", "may"), [(None, None, True), (2.0, "1", True), (1.9, None, False), (None, "0", False)]
)
def test_quota_or_variable_keep_a_process_from_it_and_its_peer_too(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, said: str | None, may: bool
) -> None:
    """Below two processors, or with CLOISTER_BUSY_WAIT=0, a side does not say where it runs: neither side does it."""
    monkeypatch.setattr(busy_wait, "_allowed", None)
    monkeypatch.setattr(busy_wait, "_at_work", {})
    monkeypatch.setattr(processors, "quota", lambda: quota)
    if said is None:
        monkeypatch.delenv("CLOISTER_BUSY_WAIT", raising=False)
    else:
        monkeypatch.setenv("CLOISTER_BUSY_WAIT", said)
    page = Page()
    page.cpus[GUEST] = 2
    wait = host_side(page)
    wait.look()
    wait.look()
    assert wait.worthwhile is may
    assert bool(page.cpus[HOST]) is may


def test_busy_wait_that_is_in_vain_rests_for_longer_and_longer(
    page: Page, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short one, a long one, then none for 4 messages; again in vain, 8; one that helps begins anew."""
    monkeypatch.setattr(busy_wait, "SPIN_NS", 0)
    monkeypatch.setattr(busy_wait, "LONG_SPIN_NS", 0)
    reader, writer = pipe
    page.cpus[GUEST] = 2
    wait = looked(page)

    def again() -> None:
        wait.look()
        assert wait.worthwhile
        assert wait.left == LOOK_EVERY

    again()
    wait.probe(reader)
    assert wait.worthwhile
    wait.probe(reader)
    assert (wait.worthwhile, wait.left) == (False, SHORT_REST)
    again()
    wait.probe(reader)
    assert (wait.worthwhile, wait.left) == (False, 2 * SHORT_REST)
    again()
    os.write(writer, b"x")
    wait.probe(reader)
    assert wait.worthwhile
    assert os.read(reader, 9) == b"x"
    wait.probe(reader)
    wait.probe(reader)
    assert (wait.worthwhile, wait.left) == (False, SHORT_REST)


def test_long_busy_wait_helps_now_and_then_only(
    page: Page, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the long ones have success, the calls are slow ones, and it is left out."""
    monkeypatch.setattr(busy_wait, "SPIN_NS", 0)
    reader, writer = pipe
    page.cpus[GUEST] = 2
    wait = looked(page)
    for _ in range(2):
        wait.probe(reader)
        os.write(writer, b"x")
        wait.probe(reader)
        os.read(reader, 9)
        assert wait.worthwhile
    wait.probe(reader)
    assert not wait.worthwhile


def test_probe_of_a_closed_descriptor_raises_nothing(page: Page) -> None:
    """What is wrong is said by the read that follows."""
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    looked(page).probe(reader)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux places processes")
def test_sides_on_one_cpu_never_wait_busily(start: Callable[..., cloister.Domain]) -> None:
    """Where host and guest may use one CPU alone, no message is waited for busily."""
    if sys.platform != "linux":
        raise NotImplementedError
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        domain = start()
        for _ in range(3 * LOOK_EVERY):
            assert domain.call("operator:neg", 1) == -1
        lane = domain._life.peer._per_thread.here.lane
        assert lane is not None
        assert not lane._wait.worthwhile
    finally:
        os.sched_setaffinity(0, allowed)
