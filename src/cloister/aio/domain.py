"""`cloister.aio.Domain`: a domain whose calls are awaited. The same names as `cloister.Domain`.

Here is the interface; how calls travel is in `peer`. A domain may be used from several event loops, each on its own
thread; what is not awaited may be used from any thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Self, TypeVar, overload

from cloister import calling
from cloister.aio.callbacks import LoopThreads
from cloister.aio.event_streams import LoopEventStream
from cloister.aio.mapping import map_chunks
from cloister.aio.moments import end_of, wait_ended, wait_ready
from cloister.aio.peer import FUTURES, LoopPeer
from cloister.aio.reloading import reload
from cloister.domain import level as levels
from cloister.domain.domain import text
from cloister.domain.entry import entry_of
from cloister.domain.event_streams import MOST_WAITING
from cloister.domain.events import Event
from cloister.domain.known import DomainBase
from cloister.domain.life import KILL_S, Life
from cloister.domain.mapping import Progress
from cloister.domain.options import Options, check_event, program_args
from cloister.domain.status import Allocated
from cloister.errors import DomainUnloaded
from cloister.objects import targets
from cloister.objects.descriptions import type_name
from cloister.objects.handles import ObjectHandle
from cloister.report import Reason
from cloister.wire.messages import SERVICE

__all__ = ["Domain"]

E = TypeVar("E", bound=Event)
T = TypeVar("T")


class Domain(DomainBase):
    """An isolated place where code is loaded and run, in a process of its own, called from an event loop.

    It starts at once and without blocking; the first call waits until it is ready. ``async with`` unloads it at the
    end. Its proxies are awaited: ``await proxy.method(…)``, ``await proxy.attribute``, ``async for``, ``async with``.
    Call-backs run on the loop of the call that they belong to, and may be coroutine functions.

    The calls of a loop run side by side, on threads of the domain; one that must come after another awaits it.
    Cancelling a task, or a future, stops the call over there as well.

    A call raises what its code raises, MarshalError where a value can't travel, CallTimeout, DeadlockDetected, and the
    errors of the domain: StartFailed, DomainUnloaded, DomainCrashed.
    """

    def _begin(self, name: str, options: Options) -> Life:
        return Life(name, options, LoopPeer, LoopThreads)

    @property
    def _peer(self) -> LoopPeer:
        peer = self._life.peer
        assert isinstance(peer, LoopPeer)
        return peer

    # -- code and objects --------------------------------------------------------------------------------------------

    async def create(self, target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Make an object over there; return its proxy, or a copy where its type is marked by value.

        `target` is a class or factory, by name (``"package.module:name"``, nothing of it is imported here) or itself.
        The methods of the proxy are awaited, so its type is not that class: annotate it with a Protocol of async
        methods, which ``cloister stubs --async`` writes. Raises what its code raises, MarshalError where an argument
        can't travel, and the errors of the domain.
        """
        if isinstance(target, type):
            self._life.peer.imports.expect(type_name(target), target)
        life = self._life  # it may be another one when the call is over
        made = await self._call("create", target, list(args), kwargs)
        if self._durable:
            life.durables.note(made, target, args, kwargs)
        return made

    async def create_handle(self, target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> ObjectHandle:
        """Make an object over there; return a handle, whose `unwrap` is awaited. Raises as `create`."""
        number: int = await self._call("create_handle", target, list(args), kwargs)
        return ObjectHandle(self._life.peer, number)

    @overload
    async def call(self, target: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    async def call(self, target: Callable[..., Iterator[T]], /, *args: Any, **kwargs: Any) -> AsyncIterator[T]: ...
    @overload
    async def call(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    async def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    async def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function over there and return its result. Raises as `create`."""
        return await self._call("call", target, list(args), kwargs)

    @overload
    def submit(
        self, target: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> asyncio.Future[T]: ...
    @overload
    def submit(self, target: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]: ...
    @overload
    def submit(self, target: str, /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]: ...
    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Call a function over there; the call is on its way when this returns, and the future has the result.

        It need not be awaited at once. Cancelling the future stops the call. Every error is the future's.
        """
        if self._life.options.setup.foreign and not self._life.python:
            return asyncio.ensure_future(self._call("call", target, list(args), kwargs))
        return self._send("call", targets.to_plain(target, self._life.peer.version), list(args), kwargs)

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
    ) -> AsyncGenerator[T, None]: ...
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
    ) -> AsyncGenerator[T, None]: ...
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
    ) -> AsyncGenerator[Any, None]: ...
    def map(
        self,
        target: Any,
        /,
        *iterables: Any,
        chunksize: int = 1,
        buffersize: int = 64,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Call a function for each item over there; give the results in order: ``async for result in domain.map(…)``.

        For several iterables side by side; asynchronous ones too, whose results come while later items are awaited.
        `chunksize` items travel together, and run one after the other. At most `buffersize` chunks are taken from the
        iterables beforehand, on the loop. `return_exceptions` gives exceptions as results; else the first one is raised
        in its place. Nothing is sent before the first item is asked for; closing the iterator cancels what is on its
        way. `progress(done, total)` is called on the loop whenever a chunk has come back; `total` is None where an
        iterable has no length.

        Raises TypeError and ValueError for a `chunksize` or `buffersize` that is no whole number from 1 up, and
        TypeError for what can't be iterated.
        """
        return map_chunks(
            self._life,
            self._prepared_map,
            target,
            iterables,
            chunksize,
            buffersize,
            return_exceptions=return_exceptions,
            progress=progress,
        )

    async def run_module(self, name: str, args: Sequence[str] = ()) -> int:
        """Run a module over there as a program, as ``python -m`` does; return its exit code."""
        return int(await self._send("run_module", text(name, "run_module"), program_args(args)))

    async def run_path(self, path: str | os.PathLike[str], args: Sequence[str] = ()) -> int:
        """Run a file over there as a program; return its exit code."""
        return int(await self._send("run_path", os.path.abspath(path), program_args(args)))

    async def run(self, args: Sequence[str] = ()) -> int:
        """Run the program that `Setup.entry_point` names over there; return its exit code.

        Raises ValueError where the set-up names none.
        """
        return int(await self._send(*entry_of(self.name, self._life.options.setup), program_args(args)))

    async def exec(self, source: str) -> None:
        """Run statements over there, in a namespace that lasts as long as the domain."""
        await self._send("exec", text(source, "exec"))

    async def eval(self, source: str) -> Any:
        """Evaluate an expression over there, in the namespace of `exec`."""
        return await self._send("eval", text(source, "eval"))

    async def load(self, name: str) -> None:
        """Import a module over there. Nothing of it comes here. Raises what the import raises."""
        await self._send("load", text(name, "load"))

    async def modules(self) -> dict[str, str | None]:
        """The names of all modules that are loaded over there, with their files; None for one that has none."""
        found: dict[str, str | None] = await self._send("modules")
        return found

    async def set_data(self, slot: str, value: Any) -> None:
        """Put a value into a data slot, which code over there finds with `current_domain().get_data`.

        It is copied, as an argument is. Raises MarshalError where it can't travel.
        """
        await self._send("set_data", slot, value)

    async def get_data(self, slot: str) -> Any:
        """The value of a data slot: a copy, or a proxy where its type is not copied; None where nothing is in it."""
        return await self._send("get_data", slot)

    async def allocated(self, *, stop: bool = False) -> Allocated:
        """How much the Python code over there has allocated since this was first called; `stop` ends the counting.

        Counting makes the domain slower. What the system says of its process - CPU time, memory - is in `status()`.
        """
        if self._life.inside:
            levels.refuse(self.level, "allocated()", "a count of its own", "process")
        return Allocated(*await self._send("allocated", bool(stop)))

    # -- events ------------------------------------------------------------------------------------------------------

    @overload
    def events(self, *, max_waiting: int = MOST_WAITING) -> LoopEventStream[Event]: ...
    @overload
    def events(self, event: type[E], /, *, max_waiting: int = MOST_WAITING) -> LoopEventStream[E]: ...
    @overload
    def events(self, *events: type[Event], max_waiting: int = MOST_WAITING) -> LoopEventStream[Event]: ...
    def events(self, *events: type[Event], max_waiting: int = MOST_WAITING) -> LoopEventStream[Any]:
        """Iterate over what happens from now on: ``async for event in domain.events(Output, Exited)``; all without
        types.

        It belongs to the running loop. It ends after `Exited`, whether that is wanted or not, or when it is closed. At
        most `max_waiting` events wait for whoever iterates; of more the oldest are dropped, and counted. Raises as
        `on`, and ValueError.
        """
        stream: LoopEventStream[Any] = LoopEventStream(tuple(map(check_event, events)) or (Event,), max_waiting)
        self._life.subscriptions.stream(stream.buffer)
        for event in events:
            self._life.watching.want_event(event)
        return stream

    # -- life --------------------------------------------------------------------------------------------------------

    async def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until calls are served.

        Raises CallTimeout after `timeout` seconds, and StartFailed where they never will be.
        """
        with calling.timeout_or_none(timeout):
            await wait_ready(self._life, calling.deadline.get())

    async def unload(self) -> None:
        """End the domain: ask it, wait `stop_timeout`, dump its stacks, kill its whole tree. Bounded in time.

        Calls that run end with DomainUnloaded. A domain that has crashed is unloaded in silence. Where the task is
        cancelled meanwhile, the domain ends all the same.

        Raises DomainUnloaded where it has been unloaded before, and CannotUnload where the kernel can't end it or, at
        the levels ``thread`` and ``interpreter``, its code goes on after `stop_timeout`; then it may be called again.
        """
        if self._life.foreign:
            raise self._life.error()
        if self._life.unloaded and not self._life.lingers:
            raise DomainUnloaded(f"domain {self.name!r} was unloaded before")
        await end_of(self._life)

    async def suspend(self) -> None:
        """Let its process, and those that it has started in its group, stand still until `resume`. Idempotent.

        No beat is owed meanwhile. Calls wait, their time-outs hold; unloading lets it go on first. Waits until it is
        ready. Raises the errors of the domain, and LevelUnavailable where it has no process of its own.
        """
        await wait_ready(self._life, calling.deadline.get())
        self._life.suspension.suspend()

    async def resume(self) -> None:
        """Let it go on after `suspend`. Idempotent. Raises WrongProcess in a forked child."""
        self._life.suspension.resume()

    async def reload(self) -> None:
        """Put a fresh domain in the place of this one: its code is loaded anew, its state is gone.

        The new one starts first; when it is ready, and what was made as durable (see `with_options`) was made again,
        calls go to it and the old one is unloaded: its calls end with DomainUnloaded, and so do its proxies that are
        not durable. Where something fails, or the task is cancelled before that, the old one goes on. A domain that has
        crashed can be reloaded, one that was unloaded can't.

        Raises StartFailed, DomainUnloaded, what making the durable objects raises, and CallTimeout.
        """
        with calling.limits(self._timeout, None):
            await reload(self)

    async def kill(self) -> None:
        """Kill the domain with all its descendants, at once. Idempotent.

        Calls that run end with DomainCrashed, whose report gives the reason ``killed``. Raises CannotUnload where the
        kernel can't kill it, and WrongProcess in a forked child.
        """
        if self._life.foreign:
            raise self._life.error()
        if self._life.inside:
            levels.refuse(self.level, "kill()", "a domain that can be killed", "process")
        self._life.end_for(Reason.KILLED, "")
        if not await wait_ended(self._life, KILL_S):
            raise self._life.not_gone()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_of(self._life)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _plain(self, target: Any) -> list[Any]:
        """How the target travels, which depends on the guest's Python: waits for it where that is not this one's."""
        if self._life.options.setup.foreign and not self._life.python:
            await wait_ready(self._life, calling.deadline.get())
        return targets.to_plain(target, self._life.peer.version)

    async def _call(self, name: str, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return await self._send(name, await self._plain(target), args, kwargs)

    async def _prepared_map(self, target: Any) -> Callable[[list[list[Any]]], asyncio.Future[Any]]:
        plain = await self._plain(target)
        return lambda columns: self._send("map", plain, columns)

    def _send(self, name: str, *args: Any) -> asyncio.Future[Any]:
        if self._timeout is None and self._kill_after is None:
            return self._peer.start(FUTURES, SERVICE, name, args)
        with calling.limits(self._timeout, self._kill_after):
            return self._peer.start(FUTURES, SERVICE, name, args)
