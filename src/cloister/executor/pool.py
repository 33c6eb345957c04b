"""`DomainPoolExecutor`: the interface of a pool of domains.

Here are the options and what Executor promises; the work is done by `workforce`. Any thread may enter.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cloister.calling import seconds_from_0
from cloister.domain.known import AS_BEFORE
from cloister.domain.mapping import Chunks, Progress
from cloister.domain.options import Options
from cloister.domain.setup import Setup, Watchdog
from cloister.errors import MarshalError
from cloister.executor.work import Chunk, Task
from cloister.executor.workforce import Workforce
from cloister.objects import targets
from cloister.wire.messages import COPY

if TYPE_CHECKING:
    from cloister.domain.events import Event

__all__ = ["DomainPoolExecutor"]

T = TypeVar("T")

_numbers = itertools.count(1)


class DomainPoolExecutor(Executor):
    """An executor whose workers are domains, each a process of its own that runs one task at a time.

    Workers start when there is work for them. One that dies is replaced, and only the task that it ran fails, with
    `DomainCrashed` and its report. Done-callbacks run on a thread of the pool; one that waits holds up no worker that
    has work.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        name: str = "",
        setup: Setup | None = None,
        initializer: Callable[..., object] | str | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_worker: int | None = None,
        task_timeout: float | None = None,
        kill_after: float | None = 1.0,
        idle_timeout: float | None = None,
        watchdog: Watchdog | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 5.0,
        echo: bool = True,
        on: Mapping[type[Event], Callable[[Any], object]] | None = None,
    ) -> None:
        """Make a pool; no worker is started yet.

        `max_workers` is the number of domains at most; None: one for each CPU that this process may use. `name` begins
        the names of its domains. `initializer` runs once in each of them, before its first task; it is that of `setup`.
        `max_tasks_per_worker` replaces a worker after so many tasks. `task_timeout` is the seconds that each task may
        run; then its worker is killed and it gets `CallTimeout`. `kill_after` is the seconds after which a worker is
        killed whose cancelled task has not stopped; None: never. `idle_timeout` is the seconds after which an idle
        worker is let go; None: never. The rest is as for `Domain`.

        Raises TypeError and ValueError for an option out of range.
        """
        if max_workers is None:
            max_workers = _cpus()
        for option, number in (("max_workers", max_workers), ("max_tasks_per_worker", max_tasks_per_worker)):
            if number is not None and number < 1:
                raise ValueError(f"{option} is a number from 1 up, not {number!r}")
        for option, seconds in (
            ("task_timeout", task_timeout),
            ("kill_after", kill_after),
            ("idle_timeout", idle_timeout),
        ):
            if seconds is not None:
                seconds_from_0(option, seconds)
        setup = setup or Setup()
        if initializer is not None:
            if setup.initializer is not None:
                raise ValueError("an initializer is given twice: in the set-up and as `initializer`")
            setup = dataclasses.replace(setup, initializer=initializer, initargs=tuple(initargs))
        elif initargs:
            raise ValueError("`initargs` are given without an `initializer`")
        options = Options(
            setup=setup,
            watchdog=watchdog or Watchdog(),
            start_timeout=start_timeout,
            stop_timeout=stop_timeout,
            echo=echo,
            handlers=tuple((on or {}).items()),
        )
        force = Workforce(
            name or f"pool-{next(_numbers)}", max_workers, options, max_tasks_per_worker, idle_timeout, kill_after
        )
        self._force = force
        self._by_name = setup.python is not None
        self._timeout, self._idempotent = task_timeout, False
        self._copies = False
        """Results must travel by value; a proxy would outlive its worker."""
        self._origin: DomainPoolExecutor | None = None
        weakref.finalize(self, force.forget).atexit = False

    @overload
    def submit(self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(self, fn: str, /, *args: Any, **kwargs: Any) -> Future[Any]: ...
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function, or a name as ``"package.module:name"``, in a worker; return the future of its result.

        All arguments belong to the function; options are given with `with_options`. What can't travel fails the future
        with MarshalError. Raises RuntimeError after the shutdown, StartFailed where the pool is broken.
        """
        work = Task(args, kwargs, self._force, fn, self._timeout, self._idempotent)
        if self._copies:
            work.flags = COPY
        if not self._by_name:
            try:
                work.target = targets.to_plain(fn)
            except MarshalError as error:
                work.refused = error
        self._force.submit(work)
        return work.future

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        idempotent: bool | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        idempotent: bool | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[T]: ...
    @overload
    def map(
        self,
        fn: str,
        /,
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        idempotent: bool | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Any]: ...
    def map(
        self,
        fn: Any,
        /,
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        idempotent: bool | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Any]:
        """As `Executor.map`: the results in order, for several iterables side by side.

        `chunksize` items travel together and run one after the other in one worker. `buffersize` is how many chunks are
        sent beforehand; None: all of them at once. `timeout` is seconds from now until the last result must be there,
        else CallTimeout. `idempotent`: items whose result is lost with their worker run again; None: as `with_options`
        has it. The rest is as for `Domain.map`.
        """
        target = fn if self._by_name else targets.to_plain(fn)
        again = self._idempotent if idempotent is None else idempotent
        force, limit = self._force, self._timeout

        def send(columns: list[list[Any]], count: int) -> Future[Any]:
            work = Chunk(columns, force, target, limit, again)
            force.submit(work)
            return work.future

        return Chunks(
            send,
            lambda outcome, count: outcome,
            iterables,
            chunksize,
            buffersize,
            return_exceptions=return_exceptions,
            progress=progress,
            timeout=timeout,
        ).start()

    def with_options(self, *, timeout: float | None = AS_BEFORE, idempotent: bool = AS_BEFORE) -> DomainPoolExecutor:
        """A view of the same pool whose tasks have options; what is not given is as in this one.

        `timeout` is the seconds that each task may run, at first the `task_timeout` of the pool, None for no limit.
        `idempotent` says that it does no harm to run an item of a `map` again, at first False.
        Raises TypeError and ValueError for what is no number of seconds from 0 up.
        """
        view = object.__new__(DomainPoolExecutor)
        view.__dict__.update(self.__dict__)
        view._origin = self._origin or self
        if timeout is not AS_BEFORE:
            if timeout is not None:
                seconds_from_0("a time-out", timeout)
            view._timeout = timeout
        if idempotent is not AS_BEFORE:
            view._idempotent = idempotent
        return view

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and let the workers go when what was submitted is done. Idempotent.

        `cancel_futures` cancels what has not begun. `wait` waits until all is done and the workers have ended; in a
        done-callback it does not.
        """
        self._force.shutdown(wait, cancel_futures)

    def kill_workers(self) -> None:
        """Kill the workers at once, cancel what has not begun, and take no more tasks.

        A task that runs gets DomainCrashed, whose report gives the reason ``killed``. Returns at once.
        """
        self._force.kill()

    def __repr__(self) -> str:
        return f"<DomainPoolExecutor {self._force.name!r}, at most {self._force.max_workers} workers>"

    def __reduce__(self) -> Any:
        raise MarshalError(f"{self!r} can't be copied or pickled; share() an object that uses it")


def _cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
