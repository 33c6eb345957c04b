"""The context, and which one the running code is in.

A context has a number, data, the rules of the classes whose objects live in it, and a turn where it is synchronized.
Several contexts may share one turn. The default context, number 0, is where all code begins: threads, tasks, and calls
that arrive over the wall of the domain; it has no turn and no rules.

Code is in a context from the call that enters it to its return, on that thread and nowhere else: a thread or a task
that is started inside begins in the default context, although it inherits the context variables. Any thread may enter.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cloister import calling
from cloister.contexts.slots import Slots
from cloister.contexts.turn import Pass, Turn
from cloister.errors import MarshalError

if TYPE_CHECKING:
    from cloister.contexts.rules import Step

__all__ = ["DEFAULT", "Context", "current_context", "set_view"]

T = TypeVar("T")

_numbers = itertools.count(1)
_view: Callable[[Any, Context], Any]


def set_view(view: Callable[[Any, Context], Any]) -> None:
    """Say how a value is seen from a context: a proxy where it lives in another one. Given by `bound`, once."""
    global _view
    _view = view


class _Entry:
    """One stay in a context: from the call that entered it to its return."""

    __slots__ = ("context", "over", "thread")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.thread = threading.get_ident()
        self.over = False

    def call_out(self, call: Callable[..., Any], target: int, name: str, args: Any, kwargs: Any, flags: int) -> Any:
        """Make a call over the wall of the domain: for others it leaves the context, for as long as it lasts."""
        if self.over or self.thread != threading.get_ident():  # it was inherited by a thread or a task
            return _outside(call, target, name, args, kwargs, flags)
        here = self.context
        args = tuple([_view(value, DEFAULT) for value in args])
        if kwargs:
            kwargs = {key: _view(value, DEFAULT) for key, value in kwargs.items()}
        passes = here._call_out()
        try:
            return _view(_outside(call, target, name, args, kwargs, flags), here)
        finally:
            here._come_back(passes)


class Context:
    """A part of a domain whose objects share rules. Users do not make contexts: classes ask for them."""

    __slots__ = ("__weakref__", "_data", "_id", "_rules", "_turn")

    def __init__(self, number: int, turn: Turn | None = None, rules: tuple[Step, ...] = ()) -> None:
        self._id = number
        self._turn = turn
        self._rules = rules
        self._data = Slots()

    @property
    def id(self) -> int:
        """Its number in this domain, from 1; 0 is the default context."""
        return self._id

    @property
    def data(self) -> Slots:
        """Its data, by names."""
        return self._data

    @property
    def is_default(self) -> bool:
        """Whether this is the default context of its domain."""
        return self._id == 0

    @property
    def is_synchronized(self) -> bool:
        """Whether one thread at a time is inside."""
        return self._turn is not None

    @property
    def is_reentrant(self) -> bool:
        """Whether others may come in while the one inside calls out."""
        return self._turn is not None and self._turn.reentrant

    def call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call a function inside: `current_context()` is this one, and it has its turn. Its rules are not asked.

        Raises what the function raises, and CallTimeout where a `timeout` ends before its turn comes.
        """
        here = current_context()
        if here is self:
            return function(*args, **kwargs)
        result: T = self.run(here, function, args, kwargs)
        return result

    def run(self, here: Context, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Enter from the context `here`, call, leave; what goes in and out is seen from where it comes to."""
        turn = self._turn
        entry = _Entry(self)
        passes = here._step_out() if here._turn is not turn else None
        try:
            own = None if turn is None else Pass(calling.strand())
            try:
                if turn is not None and own is not None:
                    turn.enter(own, calling.deadline.get(), f" in {self!r}")
                token = calling.entered.set(entry)
                try:
                    args = [_view(value, self) for value in args]
                    if kwargs:
                        kwargs = {key: _view(value, self) for key, value in kwargs.items()}
                    result = function(*args, **kwargs)
                finally:
                    entry.over = True
                    calling.entered.reset(token)
            finally:
                if turn is not None and own is not None:
                    turn.leave(own)
        finally:
            if passes:
                here._step_in(passes)
        return _view(result, here)

    def _step_out(self) -> list[Pass] | None:
        turn = self._turn
        return turn.step_out() if turn is not None and turn.reentrant else None

    def _call_out(self) -> list[Pass] | None:
        """Leave for a call over a wall: its nested calls come back on whatever thread waits for them."""
        turn = self._turn
        if turn is None or turn.reentrant:
            return self._step_out()
        turn.call_out(True)
        return None

    def _come_back(self, passes: list[Pass] | None) -> None:
        turn = self._turn
        if turn is not None and not turn.reentrant:
            turn.call_out(False)
        self._step_in(passes)

    def _step_in(self, passes: list[Pass] | None) -> None:
        if passes and self._turn is not None:
            self._turn.step_in(passes)

    def __repr__(self) -> str:
        return "<the default context>" if self.is_default else f"<context {self._id}>"

    def __copy__(self) -> Context:
        return self

    def __deepcopy__(self, memo: object) -> Context:
        return self

    def __reduce__(self) -> NoReturn:
        raise MarshalError(f"{self!r} can't be pickled: a context is a place in this domain")


DEFAULT = Context(0)
"""Where all code begins."""


def new_context(turn: Turn | None, rules: tuple[Step, ...]) -> Context:
    """Make a context with the next number."""
    return Context(next(_numbers), turn, rules)


def current_context() -> Context:
    """The context that the running code is in."""
    entry: Any = calling.entered.get()
    if entry is None or entry.over or entry.thread != threading.get_ident():
        return DEFAULT
    here: Context = entry.context
    return here


def _outside(call: Callable[..., Any], *args: Any) -> Any:
    token = calling.entered.set(None)
    try:
        return call(*args)
    finally:
        calling.entered.reset(token)
