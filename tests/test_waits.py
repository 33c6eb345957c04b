"""Waits in other processes: a circle is refused once it is certain, and only one wait of it."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from cloister import calling, waits
from cloister.errors import DeadlockDetected
from tests.patience import wait_until


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test leaves the graph of this process as it was."""
    yield
    assert not waits._graph.afar
    assert not waits._suspicions
    assert not list(waits._graph.waiting())
    assert not waits._graph.loose


class Told:
    """A wait that a guest has told, with what its host has asked and said."""

    def __init__(self, strand: int, *holders: int) -> None:
        self.questions: list[int] = []
        self.refused: list[str] = []
        self.wait = waits.FarWait(f"turn of {strand}", strand, holders, self.questions.append, self.refused.append)
        waits.wait_afar(self.wait)

    def confirm(self) -> None:
        waits.confirm(self.wait, self.questions[-1])

    def over(self) -> None:
        waits.leave_afar(self.wait)


def test_wait_that_closes_a_circle_is_refused_when_all_have_confirmed() -> None:
    """The one that closed the circle raises, with the whole chain; the other one goes on."""
    first = Told(1, 2)
    assert not first.questions
    second = Told(2, 1)
    second.confirm()
    assert not second.refused
    first.confirm()
    assert second.refused == [
        "thread 2 would wait for itself: it wants turn of 2, held by thread 1; "
        "thread 1 waits for turn of 1, held by thread 2"
    ]
    assert not first.refused
    first.over()


def test_wait_that_is_over_meanwhile_ends_the_suspicion() -> None:
    """What one guest has confirmed is nothing where another one says that its wait is over, or is another by now."""
    first, second = Told(1, 2), Told(2, 1)
    second.confirm()
    first.over()
    first.confirm()
    assert not second.refused
    again = Told(1, 2)
    changed = Told(2, 3)
    again.confirm()
    second.confirm()
    assert not [told for told in (again, second, changed) if told.refused]
    again.over()
    changed.over()


def test_wait_that_is_told_anew_is_asked_for_anew() -> None:
    """The circle looks as before, but what was said of the wait before is nothing to this one."""
    first, second = Told(1, 2), Told(2, 1)
    second.confirm()
    anew = Told(1, 2)
    first.confirm()
    assert not second.refused
    second.over()
    anew.over()


def test_late_answer_to_an_earlier_question_counts_for_that_one_only() -> None:
    """A confirmation that was on its way when a new suspicion came up says nothing about that."""
    first, second = Told(1, 2), Told(2, 1)
    early = first.questions[0]
    second.over()
    second = Told(2, 1)
    second.confirm()
    waits.confirm(first.wait, early)
    assert not second.refused
    first.confirm()
    assert second.refused
    first.over()


def test_wait_of_this_process_closes_a_circle() -> None:
    """Where the last wait of a circle is one of this process, the newest one of a guest in it is refused."""
    resource = waits.Resource("domain 'a'", 1)
    waits.hold(resource, 2)
    outside, told = Told(7, 2), Told(2, 1)
    with waits.waiting(resource, True, 1):
        assert not told.questions
    with waits.waiting(resource, False, 1):
        told.confirm()
        assert told.refused
        assert not outside.questions
    waits.release(resource, 2)
    outside.over()


def test_strand_is_loose_only_where_it_is() -> None:
    """A coroutine that awaits something here makes a strand uncertain where its process has that strand, until it is
    over; one that names the strand of another process changes nothing."""

    def has(strand: object) -> bool:
        return True

    def lies(strand: object) -> bool:
        return False

    waits.loosen(1, has)
    waits.loosen(1, lies)
    waits.loosen(1, lies)
    first, second = Told(1, 2), Told(2, 1)
    assert not first.questions
    waits.tighten(1, has)
    waits.tighten(1, has)
    second.over()
    second = Told(2, 1)
    first.confirm()
    second.confirm()
    assert second.refused
    first.over()
    waits.tighten(1, lies)
    waits.tighten(1, lies)


def test_looking_for_time_limits_is_paid_by_who_has_it_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a guest's answer has cost counts the timers that were looked at; another circle is looked at as well."""
    looked: list[int] = []

    def may_end(awaited: object) -> tuple[bool, int]:
        looked.append(1)
        return len(looked) == 1, 4000

    monkeypatch.setattr(waits, "_may_end", may_end)
    monkeypatch.setattr(waits, "_callers", None)
    asleep = {2: waits.Asleep("it awaits", [1], ["a"]), 4: waits.Asleep("it awaits", [3], ["b"])}
    monkeypatch.setattr(waits._graph, "asleep", asleep.get)
    first, second = Told(1, 2), Told(3, 4)
    assert waits.confirm(first.wait, first.questions[-1]) > 1000
    assert not first.refused
    assert waits.confirm(second.wait, second.questions[-1]) > 1000
    assert second.refused
    first.over()


class Model:
    """Strands that take and give back turns of guests and of this process, with messages that take their time."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.strands = range(1, 7)
        self.holder: dict[int, int] = {}
        self.queues: dict[int, deque[int]] = {turn: deque() for turn in range(6)}
        self.wants: dict[int, int] = {}
        self.shown: dict[int, tuple[int, int]] = {}
        """What each strand has told: (number, holder)."""
        self.far: dict[int, waits.FarWait] = {}
        self.up: dict[int, deque[Callable[[], object]]] = {guest: deque() for guest in range(3)}
        self.down: dict[int, deque[Callable[[], object]]] = {guest: deque() for guest in range(3)}
        self.numbers = iter(range(1, 1_000_000))
        self.places = {turn: waits.Resource(f"host {turn}", 1) for turn in self.queues if self.guest(turn) == 3}
        self.host_waits: dict[int, AbstractContextManager[None]] = {}
        self.refused = 0

    @staticmethod
    def guest(turn: int) -> int:
        """Which guest has a turn; 3 is this process."""
        return turn % 4

    def stuck(self, strand: int) -> bool:
        """Whether a strand is in a circle, in truth."""
        current, steps = strand, 0
        while current in self.wants and steps <= len(self.strands):
            current, steps = self.holder[self.wants[current]], steps + 1
            if current == strand:
                return True
        return False

    def take(self, strand: int, turn: int) -> None:
        if self.holder.get(turn) == strand:
            return
        if turn not in self.holder:
            self.got(strand, turn)
            return
        self.wants[strand] = turn
        self.queues[turn].append(strand)
        if turn in self.places:
            wait = waits.waiting(self.places[turn], False, strand)
            try:
                wait.__enter__()
            except DeadlockDetected:
                assert self.stuck(strand)
                self.raises(strand)
            else:
                self.host_waits[strand] = wait

    def got(self, strand: int, turn: int) -> None:
        self.holder[turn] = strand
        if turn in self.places:
            waits.hold(self.places[turn], strand)

    def give_back(self, turn: int) -> None:
        strand = self.holder.pop(turn)
        if turn in self.places:
            waits.release(self.places[turn], strand)
        if self.queues[turn]:
            follower = self.queues[turn].popleft()
            self.end_wait(follower)
            self.got(follower, turn)

    def end_wait(self, strand: int) -> None:
        turn = self.wants.pop(strand)
        wait = self.host_waits.pop(strand, None)
        if wait is not None:
            wait.__exit__(None, None, None)
        self.hide(strand, turn)

    def hide(self, strand: int, turn: int) -> None:
        number, _ = self.shown.pop(strand, (0, 0))
        if number:
            self.up[self.guest(turn)].append(lambda: self.leave(number))

    def raises(self, strand: int) -> None:
        self.queues[self.wants[strand]].remove(strand)
        self.end_wait(strand)
        for turn in [turn for turn, holder in self.holder.items() if holder == strand]:
            self.give_back(turn)

    def look(self, strand: int) -> None:
        """A guest tells of a wait that has lasted, and tells it anew where others have the turn."""
        turn = self.wants.get(strand)
        if turn is None or turn in self.places:
            return
        holder = self.holder[turn]
        if self.shown.get(strand, (0, 0))[1] != holder:
            self.hide(strand, turn)
            number = next(self.numbers)
            self.shown[strand] = number, holder
            self.up[self.guest(turn)].append(lambda: self.tell(number, strand, holder, turn))

    def tell(self, number: int, strand: int, holder: int, turn: int) -> None:
        down = self.down[self.guest(turn)]

        def ask(question: int) -> None:
            down.append(lambda: self.asked(number, strand, turn, question))

        def refuse(_: str) -> None:
            assert self.stuck(strand)
            self.refused += 1
            down.append(lambda: self.told_no(number, strand))

        self.far[number] = waits.FarWait(f"turn {turn}", strand, [holder], ask, refuse)
        waits.wait_afar(self.far[number])

    def leave(self, number: int) -> None:
        waits.leave_afar(self.far.pop(number))

    def asked(self, number: int, strand: int, turn: int, question: int) -> None:
        if self.shown.get(strand, (0, 0))[0] == number and self.holder.get(turn) == self.shown[strand][1]:
            self.up[self.guest(turn)].append(
                lambda: waits.confirm(self.far[number], question) if number in self.far else None
            )

    def told_no(self, number: int, strand: int) -> None:
        if self.shown.get(strand, (0, 0))[0] == number:
            self.raises(strand)

    def step(self) -> None:
        strand = self.draw.choice(self.strands)
        match self.draw.randrange(6):
            case 0 if strand not in self.wants:
                self.take(strand, self.draw.randrange(len(self.queues)))
            case 1 if strand not in self.wants:
                held = [turn for turn, holder in self.holder.items() if holder == strand]
                if held:
                    self.give_back(self.draw.choice(held))
            case 2:
                self.look(strand)
            case _:
                self.deliver()

    def deliver(self) -> bool:
        full = [queue for queue in (*self.up.values(), *self.down.values()) if queue]
        if full:
            self.draw.choice(full).popleft()()
        return bool(full)

    def settle(self) -> None:
        """Nobody takes anything more: let all messages arrive."""
        for _ in range(20):
            while self.deliver():
                pass
            for strand in self.strands:
                self.look(strand)

    def end(self) -> None:
        while self.holder:
            held = next(turn for turn, holder in self.holder.items() if holder not in self.wants)
            self.give_back(held)
        while self.deliver():
            pass


def test_circles_and_only_circles_are_refused_whatever_messages_take_their_time() -> None:
    """In random courses no wait is refused that is in no circle at that moment, and in the end no circle is left."""
    refused = 0
    for seed in range(150):
        model = Model(seed)
        for _ in range(400):
            model.step()
        model.settle()
        assert not [strand for strand in model.strands if model.stuck(strand)], seed
        model.end()
        refused += model.refused
    assert refused > 100


def test_thread_that_has_ended_leaves_no_strand_to_the_next_one_with_its_ident() -> None:
    """The system gives an ident again: a thread that has called nobody is not taken for the one that had it before."""
    idents: list[int] = []

    def work() -> None:
        strand = calling.logical_thread()
        idents.append(threading.get_ident())
        assert calling.strand_there(idents[0]) == strand
        assert calling.thread_of(strand) == idents[0]
        idents.append(strand)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    thread, strand = idents
    wait_until(lambda: not calling.strand_there(thread))
    assert calling.thread_of(strand) == 0
