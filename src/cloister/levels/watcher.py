"""The watcher: one thread of a host that watches the descriptors and clocks of all domains.

It never runs user code and never waits for anything but its selector. What it finds out, it tells by calling the
callbacks that were registered; those are short, never block, and belong to cloister. A callback that raises is a defect
of cloister's: it is logged, and the watcher goes on.

`enter`, `leave`, `soon`, `hint` and `at` may be called by any thread, from a finalizer too: the garbage collector may
run one while this very thread holds the lock, so the lock is re-entrant. `watch` and `unwatch` belong to the watcher's
thread. The thread starts with the first domain and ends with the last, so that a host without domains has none. What a
domain wants that is gone by then is not done, and not kept: it would hold the domain until the next one begins.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from cloister.daemons import daemons

__all__ = ["Timer", "Watcher", "watcher"]

_log = logging.getLogger("cloister")


class Timer:
    """Something that is to happen at a time, until it is cancelled."""

    __slots__ = ("action", "due")

    def __init__(self, due: float, action: Callable[[], object] | None) -> None:
        self.due = due
        self.action = action

    @property
    def pending(self) -> bool:
        """Whether it is still to happen."""
        return self.action is not None

    def cancel(self) -> None:
        """Let it not happen. Does nothing where it has happened."""
        self.action = None

    def run(self) -> None:
        """Let it happen, once."""
        action, self.action = self.action, None
        if action is not None:
            action()


class Watcher:
    """A selector, a clock and the thread that serves both."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._actions: dict[int, Callable[[], object]] = {}
        """What to call for each descriptor that is watched."""
        self._hints: deque[Callable[[], object]] = deque()
        """Jobs of finalizers."""
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._users = 0
        self._thread: threading.Thread | None = None
        self._selector: selectors.BaseSelector | None = None
        self._wake_reader = self._wake_writer = -1
        self._ended = threading.Event()

    # -- any thread --------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Say that one more domain needs the watcher; starts the thread with the first one.

        Raises OSError where no descriptor is left, and RuntimeError where no thread can be started; nothing is left
        then.
        """
        with self._lock:
            if self._thread is None:
                self._start()
            self._users += 1

    def _start(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        selector = selectors.DefaultSelector()
        try:
            reader, writer = os.pipe()
            try:
                os.set_blocking(reader, False)
                os.set_blocking(writer, False)
                selector.register(reader, selectors.EVENT_READ)
                self._actions = {reader: lambda: _drain(reader)}
                thread = threading.Thread(target=self._run, args=(selector,), name="cloister-watcher", daemon=daemons())
                self._selector, self._wake_reader, self._wake_writer = selector, reader, writer
                self._ended = threading.Event()
                self._thread = thread
                thread.start()
            except BaseException:
                self._thread = self._selector = None
                self._wake_reader = self._wake_writer = -1
                os.close(reader)
                os.close(writer)
                raise
        except BaseException:
            selector.close()
            raise

    def leave(self) -> None:
        """Say that a domain needs the watcher no more; the thread ends with the last one."""
        with self._lock:
            self._users -= 1
            self._wake()

    def soon(self, job: Callable[[], object], keep: bool = False) -> None:
        """Run a job on the watcher's thread, after those that were given before.

        Where there is no thread, as no domain needs it, the job is left out; with `keep` the next one runs it.
        """
        with self._lock:
            if self._thread is not None or keep:
                self._jobs.append(job)
                self._wake()

    def hint(self, job: Callable[[], object]) -> None:
        """As `soon`, for a finalizer, in the middle of whatever its thread holds: it waits for no lock.

        In the rare case that another thread has the lock, the job may run as late as at the next timer.
        """
        self._hints.append(job)
        if self._lock.acquire(blocking=False):
            try:
                if self._thread is None:
                    self._hints.clear()
                self._wake()
            finally:
                self._lock.release()

    def at(self, due: float, action: Callable[[], object]) -> Timer:
        """Run an action at a time of `time.monotonic`."""
        timer = Timer(due, action)
        with self._lock:
            heapq.heappush(self._timers, (due, next(self._order), timer))
            if self._timers[0][2] is timer:
                self._wake()
        return timer

    def wait_ended(self, timeout: float) -> bool:
        """Wait until the thread has ended, where it is ending; for orderly shutdown and tests."""
        thread = self._thread
        return thread is None or self._ended.wait(timeout)

    @property
    def here(self) -> bool:
        """Whether the calling thread is the watcher's."""
        thread = self._thread
        return thread is not None and thread.ident == threading.get_ident()

    def _wake(self) -> None:
        if self._wake_writer >= 0 and not self.here:
            try:
                os.write(self._wake_writer, b"\0")
            except BlockingIOError:
                pass  # it is awake

    # -- the watcher's thread ----------------------------------------------------------------------------------------

    def watch(self, fd: int, events: int, action: Callable[[], object]) -> None:
        """Call `action` whenever the descriptor is ready; a second call changes the events. Watcher's thread only."""
        assert self._selector is not None
        if fd in self._actions:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)
        self._actions[fd] = action

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no more; it may be closed after that. Watcher's thread only."""
        assert self._selector is not None
        if self._actions.pop(fd, None) is not None:
            self._selector.unregister(fd)

    def _run(self, selector: selectors.BaseSelector) -> None:
        while True:
            wait = self._until_next()
            self._serve(selector.select(0 if self._hints else wait))
            if self._users == 0 and self._ends():
                return

    def _serve(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        """Do what is to be done. Not in the loop, whose variables would hold what was done last until the next time."""
        for key, _ in ready:
            action = self._actions.get(key.fd)
            if action is not None:  # else an action before this one has taken it away
                _guarded(action)
        for job in self._take_jobs():
            _guarded(job)
        while self._hints:
            _guarded(self._hints.popleft())

    def _ends(self) -> bool:
        """Whether nobody needs this thread any more. It is over then, and another one may begin."""
        with self._lock:
            if self._users or self._jobs:
                return False
            self._close()
            for _, _, timer in self._timers:
                timer.cancel()  # so that who has set it knows that it does not happen
            self._timers.clear()
            self._hints.clear()
            self._thread = None
            self._ended.set()
            return True

    def _close(self) -> None:
        if self._selector is not None:
            self._selector.close()
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            self._selector, self._wake_reader, self._wake_writer = None, -1, -1

    def _until_next(self) -> float | None:
        with self._lock:
            while self._timers and self._timers[0][2].action is None:
                heapq.heappop(self._timers)
            if self._jobs:
                return 0
            return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _take_jobs(self) -> list[Callable[[], object]]:
        now = time.monotonic()
        with self._lock:
            # Not copied and cleared: a finalizer on this very thread may add a job in between.
            taken, self._jobs = self._jobs, deque()
            jobs = list(taken)
            while self._timers and self._timers[0][0] <= now:
                jobs.append(heapq.heappop(self._timers)[2].run)
        return jobs


def _guarded(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:
        _log.exception("an internal error; the other domains go on")


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


watcher = Watcher()
"""The watcher of this process."""


def _begin_anew() -> None:
    """Forget the threads and domains of the parent in a forked child, and close what was inherited of the watcher."""
    watcher._close()
    watcher.__init__()  # type: ignore[misc]  # the object is known to its users by name


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
