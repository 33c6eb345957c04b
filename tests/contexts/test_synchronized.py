"""Synchronized classes: which turn an object gets, who waits for whom, and who comes in meanwhile."""

from __future__ import annotations

import contextvars
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

import cloister
from cloister import calling
from cloister.contexts.turn import Pass, Turn
from cloister.errors import CallTimeout
from tests.patience import wait_until

Mode = cloister.Synchronization
JOIN_S = 10.0


class _Maker:
    def make(self, cls: type) -> Any:
        return cls()

    def here(self) -> cloister.Context:
        return cloister.current_context()


class _Made:
    def here(self) -> cloister.Context:
        return cloister.current_context()

    def call(self, function: Callable[[], object]) -> object:
        return function()


Synchronized: Any = cloister.synchronized(Mode.REQUIRES_NEW)(_Maker)


def _turn_of(made: object) -> Turn | None:
    context = cloister.context_of(made)
    assert context is not None
    return context._turn


@contextmanager
def _running(*functions: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.join(JOIN_S)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("mode", "from_synchronized", "from_plain"),
    [
        (Mode.SUPPORTED, "same", "none"),
        (Mode.REQUIRED, "same", "new"),
        (Mode.REQUIRES_NEW, "new", "new"),
        (Mode.NOT_SUPPORTED, "none", "none"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_object_gets_the_turn_that_its_class_asks_for(mode: Any, from_synchronized: str, from_plain: str) -> None:
    """O01: created from a synchronized and from a plain context, an object is in the same, a new, or no turn."""
    made: Any = cloister.synchronized(mode)(_Made)

    def outcome(turn: Turn | None, of_maker: Turn | None) -> str:
        return "none" if turn is None else "same" if turn is of_maker else "new"

    maker = Synchronized()
    assert _turn_of(maker) is not None
    assert outcome(_turn_of(maker.make(made)), _turn_of(maker)) == from_synchronized
    assert outcome(_turn_of(made()), None) == from_plain
    assert maker.make(made).here().is_synchronized == (from_synchronized != "none")


def test_one_of_eight_threads_is_inside() -> None:
    """O02, S45: eight threads call one synchronized object; at no time two are inside, and no change is lost."""

    @cloister.synchronized
    class Counter:
        def __init__(self) -> None:
            self.inside, self.most, self.count = 0, 0, 0

        def add(self) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            count = self.count
            time.sleep(0)  # offers the interpreter to the others
            self.count = count + 1
            self.inside -= 1

    counter = Counter()

    def work() -> None:
        for _ in range(50):
            counter.add()

    with _running(*[work] * 8):
        pass
    assert (counter.most, counter.count) == (1, 400)


def test_the_turn_goes_on_in_the_order_of_arrival() -> None:
    """O02: the hand-over is first come, first served, for twenty threads that came in a known order."""

    @cloister.synchronized
    class Queue:
        def __init__(self) -> None:
            self.served: list[int] = []

        def hold(self, event: threading.Event) -> None:
            assert event.wait(JOIN_S)

        def serve(self, number: int) -> None:
            self.served.append(number)

    queue, event = Queue(), threading.Event()
    turn = _turn_of(queue)
    assert turn is not None
    with _running(lambda: queue.hold(event)):
        wait_until(lambda: bool(turn.holders))
        threads = []
        for number in range(20):
            threads.append(threading.Thread(target=queue.serve, args=(number,)))
            threads[-1].start()
            wait_until(lambda number=number: turn.waiting == number + 1)
        event.set()
        for thread in threads:
            thread.join(JOIN_S)
    assert queue.served == list(range(20))


@pytest.mark.parametrize("reentrant", [False, True], ids=["not re-entrant", "re-entrant"])
def test_others_come_in_during_a_call_out_only_if_reentrant(reentrant: bool) -> None:
    """O03, S45: while one calls out to another context, others come in if it is re-entrant, else nobody."""
    made: Any = cloister.synchronized(Mode.REQUIRES_NEW, reentrant=reentrant)(_Made)
    first, outside = made(), made()
    out, go_on = threading.Event(), threading.Event()
    came_in: list[bool] = []

    def hold() -> None:
        out.set()
        assert go_on.wait(JOIN_S)

    def look() -> None:
        came_in.append(first.here().is_reentrant)

    turn = _turn_of(first)
    assert turn is not None
    with _running(lambda: first.call(lambda: outside.call(hold))):
        assert out.wait(JOIN_S)
        with _running(look):
            if reentrant:
                wait_until(lambda: came_in == [True])
            else:
                wait_until(lambda: turn.waiting == 1)
                assert not came_in
            go_on.set()
    assert came_in == [reentrant]
    assert turn.holders == ()


@pytest.mark.parametrize("reentrant", [False, True], ids=["not re-entrant", "re-entrant"])
def test_a_call_out_that_comes_back_proceeds_and_excludes_others(reentrant: bool) -> None:
    """O03, S45: a call-out that calls back into the same object goes on, and while it is in there nobody else is."""
    made: Any = cloister.synchronized(Mode.REQUIRES_NEW, reentrant=reentrant)(_Made)
    first, outside = made(), made()
    turn = _turn_of(first)
    assert turn is not None
    back, go_on = threading.Event(), threading.Event()
    came_in: list[bool] = []

    def hold() -> None:
        back.set()
        assert go_on.wait(JOIN_S)
        assert not came_in

    with _running(lambda: first.call(lambda: outside.call(lambda: first.call(hold)))):
        assert back.wait(JOIN_S)
        with _running(lambda: came_in.append(first.here().is_synchronized)):
            wait_until(lambda: turn.waiting == 1)
            go_on.set()
    assert came_in == [True]


def test_objects_of_one_turn_call_each_other_without_waiting() -> None:
    """O01: an object that shares its maker's turn calls it back, and is called, while its maker is inside."""

    @cloister.synchronized
    class Parent:
        def __init__(self) -> None:
            self.child = Child(self)

        def go(self) -> str:
            return self.child.back()

        def answer(self) -> str:
            return "answered"

    @cloister.intercepted(lambda call: call.proceed())
    @cloister.synchronized
    class Child:
        def __init__(self, parent: Parent) -> None:
            self.parent = parent

        def back(self) -> str:
            return self.parent.answer()

    parent = Parent()
    child = parent.child
    assert parent.go() == "answered"
    assert _turn_of(child) is _turn_of(parent)
    assert cloister.context_of(child) is not cloister.context_of(parent)


def test_an_exception_gives_the_turn_back() -> None:
    """O02: what a constructor or a method raises arrives as it is, and the next one comes in."""

    @cloister.synchronized
    class Faulty:
        def __init__(self, fault: bool = False) -> None:
            if fault:
                raise ValueError("made badly")

        def fail(self) -> None:
            raise LookupError("called badly")

        def fine(self) -> int:
            return 1

    with pytest.raises(ValueError, match="made badly"):
        Faulty(True)
    faulty = Faulty()
    with pytest.raises(LookupError, match="called badly"):
        faulty.fail()
    answers: list[int] = []
    with _running(lambda: answers.append(faulty.fine())):
        pass
    assert answers == [1]
    assert cloister.current_context().is_default


def test_waiting_for_the_turn_ends_with_the_time() -> None:
    """O02: a caller whose time is up waits no longer: CallTimeout names the context; the others wait on."""
    made: Any = cloister.synchronized(_Made)
    held = made()
    turn = _turn_of(held)
    assert turn is not None
    event = threading.Event()
    with _running(lambda: held.call(lambda: event.wait(JOIN_S))):
        wait_until(lambda: bool(turn.holders))
        with pytest.raises(CallTimeout, match=r"waited for its turn in <context \d+>"), cloister.timeout(0.01):
            held.here()
        assert turn.waiting == 0
        event.set()
    assert held.here().is_synchronized


def test_every_step_of_a_generator_takes_the_turn() -> None:
    """S45: a generator that a synchronized method returns runs inside, step by step, and lets others in between."""

    @cloister.synchronized
    class Steps:
        def each(self, count: int) -> Generator[int, int | None, None]:
            got: int | None = 0
            try:
                for _ in range(count):
                    got = yield cloister.current_context().id + (got or 0)
            except KeyError:
                yield -1

    steps = Steps()
    number = getattr(cloister.context_of(steps), "id", None)
    generator: Any = steps.each(3)
    assert next(generator) == number
    turn = _turn_of(steps)
    assert turn is not None
    assert turn.holders == ()
    assert generator.send(100) == (number or 0) + 100
    assert generator.throw(KeyError()) == -1
    generator.close()
    assert list(steps.each(2)) == [number] * 2


def test_an_async_method_is_refused() -> None:
    """S45: an async method would run after it has left; the class is refused by name, with the ways out."""
    with pytest.raises(TypeError, match=r"Late\.soon: an async method .* asyncio\.Lock"):

        @cloister.synchronized
        class Late:
            async def soon(self) -> None: ...


def test_a_task_that_is_started_inside_begins_outside() -> None:
    """S46: a thread that is started inside, even with its context variables, is in the default context."""
    made: Any = cloister.synchronized(_Made)
    one = made()
    seen: list[Any] = []

    def start() -> None:
        copy = contextvars.copy_context()
        with _running(lambda: seen.append(copy.run(lambda: cloister.current_context().is_default))):
            pass
        seen.append(copy)

    one.call(start)
    assert seen[0] is True
    assert seen[1].run(lambda: cloister.current_context().is_default)  # on this thread, but its stay is over


def test_leaving_is_allowed_at_any_moment() -> None:
    """O02: a pass that never came in, or waits, may leave; the turn stays whole."""
    turn = Turn(reentrant=False)
    never, first = Pass(1), Pass(1)
    turn.leave(never)
    turn.enter(first)
    waiting = Pass(2)
    waiting.thread += 1  # of another thread
    with pytest.raises(CallTimeout):
        turn.enter(waiting, time.monotonic())
    turn.leave(waiting)
    assert (turn.waiting, turn.holders) == (0, (1,))
    assert turn.step_out() == [first]
    assert turn.holders == ()
    turn.step_in([first])
    turn.leave(first)
    turn.step_in([])
    assert turn.holders == ()


def test_what_is_interrupted_on_its_way_back_in_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """O03: an exception while a call-out comes back leaves the turn to those who have it."""
    turn = Turn(reentrant=True)
    own, other = Pass(1), Pass(2)
    other.thread += 1
    turn.enter(own)
    passes = turn.step_out()
    turn.enter(other)

    def interrupted(limit: float | None) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("cloister.contexts.turn._slice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turn.step_in(passes)
    assert (turn.holders, turn.waiting) == ((2,), 0)
    assert turn.step_out() == []
    turn.call_out(True)
    turn.leave(own)
    assert turn.holders == (2,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_a_fork_in_the_middle_of_a_call_can_use_the_object() -> None:
    """S45: a child that is forked while another thread is inside of an object comes in, for it has that thread not."""
    made: Any = cloister.synchronized(_Made)
    one = made()
    event, inside = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert event.wait(JOIN_S)

    with _running(lambda: one.call(hold)):
        assert inside.wait(JOIN_S)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from 3.12 on, about threads
            pid = os.fork()
        if pid == 0:
            os._exit(40 + one.here().is_synchronized)
        _, status = os.waitpid(pid, 0)
        event.set()
    assert os.waitstatus_to_exitcode(status) == 41


def test_a_forked_child_forgets_the_threads_that_it_does_not_have() -> None:
    """S45: in a forked child an object whose turn a thread of the parent had can be entered; its own pass is kept."""
    turn = Turn(reentrant=False)
    other, own = Pass(2), Pass(1)
    other.thread += 1
    turn._inside.append(other)
    turn.begin_anew()
    turn.enter(own)
    assert turn.holders == (1,)
    turn.begin_anew()
    assert turn.holders == (1,)


def test_the_same_strand_comes_in_on_another_thread_while_it_calls_out() -> None:
    """O03: a pass of the same strand comes in from another thread during a call-out over a wall, and only then."""
    turn = Turn(reentrant=False)
    first, second, third = Pass(7), Pass(7), Pass(8)
    second.thread, third.thread = first.thread + 1, first.thread + 2
    turn.enter(first)
    for other in (second, third):
        with pytest.raises(CallTimeout):
            turn.enter(other, time.monotonic())
        turn.leave(other)
    turn.call_out(True)
    turn.enter(second)
    with pytest.raises(CallTimeout):
        turn.enter(third, time.monotonic())
    turn.leave(third)
    turn.leave(second)
    turn.call_out(False)
    with pytest.raises(CallTimeout):
        turn.enter(second, time.monotonic())
    turn.leave(second)
    assert turn.holders == (7,)
    turn.leave(first)


def test_two_objects_that_wait_for_each_other_are_a_deadlock() -> None:
    """O03: two threads, each inside of one object and calling the other one: one of them is told, the other goes on."""
    made: Any = cloister.synchronized(Mode.REQUIRES_NEW)(_Made)
    one, two = made(), made()
    both = threading.Barrier(2)
    outcomes: list[Any] = []

    def work(own: Any, other: Any) -> None:
        def meet() -> Any:
            both.wait(JOIN_S)
            return other.call(lambda: "done")

        try:
            outcomes.append(own.call(meet))
        except cloister.DeadlockDetected as error:
            outcomes.append(error)

    with _running(lambda: work(one, two), lambda: work(two, one)):
        pass
    errors = [outcome for outcome in outcomes if outcome != "done"]
    assert len(outcomes) == 2
    assert len(errors) == 1
    assert "synchronized turn" in str(errors[0])
    assert "one at a time" in str(errors[0])
    assert one.here().is_synchronized
    assert two.here().is_synchronized


def test_copies_of_one_context_on_several_threads_take_turns() -> None:
    """O02: threads that run copies of one strand's context variables take turns; that is no deadlock."""
    made: Any = cloister.synchronized(_Made)
    one = made()
    inside: list[int] = []

    def visit() -> None:
        def look() -> None:
            inside.append(1)
            time.sleep(0.001)
            assert inside == [1]
            inside.clear()

        for _ in range(5):
            one.call(look)

    variables = contextvars.copy_context()
    variables.run(calling.begin_strand)
    with _running(*[partial(variables.copy().run, visit) for _ in range(4)]):
        pass
    assert not inside


def test_a_turn_that_is_handed_over_is_no_deadlock() -> None:
    """O02: threads that nest two objects in the same order wait for each other, and none is told of a deadlock."""
    made: Any = cloister.synchronized(Mode.REQUIRES_NEW)(_Made)
    one, two = made(), made()
    outcomes: list[str] = []

    def work() -> None:
        for _ in range(30):
            outcomes.append(one.call(lambda: two.call(lambda: "done")))
            outcomes.append(two.call(lambda: "done"))

    with _running(*[work] * 6):
        pass
    assert outcomes == ["done"] * 360
