"""`Domain`: an isolated place where code runs, called as if it were local.

Here is the interface; the life of a domain is in `life`, its lanes in `guest_peer`. Any thread may enter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cloister import calling
from cloister.domain import level as levels
from cloister.domain import reloading
from cloister.domain.entry import entry_of
from cloister.domain.event_streams import MOST_WAITING, EventStream
from cloister.domain.events import Event
from cloister.domain.known import DomainBase
from cloister.domain.mapping import Chunks, Outcome, Progress, outcome_of_guest
from cloister.domain.options import check_event, program_args
from cloister.domain.status import Allocated
from cloister.errors import DomainUnloaded
from cloister.objects import targets
from cloister.objects.descriptions import type_name
from cloister.objects.handles import ObjectHandle
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    import os


__all__ = ["Domain", "text"]

E = TypeVar("E", bound=Event)
T = TypeVar("T")


class Domain(DomainBase):
    """An isolated place where code is loaded and run, by default in a process of its own.

    It starts at once and without blocking; the first call waits until it is ready. ``with`` unloads it at the end. A
    domain that nobody holds any more, not even through a proxy, gives a ResourceWarning and is unloaded.

    All arguments of a call belong to what is called; options are given on a view, with `with_options`.

    A call raises what its code raises, MarshalError where a value can't travel, CallTimeout, DeadlockDetected, and the
    errors of the domain: StartFailed, DomainUnloaded, DomainCrashed.
    """

    # -- code and objects --------------------------------------------------------------------------------------------

    @overload
    def create(self, target: type[T], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def create(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def create(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    def create(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Make an object over there; return its proxy, or a copy where its type is marked by value.

        `target` is a class or factory, itself or by name: ``"package.module:name"``, ``"path/to/file.py:name"``; then
        nothing of it is imported here. A file is loaded once, under a name that no import meets.
        Raises what its code raises, MarshalError where an argument can't travel, and the errors of the domain.
        """
        if isinstance(target, type):
            self._life.peer.imports.expect(type_name(target), target)
        made = self._call("create", target, list(args), kwargs)
        if self._durable:
            self._life.durables.note(made, target, args, kwargs)
        return made

    def create_handle(self, target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> ObjectHandle:
        """Make an object over there; return a handle that loads nothing of its type here. Raises as `create`."""
        number: int = self._call("create_handle", target, list(args), kwargs)
        return ObjectHandle(self._life.peer, number)

    @overload
    def call(self, target: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def call(self, target: Callable[..., AsyncIterator[T]], /, *args: Any, **kwargs: Any) -> Iterator[T]: ...
    @overload
    def call(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function over there and return its result, also of a coroutine function. Raises as `create`."""
        return self._call("call", target, list(args), kwargs)

    @overload
    def submit(self, target: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(self, target: str, /, *args: Any, **kwargs: Any) -> Future[Any]: ...
    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function over there without waiting; the future has the result. Many may be open at once.

        What its done-callbacks run on, and what it knows of the call, is said at `cloister.submit`.
        Raises MarshalError where the target or an argument can't travel, and the errors of the domain.
        """
        plain = targets.to_plain(target, self._version())
        if self._timeout is None and self._kill_after is None:
            return self._life.peer.submit(SERVICE, "call", (plain, list(args), kwargs), None)
        with calling.limits(self._timeout, self._kill_after):
            return self._life.peer.submit(SERVICE, "call", (plain, list(args), kwargs), None)

    @overload
    def map(
        self,
        target: Callable[..., Coroutine[Any, Any, T]],
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

        Raises TypeError and ValueError for a `chunksize` or `buffersize` that is no whole number from 1 up, and
        TypeError for what can't be iterated.
        """
        plain = targets.to_plain(target, self._version())
        peer, limit, kill_after = self._life.peer, self._timeout, self._kill_after

        def send(columns: list[list[Any]], count: int) -> Future[Any]:
            if limit is None and kill_after is None:
                return peer.submit(SERVICE, "map", (plain, columns), None)
            with calling.limits(limit, kill_after):
                return peer.submit(SERVICE, "map", (plain, columns), None)

        def read(value: Any, count: int) -> Outcome:
            return outcome_of_guest(peer, value, count)

        return Chunks(
            send, read, iterables, chunksize, buffersize, return_exceptions=return_exceptions, progress=progress
        ).start()

    def run_module(self, name: str, args: Sequence[str] = ()) -> int:
        """Run a module over there as a program, as ``python -m`` does; return its exit code."""
        return int(self._service("run_module", text(name, "run_module"), program_args(args)))

    def run_path(self, path: str | os.PathLike[str], args: Sequence[str] = ()) -> int:
        """Run a file over there as a program; return its exit code."""
        import os

        return int(self._service("run_path", os.path.abspath(path), program_args(args)))

    def run(self, args: Sequence[str] = ()) -> int:
        """Run the program that `Setup.entry_point` names over there; return its exit code.

        Raises ValueError where the set-up names none.
        """
        return int(self._service(*entry_of(self.name, self._life.options.setup), program_args(args)))

    def exec(self, source: str) -> None:
        """Run statements over there, in a namespace that lasts as long as the domain."""
        self._service("exec", text(source, "exec"))

    def eval(self, source: str) -> Any:
        """Evaluate an expression over there, in the namespace of `exec`."""
        return self._service("eval", text(source, "eval"))

    def load(self, name: str) -> None:
        """Import a module over there. Nothing of it comes here. Raises what the import raises."""
        self._service("load", text(name, "load"))

    def modules(self) -> dict[str, str | None]:
        """The names of all modules that are loaded over there, with their files; None for one that has none."""
        found: dict[str, str | None] = self._service("modules")
        return found

    def set_data(self, slot: str, value: Any) -> None:
        """Put a value into a data slot, which code over there finds with `current_domain().get_data`.

        It is copied, as an argument is. Raises MarshalError where it can't travel.
        """
        self._service("set_data", slot, value)

    def get_data(self, slot: str) -> Any:
        """The value of a data slot: a copy, or a proxy where its type is not copied; None where nothing is in it."""
        return self._service("get_data", slot)

    def allocated(self, *, stop: bool = False) -> Allocated:
        """How much the Python code over there has allocated since this was first called; `stop` ends the counting.

        Counting makes the domain slower. What the system says of its process - CPU time, memory - is in `status()`.
        """
        if self._life.inside:
            levels.refuse(self.level, "allocated()", "a count of its own", "process")
        return Allocated(*self._service("allocated", bool(stop)))

    # -- events ------------------------------------------------------------------------------------------------------

    @overload
    def events(self, *, max_waiting: int = MOST_WAITING) -> EventStream[Event]: ...
    @overload
    def events(self, event: type[E], /, *, max_waiting: int = MOST_WAITING) -> EventStream[E]: ...
    @overload
    def events(self, *events: type[Event], max_waiting: int = MOST_WAITING) -> EventStream[Event]: ...
    def events(self, *events: type[Event], max_waiting: int = MOST_WAITING) -> EventStream[Any]:
        """Iterate over what happens from now on: ``for event in domain.events(Output, Exited)``; all without types.

        It ends after `Exited`, whether that is wanted or not, or when it is closed. At most `max_waiting` events wait
        for whoever iterates; of more the oldest are dropped, and counted. Raises as `on`, and ValueError.
        """
        for event in events:
            levels.check_event(self.level, check_event(event))
        stream: EventStream[Any] = EventStream(tuple(map(check_event, events)) or (Event,), max_waiting)
        self._life.subscriptions.stream(stream.buffer)
        for event in events:
            self._life.watching.want_event(event)
        return stream

    # -- options -----------------------------------------------------------------------------------------------------

    # -- life --------------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until calls are served.

        Raises CallTimeout after `timeout` seconds, and StartFailed where they never will be.
        """
        with calling.timeout_or_none(timeout):
            self._life.wait_ready(calling.deadline.get())

    def unload(self) -> None:
        """End the domain: ask it, wait `stop_timeout`, dump its stacks, kill its whole tree. Bounded in time.

        Calls that run end with DomainUnloaded. A domain that has crashed is unloaded in silence. The processes that its
        code has started end with it; one in a session of its own may live on where the domain crashes while it stops,
        just after it has started that.

        Raises DomainUnloaded where it has been unloaded before, and CannotUnload where the kernel can't end it or, at
        the levels ``thread`` and ``interpreter``, its code goes on after `stop_timeout`; then it may be called again.
        """
        if self._life.foreign:
            raise self._life.error()
        if self._life.unloaded and not self._life.lingers:
            raise DomainUnloaded(f"domain {self.name!r} was unloaded before")
        self._life.unload()

    def suspend(self) -> None:
        """Let its process, and those that it has started in its group, stand still until `resume`. Idempotent.

        No beat is owed meanwhile. Calls wait, their time-outs hold; unloading lets it go on first. Waits until it is
        ready. Raises the errors of the domain, and LevelUnavailable where it has no process of its own.
        """
        self._life.wait_ready(calling.deadline.get())
        self._life.suspension.suspend()

    def resume(self) -> None:
        """Let it go on after `suspend`. Idempotent. Raises WrongProcess in a forked child."""
        self._life.suspension.resume()

    def reload(self) -> None:
        """Put a fresh domain in the place of this one: its code is loaded anew, its state is gone.

        The new one starts first; when it is ready, and what was made as durable (see `with_options`) was made again,
        calls go to it and the old one is unloaded: its calls end with DomainUnloaded, and so do its proxies that are
        not durable. Where something fails, that is raised and the old one goes on. A domain that has crashed can be
        reloaded, one that was unloaded can't.

        Raises StartFailed, DomainUnloaded, what making the durable objects raises, and CallTimeout.
        """
        with calling.limits(self._timeout, None):
            reloading.reload(self)

    def kill(self) -> None:
        """Kill the domain with all its descendants, at once. Idempotent.

        Calls that run end with DomainCrashed, whose report gives the reason ``killed``. Raises CannotUnload where the
        kernel can't kill it, and WrongProcess in a forked child.
        """
        if self._life.foreign:
            raise self._life.error()
        if self._life.inside:
            levels.refuse(self.level, "kill()", "a domain that can be killed", "process")
        self._life.kill()

    def __enter__(self) -> Domain:
        return self

    def __exit__(self, *_: object) -> None:
        self._life.unload()

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


def text(source: object, name: str) -> str:
    """The source code that `exec` or `eval` was given. Raises TypeError where it is none."""
    if not isinstance(source, str):
        if name == "load":
            raise TypeError(f"load() takes the name of a module, not {source!r}")
        raise TypeError(f"{name}() takes source code as a str, not a {type(source).__name__}; call() takes a function")
    return source
