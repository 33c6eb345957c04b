"""What a host believes of the waits that a guest tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cloister import long_waits, waits
from cloister.domain.guest_waits import (
    FOREIGN,
    MAX_HOLDERS,
    MAX_WAITS,
    MOST_STEPS,
    STEPS_S,
    GuestWaits,
)
from cloister.waiting import MAX_DOUBTFUL
from cloister.wire.messages import Kind

PID = 4711


class Guest:
    """A life without a guest; the calls of the strands 1 and 2 are open in it."""

    def __init__(self, name: str = "liar") -> None:
        self.sent: list[tuple[Any, ...]] = []
        life: Any = SimpleNamespace(
            name=name,
            inside=None,
            over=False,
            process=SimpleNamespace(pid=PID),
            peer=SimpleNamespace(has_strand={1, 2}.__contains__),
            speaker=SimpleNamespace(send=lambda *message: self.sent.append(message)),
        )
        self.waits = GuestWaits(life)


@pytest.fixture
def guest() -> Iterator[Guest]:
    """One guest; afterwards nothing of it is left."""
    made = Guest()
    yield made
    made.waits.end()
    assert not waits._graph.afar
    assert not waits._suspicions


def test_only_its_own_strands_and_those_of_its_callers_count(guest: Guest) -> None:
    """What a guest says of strands that have nothing to do with it is ignored; there is a bound to all else."""
    own = PID << 40
    guest.waits.heard(1, [1, [9], 1])
    guest.waits.heard(2, [own + 1, [9], 1])
    guest.waits.heard(3, [3, [9], 1])
    guest.waits.heard(4, [2, list(range(MAX_HOLDERS + 1)), 1])
    assert list(waits._graph.afar) == [1, own + 1]
    for number in range(2 * MAX_WAITS):
        guest.waits.heard(10 + number, [own + number, [9], 1])
    assert len(waits._graph.afar) <= MAX_WAITS
    guest.waits.heard(1, [])
    assert 1 not in waits._graph.afar


def test_strands_that_a_guest_may_name(guest: Guest) -> None:
    """Its own, and those with a call open in it; none of another domain, and none once it has ended."""
    assert [guest.waits.has(strand) for strand in (1, PID << 40, 3, PID + 1 << 40, "task")] == [True] * 2 + [False] * 3
    life: Any = guest.waits._life
    life.over = True
    assert not guest.waits.has(1)


def test_guest_is_asked_and_told_by_the_number_of_its_wait(guest: Guest) -> None:
    """Each wait of a circle is asked for with its number; the refusal goes to the one that closed it."""
    guest.waits.heard(5, [1, [2], 7])
    guest.waits.heard(6, [2, [1], 8])
    asked = [message for message in guest.sent if message[0] is Kind.STILL]
    assert [number for _, number, _ in asked] == [6, 5]
    question = asked[0][2]
    guest.waits.stands(5, question)
    guest.waits.stands(6, question + 1)
    guest.waits.stands(77, question)
    assert len(guest.sent) == 2
    guest.waits.stands(6, question)
    kind, number, words = guest.sent[-1]
    assert (kind, number) == (Kind.DEADLOCK, 6)
    assert "synchronized turn 8 (one at a time) of domain 'liar', held by thread 1" in words


def test_endless_chain_is_not_followed(guest: Guest) -> None:
    """A chain longer than any real one is given up, so that a message costs no more than that."""
    own = PID << 40
    for number in range(MAX_DOUBTFUL + 10):
        guest.waits.heard(number, [own + number, [own + number + 1], 1])
    guest.waits.heard(MAX_DOUBTFUL + 10, [own + MAX_DOUBTFUL + 10, [own], 1])
    assert not guest.sent


def test_wait_that_lasts_is_passed_on_to_the_host_of_this_process(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a guest: what is told again goes up, with a number of its own; questions and the refusal come down."""
    told: list[tuple[Any, ...]] = []
    confirmed: list[tuple[Any, ...]] = []
    monkeypatch.setattr(long_waits, "_tell", lambda *message: told.append(message))
    monkeypatch.setattr(long_waits, "_confirm", lambda *message: confirmed.append(message))
    guest.waits.heard(5, [1, [9], 7])
    assert not told
    guest.waits.heard(5, [1, [9], 7])
    guest.waits.heard(5, [1, [9], 7])
    (number, strand, holders, what), again = told
    assert again == told[0]
    assert (strand, holders) == (1, [9])
    assert what == "synchronized turn 7 (one at a time) of domain 'liar'"
    long_waits.ask(number, 33)
    assert guest.sent[-1] == (Kind.STILL, 5, -33)
    guest.waits.stands(5, -33)
    guest.waits.stands(6, -34)
    assert confirmed == [(number, 33)]
    long_waits.refuse(number, "never")
    assert list(guest.sent[-1]) == [Kind.DEADLOCK, 5, "never"]
    guest.waits.heard(5, [])
    assert told[-1] == (number,)
    long_waits.ask(number, 34)
    assert told[-1] == (number,)
    assert not long_waits._told


def test_name_of_what_a_guest_has_is_cut(guest: Guest) -> None:
    """A guest may say in words what is waited for; the words are bounded."""
    guest.waits.heard(1, [1, [9], "x" * 1000])
    (wait,) = waits._graph.afar.values()
    assert len(wait.name) < 300


def test_what_a_guest_says_is_looked_at_only_so_much(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring of its own strands, told again without end: it costs no more than its share, and others are heard."""
    now = time.monotonic()
    monkeypatch.setattr("cloister.domain.guest_waits.time.monotonic", lambda: now)
    other = Guest("other")
    own, most = PID << 40, MAX_DOUBTFUL * (1 + waits.ASKING)

    def ring(times: int) -> tuple[int, int]:
        steps, asked = waits._graph.steps, len(guest.sent)
        for number in range(times):
            place = number % MAX_DOUBTFUL
            guest.waits.heard(place, [own + place, [own + (place + 1) % MAX_DOUBTFUL], 1])
        return waits._graph.steps - steps, len(guest.sent) - asked

    steps, asked = ring(5000)
    assert asked
    assert steps + waits.ASKING * asked <= MOST_STEPS + most
    assert len(waits._suspicions) <= MAX_DOUBTFUL
    assert ring(1000) == (0, 0)
    other.waits.heard(1, [1, [2], 7])
    other.waits.heard(2, [2, [1], 8])
    assert [message[0] for message in other.sent] == [Kind.STILL] * 2
    other.waits.end()
    now += 0.1
    steps, asked = ring(1000)
    assert 0 < steps + waits.ASKING * asked <= STEPS_S / 10 + most
    guest.waits.heard(0, [])  # that one is over is always heard
    assert own not in waits._graph.afar
    assert not waits._suspicions


def test_strand_that_is_not_its_own_costs_to_look_up(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that names strands without calls is not looked up for without end."""
    now = time.monotonic()
    monkeypatch.setattr("cloister.domain.guest_waits.time.monotonic", lambda: now)
    looked: list[int] = []
    peer: Any = guest.waits._life.peer
    peer.has_strand = looked.append
    for number in range(MOST_STEPS):
        guest.waits.heard(number, [3, [9], 1])
    assert len(looked) <= MOST_STEPS / FOREIGN
