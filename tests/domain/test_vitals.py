"""The judgement of signs of life, without a clock: what was seen and when decides what is told."""

from __future__ import annotations

import pytest

from cloister.domain.setup import Watchdog
from cloister.domain.vitals import Vitals

DOG = Watchdog(beat=2.0, misses=3)


@pytest.fixture
def vitals() -> Vitals:
    """Signs of life since second 100, with a beat at 101 when 5 s of CPU were used."""
    signs = Vitals(DOG, 100.0)
    assert signs.beat(101.0, 5.0, [], []) is None
    return signs


def test_silence_within_the_misses_is_no_matter(vitals: Vitals) -> None:
    """S07: as long as no more beats are missing than allowed, nothing is told."""
    assert vitals.due() == 108.0
    assert vitals.look(107.9, 5.0, "S") is None
    assert not vitals.unresponsive


@pytest.mark.parametrize(
    ("state", "cpu", "why"),
    [("T", 5.0, "stopped"), ("R", 12.0, "busy"), ("S", 5.1, "silent"), ("", None, "silent")],
)
def test_long_silence_is_told_once_with_its_cause(vitals: Vitals, state: str, cpu: float | None, why: str) -> None:
    """S07: a silence is judged by the state of the process and by the CPU time that it used meanwhile."""
    silent = vitals.look(108.0, cpu, state)
    assert silent is not None
    assert (silent.why, silent.missed) == (why, 3)
    assert silent.cpu_seconds == pytest.approx(0.0 if cpu is None else cpu - 5.0)
    assert vitals.look(110.0, cpu, state) is None


def test_guest_that_was_ready_and_never_beat_is_judged() -> None:
    """S07: code that keeps even the first beat away is told like any other silence; a start is not judged."""
    signs = Vitals(DOG, 100.0)
    assert signs.look(500.0, 5.0, "R") is None
    signs.began(500.0)
    assert signs.look(506.9, 5.0, "R") is None
    silent = signs.look(507.0, 5.0, "R")
    assert silent is not None
    assert (silent.why, silent.missed) == ("busy", 3)


def test_debugged_process_is_not_judged(vitals: Vitals) -> None:
    """S07: a process that a tracer holds is never called unresponsive."""
    assert vitals.look(500.0, 5.0, "t") is None


def test_suspended_domain_owes_no_beats(vitals: Vitals) -> None:
    """S07: a domain that was suspended on purpose is not called unresponsive."""
    vitals.suspended = True
    assert vitals.look(500.0, 5.0, "T") is None


def test_beat_after_silence_tells_how_long_it_was(vitals: Vitals) -> None:
    """S07: the first beat after a silence ends it and says its length; the next one says nothing."""
    vitals.look(120.0, 5.0, "S")
    assert vitals.beat(121.0, 5.0, [], []) == 20.0
    assert vitals.beat(123.0, 5.0, [], []) is None
    assert not vitals.unresponsive


def test_call_that_nobody_takes_up_is_no_work(vitals: Vitals) -> None:
    """S06: a call that is missing from two beats in a row is not worked on; one beat is not enough to say so."""
    vitals.beat(103.0, 5.0, [(0, 7)], [(0, 7), (3, 1)])
    assert vitals.working
    vitals.beat(105.0, 5.0, [(0, 7)], [(0, 7), (3, 1)])
    assert not vitals.working
    vitals.beat(107.0, 5.0, [(3, 1)], [(3, 1)])
    assert vitals.working


def test_new_calls_at_every_beat_are_work(vitals: Vitals) -> None:
    """S06: calls that come and go between the beats are never taken for one that waits."""
    for number in range(10):
        vitals.beat(103.0 + number, 5.0, [], [(0, number)])
        assert vitals.working


def test_guest_that_has_not_begun_to_beat_is_not_judged() -> None:
    """S07: A slow start is judged by the start time-out, not by beats that are shorter than it."""
    signs = Vitals(DOG, 100.0)
    assert signs.look(500.0, 5.0, "R") is None
    signs.beat(500.0, 5.0, [], [])
    assert signs.look(520.0, 5.0, "R") is not None
