"""What a class asks of the context of its objects: synchronization, and rules of one's own.

=================  ==================================  ======================
mode               made from a synchronized context    made from a plain one
=================  ==================================  ======================
`NOT_SUPPORTED`    not synchronized                    not synchronized
`SUPPORTED`        with the maker's turn               not synchronized
`REQUIRED`         with the maker's turn               with a turn of its own
`REQUIRES_NEW`     with a turn of its own              with a turn of its own
=================  ==================================  ======================

An object lives in its maker's context where that has what the class asks for, otherwise in a new one. A rule of one's
own stands around each call that enters the context. The order of the decorators is the order of the rules: what is
written above `synchronized` runs before the turn has come and in the caller's context, what is written below it runs
inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from cloister.contexts.context import Context, current_context, new_context
from cloister.contexts.turn import Turn

__all__ = ["ENTER", "PLAIN", "ContextCall", "Demand", "Rule", "Step", "Synchronization", "cross", "home_for"]


class Synchronization(Enum):
    """Whether one thread at a time may be inside the context of an object; see `synchronized`."""

    NOT_SUPPORTED = "not supported"
    """Never synchronized, also where its maker is."""
    SUPPORTED = "supported"
    """As its maker: in the same turn, or in none."""
    REQUIRED = "required"
    """In its maker's turn, or in a new one where the maker has none."""
    REQUIRES_NEW = "requires new"
    """In a turn of its own."""


class ContextCall:
    """A call on its way into a context, as a rule sees it."""

    __slots__ = ("_function", "_here", "_next", "args", "context", "kwargs", "name", "target")

    def __init__(
        self, context: Context, here: Context, target: Any, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        self.context: Context = context
        """The context that it goes to."""
        self.target: Any = target
        """The class of the object that is called."""
        self.name: str = str(getattr(function, "__name__", function))
        """The name of the method; ``__init__`` where the object is made."""
        self.args: tuple[Any, ...] = args
        """The arguments, which a rule may replace."""
        self.kwargs: dict[str, Any] = kwargs
        """The keyword arguments, which a rule may replace."""
        self._here = here
        self._function = function
        self._next = 0

    def proceed(self) -> Any:
        """Go on to the next rule, at last to the method; return what it returned.

        A rule may do so once, several times (to try again), or not at all.
        """
        at = self._next
        rules = self.context._rules
        if at == len(rules):
            return self._function(*self.args, **self.kwargs)
        self._next = at + 1
        try:
            rule = rules[at]
            if isinstance(rule, _Enter):
                return self.context.run(self._here, self._inside, self.args, self.kwargs)
            return rule(self)
        finally:
            self._next = at

    def _inside(self, *args: Any, **kwargs: Any) -> Any:
        outer = self.args, self.kwargs
        self.args, self.kwargs = args, kwargs
        try:
            return self.proceed()
        finally:
            self.args, self.kwargs = outer


class _Enter:
    """Marks the place between the rules outside of a context and those inside."""


Rule: TypeAlias = Callable[[ContextCall], Any]
"""A rule of one's own: gets the call, and returns its result."""
Step: TypeAlias = "Rule | _Enter"

ENTER: Final = _Enter()


@dataclass(frozen=True, slots=True)
class Demand:
    """What a class asks for."""

    mode: Synchronization = Synchronization.SUPPORTED
    reentrant: bool = False
    rules: tuple[Step, ...] = ()
    """The rules from the outermost to the innermost; `ENTER` is where `synchronized` stands among them."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The rules with `ENTER` among them; empty where there are none of one's own."""
        if ENTER in self.rules:
            return self.rules if len(self.rules) > 1 else ()
        return (ENTER, *self.rules) if self.rules else ()


PLAIN: Final = Demand()


def home_for(demand: Demand) -> Context:
    """The context in which a new object with this demand lives, made from the running code."""
    here = current_context()
    turn = here._turn
    suits = True
    match demand.mode:
        case Synchronization.NOT_SUPPORTED:
            suits, turn = turn is None, None
        case Synchronization.REQUIRED:
            suits = turn is not None
            turn = turn or Turn(demand.reentrant)
        case Synchronization.REQUIRES_NEW:
            suits, turn = False, Turn(demand.reentrant)
        case _:
            pass
    steps = demand.steps
    if suits and (not steps or here._rules == steps):
        return here
    return new_context(turn, steps)


def cross(home: Context, here: Context, cls: type, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a method of an object that lives in `home` from the context `here`, by the rules of `home`."""
    if not home._rules:
        return home.run(here, function, args, kwargs)
    return ContextCall(home, here, cls, function, args, kwargs).proceed()
