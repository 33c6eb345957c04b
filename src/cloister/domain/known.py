"""`DomainBase`: what every kind of `Domain` has in common: options, events, what is known of it.

Here is all that neither calls nor waits; the calls are in `domain` for threads and in `cloister.aio` for event loops.
Any thread may enter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from weakref import WeakSet

from cloister import calling
from cloister.domain import creation
from cloister.domain import level as levels
from cloister.domain.life import Life
from cloister.domain.options import Options, check_event, check_handler
from cloister.domain.setup import Setup, Watchdog
from cloister.domain.state import State
from cloister.domain.status import Status, guarantees_of, look_at
from cloister.errors import MarshalError

if TYPE_CHECKING:
    import os

    from cloister.domain.events import Event
    from cloister.domain.resolving import Found, Lookup
    from cloister.report import Report

__all__ = ["AS_BEFORE", "DomainBase"]

E = TypeVar("E", bound="Event")
R = TypeVar("R")

AS_BEFORE: Any = object()
"""The default of an option that is not given, where None means something."""


class DomainBase:
    """A domain, without its calls."""

    def __init__(
        self,
        name: str = "domain",
        *,
        level: str = "process",
        setup: Setup | None = None,
        watchdog: Watchdog | None = None,
        max_concurrency: int | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 5.0,
        echo: bool = True,
        on: Mapping[type[Event], Callable[[Any], object]] | None = None,
    ) -> None:
        """Start a domain.

        `name` is shown in reports, logs and thread names; it need not be unique. `level` is how strong its wall is:
        ``"thread"``, ``"interpreter"`` or ``"process"``.
        `max_concurrency` bounds how many calls run at once: None is no limit, 1 puts every call on the domain's main
        thread. `start_timeout` and `stop_timeout` are seconds: until it must be ready, and until it is killed after it
        was asked to end. `echo` shows what it prints on `sys.stdout` and `sys.stderr`. `on` are handlers of events that
        must not miss the first one; see also `on()`.

        Raises StartFailed where nothing could be started or a creation hook refuses it, LevelUnavailable, ValueError
        for an option out of range.
        """
        options = Options(
            level=level,
            setup=setup or Setup(),
            watchdog=watchdog or Watchdog(),
            max_concurrency=max_concurrency,
            start_timeout=start_timeout,
            stop_timeout=stop_timeout,
            echo=echo,
            handlers=tuple((on or {}).items()),
        )
        self._timeout: float | None = None
        self._kill_after: float | None = None
        self._durable = False
        self._view_of: DomainBase | None = None
        self._life = self._begin(*creation.ask(str(name), level, options))
        self._life.keep_alive(self)

    def _begin(self, name: str, options: Options) -> Life:
        """Start it."""
        return Life(name, options)

    # -- options -----------------------------------------------------------------------------------------------------

    def with_options(
        self,
        *,
        timeout: float | None = AS_BEFORE,
        kill_after: float | None = AS_BEFORE,
        durable: bool = AS_BEFORE,
    ) -> Self:
        """A view of the same domain whose calls have options; what is not given is as in this one, at first None.

        The options are those of the view's own calls, `create` among them; the methods of what it makes have none. For
        those there is ``with cloister.timeout(seconds, kill_after=…)``.

        `timeout` is seconds for each call, None for no limit. A call that is not over in time is told to stop, and
        raises `CallTimeout`. `kill_after`: where a call that was given up, by its time-out, a cancel or a
        KeyboardInterrupt, has not stopped so many seconds later, the domain is killed; None never kills it. Whoever
        waits for a call whose time was up then waits until it is known which of the two happened, and the error says
        so.

        `durable`: what `create` makes is made again by `reload`, with the same arguments, and its proxy then stands for
        the new object.

        Raises TypeError and ValueError for what is no number of seconds from 0 up, and LevelUnavailable for a
        `kill_after` where the level can kill nothing.
        """
        timeout = self._timeout if timeout is AS_BEFORE else timeout
        kill_after = self._kill_after if kill_after is AS_BEFORE else kill_after
        if timeout is not None:
            calling.seconds_from_0("timeout", timeout)
        if kill_after is not None:
            calling.seconds_from_0("kill_after", kill_after)
            if self.level != "process":
                levels.refuse(self.level, "kill_after", "a domain that can be killed", "process")
        view = object.__new__(type(self))  # not copy.copy(): a domain refuses to be copied
        view.__dict__.update(self.__dict__)
        view._view_of = self._view_of or self
        view._timeout, view._kill_after = timeout, kill_after
        if durable is not AS_BEFORE:
            view._durable = durable
        main = view._view_of
        main.__dict__.setdefault("_views", WeakSet()).add(view)
        view._life = main._life  # it may have been reloaded just now
        return view

    def _move_to(self, life: Life) -> None:
        """Let all calls go to another life from now on, also those through views."""
        self._life = life
        for view in list(self.__dict__.get("_views", ())):
            view._life = life

    def changed(self) -> list[str]:
        """The files of `Setup.path` that were changed, added or removed since they were copied for this domain.

        Raises ValueError where the set-up has no `shadow_copy`.
        """
        if self._life.preparation.shadow is None:
            raise ValueError("what has changed is known of a domain with Setup(shadow_copy=True)")
        return self._life.preparation.shadow.changed()

    # -- events and the end that nobody asked for ---------------------------------------------------------------------

    @overload
    def on(self, event: type[E], /) -> Callable[[Callable[[E], R]], Callable[[E], R]]: ...
    @overload
    def on(self, event: type[E], handler: Callable[[E], R], /) -> Callable[[E], R]: ...
    def on(self, event: Any, handler: Any = None, /) -> Any:
        """Call `handler` for each event of this type from now on, on a thread that is not on the way of any call.

        Without a handler it is a decorator: ``@domain.on(Exited)``. Returns the handler. For `ModuleLoaded`,
        `ResolveFailed` and `ExceptionRaised` the domain is asked to watch; then this waits until it is ready, unless it
        is called from event loops, and raises the errors of the domain.

        Raises TypeError for what is no type of event, or can't be called; LevelUnavailable where the domain's Python
        can't tell such events.
        """
        if handler is None:
            levels.check_event(self.level, check_event(event))
            return partial(self.on, event)
        check_handler(event, handler)
        levels.check_event(self.level, event)
        self._life.subscriptions.add(event, handler)
        try:
            self._life.watching.want_event(event)
        except BaseException:
            self._life.subscriptions.remove(event, handler)
            raise
        return handler

    def off(self, event: type[E], handler: Callable[[E], object], /) -> None:
        """Call a handler of `on` no more; what happened before may still reach it. Raises LookupError for one that is
        not there."""
        if not self._life.subscriptions.remove(event, handler):
            raise LookupError(f"{handler!r} is no handler of {event.__name__} in domain {self.name!r}")

    def on_resolve(self, kind: str, handler: Callable[[Lookup], Found | os.PathLike[str] | None]) -> None:
        """Be asked when code over there does not find a ``"module"``, a ``"type"`` or a ``"resource"``.

        `handler` gets a `Lookup` and answers with `Found`, a path, or None. The first answer of several handlers wins.
        It runs on a thread of cloister's. That it raised, or took longer than `Setup.resolve_timeout`, is in the error
        that the code over there gets. Handlers that must not miss what is looked for during the start are given with
        `Setup(resolve=...)`. Raises ValueError, and the errors of the domain.
        """
        if self.level == "thread":
            levels.refuse(self.level, "on_resolve", "imports of its own", "interpreter' or 'process")
        self._life.resolving.add(kind, handler)

    def __del__(self) -> None:
        life = getattr(self, "_life", None)
        if life is None or self._view_of is not None:
            return
        life.let_go()
        if life.state in (State.STOPPING, State.ENDED):
            return
        warnings.warn(f"domain {life.name!r} was forgotten and is unloaded now", ResourceWarning, 1, self)
        life.forget()

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self._life.name

    @property
    def id(self) -> int:
        """Its number in this process, from 1; 0 is the default domain."""
        return self._life.identity

    @property
    def pid(self) -> int:
        """The number of its process, which at the levels below ``"process"`` is this one's."""
        number: int = self._life.process.pid
        return number

    @property
    def level(self) -> str:
        """How strong its wall is."""
        return self._life.options.level

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._life.state

    @property
    def report(self) -> Report | None:
        """What is known about its end, or None while it lives."""
        return self._life.report

    @property
    def guarantees(self) -> dict[str, str]:
        """What its wall holds back, and what enforces each line; what is not listed is not promised."""
        return guarantees_of(self.level)

    def status(self) -> Status:
        """What it is doing, from what is known here: never waits for it."""
        return look_at(self._life)

    def __repr__(self) -> str:
        where = f"process {self.pid}" if self.level == "process" else f"level {self.level}"
        return f"<Domain {self.name!r}, {where}, {self.state.value}>"

    def __reduce__(self) -> Any:
        raise MarshalError(f"{self!r} can't be copied or pickled; pass its proxies, or share() an object that uses it")
