"""What a pool has to do: single tasks and chunks of a map, each with a future.

Here is what a piece of work sends, how it takes results in, and what becomes of its items when a worker dies. Who does
it, and when, is in `workforce`. A piece of work is with one worker at a time, and only that worker's reading thread
touches its results.

The rule for a worker that dies. The guest notes which item it begins, and tells results as it goes. So the items of a
piece of work are, in order: *told* (their results are here), *running* (the one whose number is noted, unless it was
told), and the rest. The running item has killed the worker and gets its report. A piece of which nothing was begun goes
to another worker. Of a chunk, the rest - items that have not begun, and finished ones whose results died with the
worker - runs again where it was declared idempotent, and is cancelled otherwise.
"""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any, Final, Protocol

from cloister import calling, waits
from cloister.errors import CallCancelled, CallTimeout, DomainCrashed, MarshalError, ProtocolError
from cloister.executor.futures import PoolFuture
from cloister.objects import targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from cloister.executor.worker import Worker
    from cloister.lanes.numbered import Numbered
    from cloister.objects.peer import Peer

__all__ = ["Chunk", "Owner", "Task", "Work", "late"]

MAX_SENDINGS: Final = 3
"""How many workers may die with a piece of work before it has begun, until it is blamed."""


class Owner(Protocol):
    """Who has the work done."""

    seats: waits.Resource
    """The workers."""

    def give_up(self, work: Work) -> bool:
        """Let the work be over, whether it runs or not; False where it is already."""

    def stop(self, work: Work) -> None:
        """Tell work that was given up to stop, where it runs."""

    def settle(self, work: Work) -> None:
        """The future of the work is done."""

    def run_callbacks(self, work: Work, run: Callable[[], object]) -> None:
        """Have `run` called on another thread, and then settle the work."""


class Work:
    """A piece of work."""

    service = ""
    count = 1

    def __init__(self, owner: Owner, target: Any, timeout: float | None, idempotent: bool) -> None:
        """`target` is code, or the plain form of it; `timeout` is seconds for each item."""
        self.owner, self.target = owner, target
        self.flags = 0
        self.refused: MarshalError | None = None
        """Why the target can't travel."""
        self.timeout, self.idempotent = timeout, idempotent
        self.limit = calling.deadline.get()
        """When it must be over at the latest, as `time.monotonic` counts; None for no limit."""
        self.options = calling.options_beside(None, "task")
        self.future: PoolFuture[Any] = PoolFuture(self)
        self.worker: Worker | None = None
        """Who has it; what that one has before it comes first."""
        self.first = False
        """Its worker does it, or has nothing to do before."""
        self.numbered: Numbered | None = None
        """Its call on the lane of its worker, from when it is about to be sent."""
        self.called_back = self.given_back = False
        """Its worker was asked to give it back where it has not begun, and has done so."""
        self.told = 0
        """Of how many of the items that its worker has the results are here."""
        self.over = False
        """Its future is done, or about to be. Set once, with the lock of the workforce."""
        self.given_up = self.settled = self.torn = False
        """Its future is cancelled, or about to be; who counts the open ones knows that it is done; something that is no
        Exception has come while it was sent."""
        self.sendings = 0
        """How many workers have had it as the next thing to do."""
        self.expected = False
        """Somebody waits for it, and no worker has it: it waits for one in the graph of `waits`."""

    @property
    def number(self) -> int:
        """Its number on the lane of its worker; 0 until it was sent."""
        return 0 if self.numbered is None else self.numbered.number

    def arguments(self, version: tuple[int, int]) -> tuple[Any, ...]:
        """The arguments of the service call that does it, in a guest of this Python version. Raises MarshalError."""
        if self.refused is not None:
            raise self.refused
        if type(self.target) is not list:
            self.target = targets.to_plain(self.target, version)
        return self.target, *self.columns()

    def columns(self) -> tuple[Any, ...]:
        """The arguments after the first."""
        raise NotImplementedError

    def due(self, since: float) -> float | None:
        """When the item that runs must be over, that began at `since`; None for never."""
        if self.timeout is None:
            return self.limit
        return since + self.timeout if self.limit is None else min(since + self.timeout, self.limit)

    def begins_next(self) -> None:
        """Its worker has nothing to do before it."""
        self.first = True
        self.sendings += 1
        self.begins()

    def taken_back(self) -> None:
        """No worker has it any more."""
        self.worker, self.first, self.numbered = None, False, None

    def begins(self) -> None:
        """It waits for no worker any more, if it did."""
        if self.expected:
            waits.leave(self.options["strand"])
            self.expected = False

    def back(self) -> None:
        """Its worker gives it back. Raises ProtocolError where it was not asked for, or something of it was told."""
        if self.given_back or self.told or not (self.called_back or self.over):
            raise ProtocolError("work was given back that was not asked for, or had begun")
        self.given_back = True

    def part(self, peer: Peer, value: Any) -> None:
        """Take what the guest tells before the answer. Raises ProtocolError where it is not to be expected."""
        raise ProtocolError("a task has no parts")

    def answer(self, value: Any) -> None:
        """Take the answer. Raises ProtocolError where it is not to be expected."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Let all that has no result fail with this error."""
        raise NotImplementedError

    def left(self, noted: int | None, crash: BaseException, error: BaseException) -> bool:
        """The worker is dead; True where the work, or what is left of it, goes to another one.

        `noted` is the item that began last, 0 for none, None where that is not known. `crash` is how the worker ended,
        `error` what the running item gets.
        """
        raise NotImplementedError

    def deliver(self) -> None:
        """Complete the future. Its callbacks run here."""
        raise NotImplementedError


class Task(Work):
    """A single task."""

    service = "task"

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], *rest: Any) -> None:
        super().__init__(*rest)
        self._args, self._kwargs = args, kwargs
        self._value: Any = None
        self._error: BaseException | None = None

    def columns(self) -> tuple[Any, ...]:
        return list(self._args), self._kwargs

    def answer(self, value: Any) -> None:
        self._value = value

    def fail(self, error: BaseException) -> None:
        self._error = error

    def left(self, noted: int | None, crash: BaseException, error: BaseException) -> bool:
        if noted == 0 and self.sendings < MAX_SENDINGS:
            return True
        self._error = error
        return False

    def deliver(self) -> None:
        self._args, self._kwargs = (), {}  # a future that is kept does not keep what went into it
        value, self._value = self._value, None
        _complete(self.future, value, self._error)


class Chunk(Work):
    """Items of a map that travel together; the future has the results and the exceptions by their places."""

    service = "chunk"

    def __init__(self, columns: list[list[Any]], *rest: Any) -> None:
        super().__init__(*rest)
        self._columns = columns
        self.count = len(columns[0])
        self._values: list[Any] = [None] * self.count
        self._failures: dict[int, BaseException] = {}
        self._sent: Sequence[int] = range(self.count)
        """The places of the items that a worker has, or is to get."""

    def columns(self) -> tuple[Any, ...]:
        if len(self._sent) == self.count:
            return (self._columns,)
        return ([[column[place] for place in self._sent] for column in self._columns],)

    def part(self, peer: Peer, value: Any) -> None:
        if self.given_back:
            raise ProtocolError("a chunk told results after it was given back")
        told, room = self.told, len(self._sent) - self.told
        match value:
            case [int(first), list(results), dict(failures)] if (
                first == told
                and 0 < len(results) <= room
                and (not failures or failures.keys() <= set(range(len(results))))
            ):
                if len(self._sent) == self.count:
                    self._values[told : told + len(results)] = results
                else:
                    for place, result in zip(self._sent[told : told + len(results)], results, strict=True):
                        self._values[place] = result
                for index, described in failures.items():
                    self._failures[self._sent[told + index]] = peer.rebuild(described)
                self.told += len(results)
            case _:
                raise ProtocolError("a chunk told results that are not its next ones")

    def answer(self, value: Any) -> None:
        if self.told != len(self._sent):
            raise ProtocolError("a chunk was answered before all its results were told")

    def fail(self, error: BaseException) -> None:
        for place in self._sent[self.told :]:
            self._failures[place] = error
        self.told = len(self._sent)

    def left(self, noted: int | None, crash: BaseException, error: BaseException) -> bool:
        sent, told = self._sent, self.told
        rest = list(sent[told:])
        if not rest:
            return False
        killer: int | None = None
        if noted is None or self.sendings >= MAX_SENDINGS:
            killer = rest[0]
        if noted is not None and told < noted <= len(sent):
            killer = sent[noted - 1]
        if killer is not None:
            self._failures[killer] = error
            rest.remove(killer)
            self.sendings = 0
        if noted != 0 and not self.idempotent:
            begun = set(sent[told : len(sent) if noted is None else noted])
            for place in rest:
                self._failures[place] = _lost(crash, place in begun)
            return False
        self._sent, self.told = rest, 0
        return bool(rest)

    def deliver(self) -> None:
        self._columns = []
        outcome = self._values, self._failures
        self._values, self._failures = [], {}
        _complete(self.future, outcome, None)


def _lost(crash: BaseException, begun: bool) -> CallCancelled:
    """What an item gets that shared a chunk with the one that killed the worker."""
    why = "before its result was here; it may have run" if begun else "before it had begun"
    error = CallCancelled(f"the worker ended with another item of the chunk, {why}. With idempotent=True it runs again")
    error.__cause__ = crash
    return error


def late(crash: DomainCrashed) -> CallTimeout:
    """What an item gets whose time was up."""
    error = CallTimeout(f"the time for the task is up, and its worker was killed: {crash.report.detail}")
    error.report = crash.report
    error.__cause__ = crash
    return error


def _complete(future: Future[Any], value: Any, error: BaseException | None) -> None:
    """Complete a future, unless it was cancelled meanwhile."""
    try:
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
    except InvalidStateError:
        pass
