"""The waits of this process: who waits for whom, and an error instead of a wait that would never end.

Whoever hands out something exclusive says so here: `hold` and `release` for each place, `waiting` around each wait. The
rule is in `cloister.waiting`. Any thread may enter, a finalizer in the middle of it too; nothing here waits.

**Waits afar.** A guest tells of a wait inside of it that has become long (`cloister.long_waits`), and when that is
over. By then it may be over already; so a circle with such waits is a *suspicion*, and each of them is asked for once
more. A guest says yes only where that wait has never ended since it was told. So when the last one has said yes, all
waits of the circle were there at one moment, the one in which the suspicion came up; and a circle that was there once
stays. Then one wait afar, that with which the circle closed or else the newest, is refused. What is refused counts no
more at once, so that no second wait is refused for the same circle.

**Coroutines** say nothing when they wait (`cloister.aio.asleep`). What they await is read while their loops go on, so
it is read twice: a future that was awaited both times was so all the time between. Where a circle has no wait afar, the
wait that closes it is refused, as any other. Nobody hears when a coroutine begins to await what closes a circle; so who
waits for long looks again (`look`), and guests tell of their waits again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from cloister import calling
from cloister.errors import DeadlockDetected
from cloister.waiting import Asleep, Has, Resource, WaitGraph

__all__ = [
    "Asleep",
    "FarWait",
    "Resource",
    "chain_in_words",
    "confirm",
    "coroutines",
    "expect",
    "hold",
    "leave",
    "leave_afar",
    "look",
    "loosen",
    "release",
    "settle",
    "strand_in_words",
    "tighten",
    "wait_afar",
    "waiting",
]


class FarWait(Resource):
    """A wait in another process, and what it is for: something with one place, held by others of that process."""

    __slots__ = ("ask", "questions", "refuse", "strand")

    def __init__(
        self,
        name: str,
        strand: int,
        holders: Iterable[int],
        ask: Callable[[int], None],
        refuse: Callable[[str], None],
    ) -> None:
        """`ask` asks whether it is still there, with a number for `confirm`; `refuse` lets it raise with these words.

        Neither may wait.
        """
        super().__init__(name, 1)
        self.strand = strand
        self.holders.update(holders)
        self.ask, self.refuse = ask, refuse
        self.questions: set[int] = set()
        """Those of the suspicions that it is in."""


ASKING: Final = 5
"""What a question costs, if it costs one to look at a strand."""

LOOKED: Final = 4
"""At how many timers and tasks is looked in the time for one strand."""

Chain = list[tuple[Hashable, Resource]]
Questions = list[tuple[FarWait, int]]


class _Suspicion:
    """A circle that is one if all its waits afar are still there."""

    __slots__ = ("far", "futures", "open", "strand")

    def __init__(self, strand: Hashable, far: list[FarWait], futures: frozenset[Hashable]) -> None:
        self.strand = strand
        """With whose wait it closed."""
        self.futures = futures
        """What the coroutines of it await."""
        self.far = frozenset(far)
        self.open = set(far)
        """Those that have not been confirmed."""


_lock = threading.RLock()  # a finalizer may call while it is held
_graph = WaitGraph()
_suspicions: dict[int, _Suspicion] = {}
"""By the number of the question."""
_suspected: dict[Hashable, int] = {}
"""The question of each strand with whose wait a circle closed."""
_questions = itertools.count(1)
_callers: Callable[[Iterable[Hashable]], Iterable[Any]] | None = None
_may_end: Callable[[Callable[[], Iterable[Any]]], tuple[bool, int]] | None = None
"""As `time_limits.may_end`; None where nobody has said what coroutines await."""


def coroutines(
    asleep: Callable[[Hashable], Resource | None], callers: Callable[[Iterable[Hashable]], Iterable[Any]]
) -> None:
    """Look at the coroutines of this process too. Neither function may wait, and any thread calls them.

    `asleep` gives what the coroutines of a strand await, as `WaitGraph.asleep`. `callers` gives the tasks and futures
    that wait for what these strands do, and may have a time limit that only their loop knows of.
    """
    global _callers
    _load_time_limits()
    _graph.asleep, _callers = asleep, callers


def hold(resource: Resource, strand: int | None = None) -> int:
    """The running strand, or the one given, has got a place. Returns which it is, for `release`."""
    holder = calling.strand() if strand is None else strand
    with _lock:
        _graph.hold(resource, holder)
    return holder


def release(resource: Resource, strand: int) -> None:
    """A strand has given back its place."""
    with _lock:
        _graph.release(resource, strand)


def settle(resource: Resource) -> None:
    """Nobody has a place of this resource any more; for one that is used up."""
    with _lock:
        resource.holders.clear()


def expect(resource: Resource, strand: int, ends: bool = False) -> None:
    """A strand that has not begun will wait for this; nobody asks whether it can ever get it."""
    with _lock:
        _graph.expect(resource, strand, ends)


def leave(strand: int) -> None:
    """A strand that was expected to wait begins."""
    with _lock:
        _graph.leave(strand)


@contextlib.contextmanager
def waiting(resource: Resource, ends: bool, strand: int | None = None) -> Iterator[None]:
    """The running strand waits for a place inside; `ends` where the wait has a time-out.

    Raises DeadlockDetected, before anything waits, where it could never get one.
    """
    waiter = calling.strand() if strand is None else strand
    with _lock:
        stuck = _graph.wait(resource, waiter, ends)
        questions: Questions = []
        words = chain_in_words(stuck) if stuck else ""
        if stuck and not _graph.certain(stuck):
            _graph.expect(resource, waiter)
            words = ""
        if _graph.doubts and not (ends or words):
            questions, words = _suspect(waiter, threads=False)
            if words:
                _graph.leave(waiter)
    if words:
        raise DeadlockDetected(words)
    try:
        _ask(questions)
        yield
    finally:
        with _lock:
            _graph.leave(waiter)


def wait_afar(wait: FarWait) -> int:
    """A strand waits in another process, and that wait has no end by itself. It takes the place of one before it.

    Returns what it has cost to look: how many strands were looked at, and `ASKING` for each question.
    """
    _look_at_threads()
    with _lock:
        before = _graph.steps
        known = _graph.afar.get(wait.strand)
        if isinstance(known, FarWait):
            leave_afar(known)
        _graph.afar[wait.strand] = wait
        questions, _ = _suspect(wait.strand)
        steps = _graph.steps - before
    _ask(questions)
    return steps + ASKING * len(questions)


def look(strand: int) -> str:
    """A strand waits, and has done so for a while: look again whether it is in a circle.

    Returns the words of the error to raise in this wait; empty where there is none, or not before others were asked.
    """
    _look_at_threads()
    with _lock:
        questions, words = _suspect(strand)
    _ask(questions)
    return words


def loosen(strand: int, has: Has) -> None:
    """A coroutine of another process begins to await something here, for this strand. Until `tighten`.

    `has` says whether that process has a strand: it is asked where it counts, and must not wait.
    """
    with _lock:
        _graph.loose.setdefault(strand, Counter())[has] += 1


def tighten(strand: int, has: Has) -> None:
    """It has its answer, or nobody waits for that any more."""
    with _lock:
        whose = _graph.loose.get(strand)
        if whose is not None:
            whose[has] -= 1
            if whose[has] <= 0:
                del whose[has]
            if not whose:
                del _graph.loose[strand]


def _look_at_threads() -> None:
    """From now on look through what threads wait for. Not under the lock, and not before somebody has waited for long:
    what is imported for it takes its time."""
    if _graph.thread is None:
        from cloister import awaited

        _load_time_limits()
        _graph.thread = awaited.thread_asleep


def _load_time_limits() -> None:
    """From now on ask for the time limits of what coroutines await. Not under the lock either."""
    global _may_end
    if _may_end is None:
        from cloister import time_limits

        _may_end = time_limits.may_end


def leave_afar(wait: FarWait) -> None:
    """A wait in another process is over, or not what it was. Does nothing where that is known."""
    with _lock:
        if _graph.afar.get(wait.strand) is wait:
            del _graph.afar[wait.strand]
        for question in list(wait.questions):
            _drop(question)


def confirm(wait: FarWait, question: int) -> int:
    """A wait in another process was still there when this was asked. Where that was the last doubt, one is refused.

    Returns what it has cost to look, as `wait_afar`.
    """
    with _lock:
        suspicion = _suspicions.get(question)
        if suspicion is None:
            return 0
        suspicion.open.discard(wait)
        if suspicion.open:
            return 0
        _drop(question)
        before = _graph.steps
        refused, words = _judge(suspicion)
        steps = _graph.steps - before
    if refused is not None:
        refused.refuse(words)
    return steps


def _drop(question: int | None) -> None:
    """Forget a suspicion, if it is there. The lock is held."""
    suspicion = None if question is None else _suspicions.pop(question, None)
    if suspicion is not None and question is not None:
        del _suspected[suspicion.strand]
        for wait in suspicion.far:
            wait.questions.discard(question)


def _suspect(strand: Hashable, threads: bool = True) -> tuple[Questions, str]:
    """Look whether a circle closes with the wait of a strand; through `threads` too. The lock is held.

    Returns the questions to ask; or, where nobody has to be asked and it is one, the words of the error.
    """
    _drop(_suspected.get(strand))
    chain = _circle(strand, threads)
    if not chain:
        return [], ""
    far, futures = _far(chain), _futures(chain)
    if far:
        question = next(_questions)
        _suspicions[question] = _Suspicion(strand, far, futures)
        _suspected[strand] = question
        for wait in far:
            wait.questions.add(question)
        return [(wait, question) for wait in far], ""
    again = _circle(strand, threads)
    certain = bool(again) and not _far(again) and _futures(again) <= futures and not _has_limit(again)
    return [], chain_in_words(again) if certain else ""


def _far(chain: Chain) -> list[FarWait]:
    return [resource for _, resource in chain if isinstance(resource, FarWait)]


def _futures(chain: Chain) -> frozenset[Hashable]:
    return frozenset[Hashable]().union(*(resource.futures for _, resource in chain if isinstance(resource, Asleep)))


def _has_limit(chain: Chain) -> bool:
    """Whether a coroutine of a circle has a time limit that only its loop knows of. The lock is held.

    To look takes some milliseconds at most. It counts as steps: a guest that lets this process look often is heard
    less, and nobody else is.
    """
    futures = _futures(chain)
    if not futures or _may_end is None:
        return False
    above = (lambda: ()) if _callers is None else partial(_callers, [strand for strand, _ in chain])
    found, looked = _may_end(lambda: [*futures, *above()])
    _graph.steps += looked // LOOKED + 1
    return found


def _ask(questions: Questions) -> None:
    for wait, question in questions:
        wait.ask(question)


def _judge(suspicion: _Suspicion) -> tuple[FarWait | None, str]:
    """Choose the wait to be refused, with the words; None where the circle is gone. The lock is held."""
    newest_first = [
        wait for wait in reversed(_graph.afar.values()) if isinstance(wait, FarWait) and wait in suspicion.far
    ]
    for wait in sorted(newest_first, key=lambda wait: wait.strand != suspicion.strand):
        chain = _circle(wait.strand)
        if chain and suspicion.far.issuperset(_far(chain)) and suspicion.futures >= _futures(chain):
            if _has_limit(chain):
                break
            leave_afar(wait)
            return wait, chain_in_words(chain)
    return None, ""


def _circle(strand: Hashable, threads: bool = True) -> Chain:
    """The strands that can't go on while this one can't, itself first, where it is one of a circle; else empty."""
    chain = _graph.stuck(strand, doubtful=True, threads=threads)
    return chain if any(strand in resource.holders for _, resource in chain) and _graph.certain(chain) else []


def chain_in_words(chain: Chain) -> str:
    """Say who waits for what, and who has that: the message of a DeadlockDetected."""
    first, wanted = chain[0]
    words = [f"{strand_in_words(first)} would wait for itself: it wants {_wanted(wanted)}"]
    for strand, resource in chain[1:]:
        words.append(f"{strand_in_words(strand)} waits for {_wanted(resource)}")
    return "; ".join(words)


def strand_in_words(strand: Hashable) -> str:
    """The name of a strand in an error."""
    if not isinstance(strand, int):
        return str(strand)
    process, interpreter, number = calling.place_of(strand)
    where = f" of interpreter {interpreter}" if interpreter else ""
    return f"thread {number}{where}" + (f" of process {process}" if process not in (0, os.getpid()) else "")


def _wanted(resource: Resource) -> str:
    holders = " and ".join(map(strand_in_words, resource.holders))
    return f"{resource.name}, held by {holders}" if holders else resource.name


def _begin_anew() -> None:
    """A forked child has one strand, and none of what its parent's strands have."""
    global _lock, _graph
    asleep = _graph.asleep
    _lock, _graph = threading.RLock(), WaitGraph()
    _graph.asleep = asleep
    _suspicions.clear()
    _suspected.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
