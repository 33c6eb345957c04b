"""The guest's own event loop: where the coroutines run that the host's calls have made.

A call of an ``async def`` gives a coroutine. It becomes a task of one loop for the whole domain, in the context of its
call, so that the time left and the logical thread hold in it. The loop comes with the first coroutine, on a daemon
thread of its own named ``cloister-loop``; where the main thread runs an asyncio loop (`main_loop`), it is that one.

On a call lane the serving thread waits for the task, with `Coroutines.wait`. On a shared lane, and on the main thread
of a loop, nobody waits: `Coroutines.start` calls back, on the loop's thread, when the task is done.

A cancel is `task.cancel()`. A coroutine that swallows it runs on; the thread of its call lane waits `PATIENCE_S` for
it to unwind, and the host does not wait at all. Such a call counts as running until its task has ended.

asyncio is imported when it is first needed: it would double the start of a domain. Any thread may enter.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from cloister.errors import CallCancelled, DeadlockDetected

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from cloister.guest.interrupts import Running
    from cloister.guest.threads import Threads

__all__ = ["Coroutines", "Started", "guarded", "is_coroutine", "task_here"]

MAX_OPEN: Final = 65_536
"""Coroutines of one domain that are open at once; beyond that the lanes are not read until some have ended."""
CLOSE_S: Final = 1.0
"""How long the tasks may take to unwind when the domain is to end."""

PATIENCE_S: Final = 1.0
"""How long a thread waits for a coroutine that was cancelled."""

Done = "Callable[[Any, BaseException | None], None]"


def is_coroutine(value: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    """Whether a call has returned what is to be run as a task: the coroutine of an ``async def``."""
    return type(value) is CoroutineType


def task_here() -> bool:
    """Whether a task of an asyncio loop runs on the calling thread. Costs little where asyncio was never imported."""
    # Another thread may be in the middle of importing it.
    running: Any = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    if running is None or running() is None:
        return False
    import asyncio

    return asyncio.current_task() is not None


class Started:
    """One coroutine on its way; any thread may cancel it."""

    __slots__ = ("_coroutine", "_done", "_loop", "_name", "_owner", "_task", "cancelled")

    def __init__(self, owner: Coroutines, coroutine: Coroutine[Any, Any, Any], name: str, done: Any) -> None:
        self._owner, self._coroutine, self._name, self._done = owner, coroutine, name, done
        self._loop: asyncio.AbstractEventLoop | None = None
        """None where it was ended before it came to a loop."""
        self._task: asyncio.Task[Any] | None = None
        self.cancelled = False
        """Whether somebody has asked for its end."""

    def cancel(self) -> None:
        """Let it be cancelled; ignored where it is over. Takes no lock: a signal handler may call it."""
        self.cancelled = True
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            pass  # the loop is closed

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call something later on the loop's thread, unless it is closed. As `cancel`, for a signal handler too."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.call_later, seconds, action)

    def launch(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        """Make it a task of the loop. Raises RuntimeError where the loop is closed."""
        self._loop = loop
        loop.call_soon_threadsafe(self._begin, loop, context)

    def fail(self, error: BaseException) -> None:
        """End it before it has begun."""
        self._coroutine.close()
        self._finish(None, error)

    # -- the loop's thread -------------------------------------------------------------------------------------------

    def _begin(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        if self.cancelled:
            self.fail(CallCancelled(f"{self._name}() was given up before it began"))
            return
        self._task = loop.create_task(guarded(self._coroutine), name=f"{self._name}()", context=context)
        self._task.add_done_callback(self._over)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _over(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            if self._owner.closed:
                return  # the domain ends, and its host tells the caller so
            if self.cancelled:
                self._finish(None, CallCancelled(f"{self._name}() was cancelled: its caller does not wait any more"))
            else:
                import asyncio

                self._finish(None, asyncio.CancelledError(f"{self._name}() was cancelled over there"))
            return
        error = task.exception()
        if error is not None:
            self._finish(None, error)
            return
        value = task.result()
        if type(value) is _Escaped:
            self._finish(None, value.error)
        else:
            self._finish(value, None)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self._owner.ended()
        done, self._done = self._done, None
        done(value, error)


class _Escaped:
    """What a task must not raise, because it would end its loop."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def guarded(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """A call ends with SystemExit as with any other exception; it ends neither the loop nor the domain."""
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        return _Escaped(error)


class Coroutines:
    """The loop of this domain, and what runs on it."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.report: Callable[[str, BaseException], None] = lambda name, error: None
        """Tells the host of an exception that no caller waits for."""
        self._lock = threading.RLock()  # a finalizer may run and call the host while it is held
        self._room = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ident = 0
        self._closed = False
        self._open = 0

    @property
    def closed(self) -> bool:
        """Whether the domain is about to end."""
        return self._closed

    @property
    def used(self) -> bool:
        """Whether there is a loop."""
        return self._loop is not None

    @property
    def full(self) -> bool:
        """Whether as many coroutines are open as may be."""
        return self._open >= MAX_OPEN

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the loop that the calling thread is about to run. Called once, before any coroutine."""
        self._loop, self._ident = loop, threading.get_ident()

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; it is started where it does not run yet. Raises RuntimeError where the domain ends, and where the
        system has no thread left: the next coroutine tries again."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this domain is about to end")
            if self._loop is None:
                import asyncio

                loop = asyncio.new_event_loop()
                try:
                    self._loop = loop
                    self._thread = self._threads.start(partial(self._run, loop), "cloister-loop")
                except RuntimeError:
                    self._loop = None
                    loop.close()
                    raise
            return self._loop

    @property
    def here(self) -> bool:
        """Whether the calling thread is the loop's."""
        return self._ident == threading.get_ident()

    def start(self, coroutine: Coroutine[Any, Any, Any], context: Context, name: str, done: Any) -> Started:
        """Run a coroutine; `done(value, error)` is called on the loop's thread when it is over.

        Where the domain is about to end, it is called at once, with CallCancelled.
        """
        started = Started(self, coroutine, name, done)
        with self._room:
            self._open += 1
        try:
            started.launch(self.loop(), context)
        except RuntimeError as error:
            started.fail(CallCancelled(f"{name}() was not begun: {error}"))
        return started

    def run(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
        """Run a coroutine of the set-up, before anything is served; the main thread waits for it."""
        loop = self._loop
        if self.here and loop is not None:
            return loop.run_until_complete(coroutine)
        return self.wait(coroutine, contextvars.copy_context(), name, None)

    def wait(self, coroutine: Coroutine[Any, Any, Any], context: Context, name: str, running: Running | None) -> Any:
        """Run a coroutine and wait for it on this thread; return its result.

        `running` is where an interruption of this thread's call is asked for. Raises what it raises, CallCancelled
        where it was interrupted, and DeadlockDetected on the loop's own thread.
        """
        if self.here:
            coroutine.close()
            raise DeadlockDetected(
                f"{name}() is a coroutine of the loop whose thread is in the middle of a synchronous call: it would"
                " wait for itself. Make the function that called the host an `async def`, and await its call"
            )
        over = threading.Lock()
        over.acquire()
        outcome: list[Any] = []
        told: list[bool] = []
        ended = False
        number = 0 if running is None else running.number

        def done(value: Any, error: BaseException | None) -> None:
            nonlocal ended
            ended = True
            if running is not None:
                running.left.discard(number)
            tell(value, error)

        def tell(value: Any, error: BaseException | None) -> None:
            if not told:  # else nobody waits for it any more
                told.append(True)
                outcome.append((value, error))
                over.release()

        def stop() -> None:
            started.cancel()
            started.after(PATIENCE_S, partial(tell, None, CallCancelled(f"{name}() was cancelled, and has not ended")))

        started = self.start(coroutine, context, name, done)
        try:
            if running is not None:
                running.wait_for(stop)
            over.acquire()
        except BaseException:
            started.cancel()
            raise
        finally:
            if running is not None:
                running.stop = None
                if not ended:  # whoever wants it killed where it does not stop is told when it has
                    running.left.add(number)
                    if ended:  # meanwhile
                        running.left.discard(number)
        value, error = outcome.pop()
        if error is not None:
            raise error
        return value

    def ended(self) -> None:
        """A coroutine is over."""
        with self._room:
            self._open -= 1
            self._room.notify()

    def wait_for_room(self) -> None:
        """Wait until not too many coroutines are open. Not on the loop's thread."""
        with self._room:
            self._room.wait_for(lambda: not self.full or self._closed)

    def close(self) -> None:
        """Cancel every task, let them unwind for at most `CLOSE_S`, and end the loop. Called by the main thread."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or loop.is_closed():
            return
        if thread is None:
            if not loop.is_running():
                _unwind(loop)
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_S * 2)

    # -- the loop's thread -------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        self._ident = threading.get_ident()
        asyncio.set_event_loop(loop)
        while not self._closed:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:  # a task of the user's own; threads are not ended by it
                self.report("a task of the domain's loop", error)
        _unwind(loop)


def _unwind(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what runs on a loop that has been stopped, give it `CLOSE_S`, and close the loop."""
    import asyncio

    async def unwind() -> None:
        tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        await asyncio.wait_for(loop.shutdown_asyncgens(), CLOSE_S)

    try:
        loop.run_until_complete(unwind())
    except Exception as error:
        loop.default_exception_handler({"message": "the loop of the domain did not end well", "exception": error})
    else:
        loop.close()
