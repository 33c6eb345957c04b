"""`Domain`: an isolated place where code runs, called as if it were local.

Here is the interface; the life of a domain is in `life`, its lanes in `guest_peer`. Any thread may enter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cloister import calling
from cloister.domain.life import Life, State
from cloister.domain.mapping import Chunks, Outcome, Progress, outcome_of_guest
from cloister.domain.options import Options
from cloister.domain.setup import Setup, Watchdog
from cloister.domain.status import Status, guarantees_of, look_at
from cloister.errors import DomainUnloaded, LevelUnavailable, MarshalError
from cloister.objects import targets
from cloister.objects.descriptions import type_name
from cloister.objects.handles import ObjectHandle
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    import os

    from cloister.domain.events import Event
    from cloister.report import Report

__all__ = ["Domain"]

T = TypeVar("T")
E = TypeVar("E", bound="Event")

_AS_BEFORE: Any = object()
"""The default of an option that is not given, where None means something."""


class Domain:
    """An isolated place where code is loaded and run, in a process of its own.

    It starts at once and without blocking; the first call waits until it is ready. ``with`` unloads it at the end. A
    domain that nobody holds any more, not even through a proxy, gives a ResourceWarning and is unloaded.

    All arguments of a call belong to what is called; options are given on a view, with `with_options`.
    """

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

        `name` is shown in reports, logs and thread names; it need not be unique. `level` is ``"process"``.
        `max_concurrency` bounds how many calls run at once: None is no limit, 1 puts every call on the domain's main
        thread. `start_timeout` and `stop_timeout` are seconds: until it must be ready, and until it is killed after it
        was asked to end. `echo` shows what it prints on `sys.stdout` and `sys.stderr`. `on` are handlers of events that
        must not miss the first one; see also `on()`.

        Raises StartFailed where nothing could be started, LevelUnavailable, ValueError for an option out of range.
        """
        if level != "process":
            raise LevelUnavailable(f"there is no level {level!r} here; this version has 'process'")
        options = Options(
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
        self._view_of: Domain | None = None
        self._life = Life(str(name), options)
        self._life.keep_alive(self)

    # -- code and objects --------------------------------------------------------------------------------------------

    @overload
    def create(self, target: type[T], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def create(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def create(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    def create(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Make an object over there; return its proxy, or a copy where its type is marked by value.

        `target` is a class or factory, by name (``"package.module:name"``, nothing of it is imported here) or itself.
        Raises what its code raises, MarshalError where an argument can't travel, and the errors of the domain.
        """
        if isinstance(target, type):
            self._life.peer.imports.expect(type_name(target), target)
        return self._call("create", target, list(args), kwargs)

    def create_handle(self, target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> ObjectHandle:
        """Make an object over there; return a handle that loads nothing of its type here. Raises as `create`."""
        number: int = self._call("create_handle", target, list(args), kwargs)
        return ObjectHandle(self._life.peer, number)

    @overload
    def call(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function over there and return its result. Raises as `create`."""
        return self._call("call", target, list(args), kwargs)

    @overload
    def submit(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(self, target: str, /, *args: Any, **kwargs: Any) -> Future[Any]: ...
    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function over there without waiting; the future has the result. Many may be open at once."""
        plain = targets.to_plain(target, self._version())
        with calling.limits(self._timeout, self._kill_after):
            return self._life.peer.submit(SERVICE, "call", (plain, list(args), kwargs), None)

    @overload
    def map(
        self,
        target: Callable[..., T],
        /,
        *iterables: Any,
        chunksize: int = 1,
        buffersize: int = 64,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[T]: ...
    @overload
    def map(
        self,
        target: str,
        /,
        *iterables: Any,
        chunksize: int = 1,
        buffersize: int = 64,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Any]: ...
    def map(
        self,
        target: Any,
        /,
        *iterables: Any,
        chunksize: int = 1,
        buffersize: int = 64,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Any]:
        """As `concurrent.futures.Executor.map`: results in order, for several iterables side by side.

        `chunksize` items travel together, and run one after the other. At most `buffersize` chunks are on their way, so
        the iterables may be endless; they are taken from on the thread that iterates over the results. An error that
        they raise comes out at once. `return_exceptions` gives exceptions as results; else the first one is raised in
        its place, and the rest is cancelled, as it is when the results are closed or forgotten.
        `progress(done, total)` is called on the thread that iterates whenever a chunk has come back; `total` is None
        where an iterable has no length.
        """
        plain = targets.to_plain(target, self._version())
        peer, limit = self._life.peer, self._timeout

        def send(columns: list[list[Any]], count: int) -> Future[Any]:
            with calling.timeout_or_none(limit):
                return peer.submit(SERVICE, "map", (plain, columns), None)

        def read(value: Any, count: int) -> Outcome:
            return outcome_of_guest(peer, value, count)

        return Chunks(
            send, read, iterables, chunksize, buffersize, return_exceptions=return_exceptions, progress=progress
        ).start()

    def run_module(self, name: str, args: Sequence[str] = ()) -> int:
        """Run a module over there as a program, as ``python -m`` does; return its exit code."""
        return int(self._service("run_module", name, list(args)))

    def run_path(self, path: str | os.PathLike[str], args: Sequence[str] = ()) -> int:
        """Run a file over there as a program; return its exit code."""
        import os

        return int(self._service("run_path", os.path.abspath(path), list(args)))

    def exec(self, source: str) -> None:
        """Run statements over there, in a namespace that lasts as long as the domain."""
        self._service("exec", _text(source, "exec"))

    def eval(self, source: str) -> Any:
        """Evaluate an expression over there, in the namespace of `exec`."""
        return self._service("eval", _text(source, "eval"))

    # -- options -----------------------------------------------------------------------------------------------------

    def with_options(self, *, timeout: float | None = _AS_BEFORE, kill_after: float | None = _AS_BEFORE) -> Domain:
        """A view of the same domain whose calls have options; what is not given is as in this one, at first None.

        `timeout` is seconds for each call, None for no limit. A call that is not over in time is told to stop, and
        raises `CallTimeout`. `kill_after`: where a call that was given up, by its time-out, a cancel or a
        KeyboardInterrupt, has not stopped so many seconds later, the domain is killed; None never kills it. Whoever
        waits for a call whose time was up then waits until it is known which of the two happened, and the error says
        so. Raises TypeError and ValueError for what is no number of seconds from 0 up.
        """
        timeout = self._timeout if timeout is _AS_BEFORE else timeout
        kill_after = self._kill_after if kill_after is _AS_BEFORE else kill_after
        if timeout is not None:
            calling.seconds_from_0("timeout", timeout)
        if kill_after is not None:
            calling.seconds_from_0("kill_after", kill_after)
        view = object.__new__(Domain)  # not copy.copy(): a domain refuses to be copied
        view.__dict__.update(self.__dict__)
        view._view_of = self._view_of or self
        view._timeout, view._kill_after = timeout, kill_after
        return view

    # -- life --------------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until calls are served.

        Raises CallTimeout after `timeout` seconds, and StartFailed where they never will be.
        """
        with calling.timeout_or_none(timeout):
            self._life.wait_ready(calling.deadline.get())

    def unload(self) -> None:
        """End the domain: ask it, wait `stop_timeout`, dump its stacks, kill its whole tree. Bounded in time.

        Calls that run end with DomainUnloaded. Raises DomainUnloaded where it was unloaded before, and CannotUnload
        where the kernel can't end it. A domain that has crashed is unloaded in silence.
        """
        if self._life.foreign:
            raise self._life.error()
        if self._life.unloaded:
            raise DomainUnloaded(f"domain {self.name!r} was unloaded before")
        self._life.unload()

    def kill(self) -> None:
        """Kill the domain with all its descendants, at once. Idempotent.

        Calls that run end with DomainCrashed, whose report gives the reason ``killed``. Raises CannotUnload where the
        kernel can't kill it, and WrongProcess in a forked child.
        """
        if self._life.foreign:
            raise self._life.error()
        self._life.kill()

    def on(self, event: type[E], handler: Callable[[E], object]) -> None:
        """Call `handler` for each event of this type, on a thread that is not on the way of any call."""
        self._life.handlers.append((event, handler))

    def __enter__(self) -> Domain:
        return self

    def __exit__(self, *_: object) -> None:
        self._life.unload()

    def __del__(self) -> None:
        life = getattr(self, "_life", None)
        if life is None or self._view_of is not None or life.state in (State.STOPPING, State.ENDED):
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
        """The number of its process."""
        number: int = self._life.process.pid
        return number

    @property
    def level(self) -> str:
        """How strong its wall is."""
        return "process"

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
        return guarantees_of("process")

    def status(self) -> Status:
        """What it is doing, from what is known here: never waits for it."""
        return look_at(self._life)

    def __repr__(self) -> str:
        return f"<Domain {self.name!r}, process {self.pid}, {self.state.value}>"

    def __reduce__(self) -> Any:
        raise MarshalError(f"{self!r} can't be copied or pickled; pass its proxies, or share() an object that uses it")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _version(self) -> tuple[int, int]:
        """The guest's Python version, which decides how code travels; waits for it where it is not this one's."""
        if self._life.options.setup.foreign:
            self._life.wait_ready(calling.deadline.get())
        return self._life.peer.version

    def _call(self, name: str, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return self._service(name, targets.to_plain(target, self._version()), args, kwargs)

    def _service(self, name: str, *args: Any) -> Any:
        if self._timeout is None and self._kill_after is None:
            return self._life.peer.call(SERVICE, name, args, None)
        with calling.limits(self._timeout, self._kill_after):
            return self._life.peer.call(SERVICE, name, args, None)


def _text(source: object, name: str) -> str:
    if not isinstance(source, str):
        raise TypeError(f"{name}() takes source code as a str, not a {type(source).__name__}; call() takes a function")
    return source
