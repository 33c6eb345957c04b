"""What a guest tells its host of a wait that lasts, and what it answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cloister import long_waits
from cloister.errors import DeadlockDetected
from cloister.long_waits import LongWait


class Told:
    """What the host has heard, and the time, which stands still."""

    def __init__(self) -> None:
        self.waits: list[tuple[Any, ...]] = []
        self.confirmed: list[tuple[int, int]] = []
        self.now = 100.0


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """This process is a guest, with a clock of its own."""
    told = Told()
    monkeypatch.setattr(long_waits, "_tell", lambda *wait: told.waits.append(wait))
    monkeypatch.setattr(long_waits, "_confirm", lambda *answer: told.confirmed.append(answer))
    monkeypatch.setattr(long_waits, "time", SimpleNamespace(monotonic=lambda: told.now))
    yield told
    assert not long_waits._told


def test_wait_is_told_again_more_and_more_seldom(told: Told) -> None:
    """At first after a quarter of a second, at last every four, with the same number; and once when it is over."""
    wait = LongWait(7, 1, lambda: (2,))
    heard: list[float] = []
    for _ in range(200):
        before = len(told.waits)
        wait.look()
        if len(told.waits) > before:
            heard.append(round(told.now - 100, 1))
        told.now += 0.1
    assert [round(later - sooner) for sooner, later in itertools.pairwise(heard)] == [0, 0, 1, 1, 2, 4, 4, 4]
    assert all(each == told.waits[0] for each in told.waits)
    wait.over()
    wait.over()
    assert told.waits[-1] == (told.waits[0][0],)
    assert told.waits.count(told.waits[-1]) == 1


def test_wait_for_what_had_another_holder_meanwhile_does_not_stand(told: Told) -> None:
    """The same strand may have it again; then it is another wait, with the next number."""
    changes = [0]
    wait = LongWait("a lane", 1, lambda: (2,), lambda: changes[0])
    wait.look()
    number = told.waits[0][0]
    long_waits.ask(number, 5)
    changes[0] += 2
    long_waits.ask(number, 6)
    assert told.confirmed == [(number, 5)]
    assert told.waits[-1] == (number,)
    told.now += 1
    wait.look()
    assert list(told.waits[-1]) == [number + 1, 1, [2], "a lane"]
    wait.over()


def test_wait_that_was_refused_stands_no_more_and_raises(told: Told) -> None:
    """A question that comes after the refusal is not confirmed, so that no second wait is refused for the circle."""
    wait = LongWait(7, 1, lambda: (2,))
    wait.look()
    number = told.waits[0][0]
    long_waits.refuse(number, "a circle")
    long_waits.ask(number, 5)
    assert not told.confirmed
    with pytest.raises(DeadlockDetected, match="a circle"):
        wait.look()
    wait.over()
    long_waits.refuse(number, "late")
