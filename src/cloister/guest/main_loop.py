"""A message loop on the guest's main thread, which serves the main thread's lane (`Setup.main_loop`).

``"asyncio"`` and ``"qt"`` are here; ``"module:function"`` is a function of the user's that runs any other loop: it gets
a `MainLoop`, watches its `fileno()`, calls its `serve()` when that is readable, and returns when it is `stopping`.

What runs where: functions that the host calls on the main thread's lane run inside `serve()`, on the main thread, and
the loop stands still meanwhile, as for any handler of its. Coroutines run as tasks, and their calls are answered when
they are done: with asyncio on this very loop, else on the loop of `coroutines`. All other lanes have threads of their
own, as without a loop.

The loop is never torn: the end of the domain is told by `stopping`, and only a call that `serve()` runs is interrupted.
`MainLoop.stop`, `MainLoop.offer` and `MainLoop.later` may be called by any thread, the rest belongs to the main thread.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from cloister.guest.interrupts import Interrupted, StopRequested
from cloister.objects import targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.host import HostPeer
    from cloister.guest.interrupts import MainThread
    from cloister.lanes.call_lane import CallLane
    from cloister.pipes.duplex import LaneEnd

__all__ = ["MainLoop", "Offer", "load"]


class Offer(Protocol):
    """A lane that waits for the main thread."""

    number: int
    end: LaneEnd

    def accept(self) -> bool:
        """Take it; False where another thread has done so."""


class MainLoop:
    """What a message loop of the guest's main thread has to do for its domain: watch, serve, and end when told."""

    def __init__(self, peer: Any, main: Any, run: Callable[[MainLoop], object]) -> None:
        """`run` runs the loop on the calling thread, and returns when it is to stop. Raises OSError."""
        # Users get one and make none, so what it is made of is no part of the public interface.
        self._peer: HostPeer = peer
        self._main: MainThread = main
        self._run = run
        self._offers: deque[Offer] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._lane: CallLane | None = None
        self._serving = self._muted = False
        self._stopping = False
        self._failure: BaseException | None = None
        self._watched = _Watched()
        self._wake_reader, self._wake_writer = os.pipe()
        if sys.platform != "win32":
            os.set_blocking(self._wake_reader, False)
            os.set_blocking(self._wake_writer, False)
        self._watched.add(self._wake_reader)

    # -- what the loop needs -----------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor to watch: it is readable while there is something to serve."""
        return self._watched.fileno()

    @property
    def stopping(self) -> bool:
        """Whether the loop is to end: the domain is unloaded, or its process ends."""
        return self._stopping

    def serve(self) -> None:
        """Serve what has come: run calls of the host, answer those that are done. Waits for nothing, raises nothing.

        Returns after a call or two; where more is there, `fileno()` is readable still. Called in the middle of a call
        that it runs (by a dialogue with a loop of its own), it serves no other one.
        """
        try:
            self._serve()
        except StopRequested:
            self._stopping = True
        except BaseException as error:
            self._failure = error
            self._stopping = True

    # -- any thread --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let the loop end."""
        self._stopping = True
        self._wake()

    def offer(self, offer: Offer) -> None:
        """Let the main thread serve a lane, after the one that it has."""
        self._offers.append(offer)
        self._wake()

    def later(self, job: Callable[[], None]) -> None:
        """Have something done on the main thread."""
        self._jobs.append(job)
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_writer, b"\0")
        except BlockingIOError:
            pass  # it is awake

    # -- the main thread ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the loop until the domain ends. Raises what ended it: StopRequested where the host wants that."""
        main = self._main
        self._peer.run_loop(self.later)
        main.has_loop = True
        if sys.platform != "win32":
            # A loop in C runs no handler of Python's by itself; the signal makes it call `serve`.
            signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        try:
            self._run(self)
        finally:
            main.has_loop = False
        if self._failure is not None:
            raise self._failure
        if main.stopping or self._stopping:
            main.past_stop = True
            raise StopRequested

    def _serve(self) -> None:
        ready = self._watched.ready()
        if self._wake_reader in ready:
            try:
                os.read(self._wake_reader, 4096)
            except BlockingIOError:
                pass
        while self._jobs:
            self._jobs.popleft()()
        lane = self._lane
        if self._serving:
            if lane is not None and lane.fileno() in ready and not self._muted:
                self._watched.remove(lane.fileno())  # it waits for the end of the call that runs
                self._muted = True
            return
        if lane is None:
            lane = self._take_offer()
        if lane is not None and not self._stopping and (lane.fileno() in ready or lane.ready):
            self._serve_lane(lane)

    def _take_offer(self) -> CallLane | None:
        while self._offers and not self._stopping:
            offer = self._offers.popleft()
            if offer.accept():
                lane = self._lane = self._peer.begin_lane(offer.number, offer.end, self._main)
                self._watched.add(lane.fileno())
                return lane
        return None

    def _serve_lane(self, lane: CallLane) -> None:
        fd = lane.fileno()
        alive = False
        self._serving = True
        try:
            alive = lane.serve_one() and not lane.closed
            while alive and lane.ready and not self._stopping:
                alive = lane.serve_one() and not lane.closed
        except Interrupted:
            pass  # it came too late for its call, in the middle of our own work: the lane is lost
        finally:
            self._serving = False
            if alive:
                if self._muted:
                    self._watched.add(fd)
            else:
                if not lane.closed and not self._muted:
                    self._watched.remove(fd)
                self._lane = None
                self._peer.end_lane(lane, self._main)
                if self._offers:
                    self._wake()
            self._muted = False


if sys.platform == "linux":

    class _Watched:
        """Descriptors that are watched by watching one."""

        def __init__(self) -> None:
            self._poll = select.epoll()

        def fileno(self) -> int:
            return self._poll.fileno()

        def add(self, fd: int) -> None:
            self._poll.register(fd, select.EPOLLIN)

        def remove(self, fd: int) -> None:
            self._poll.unregister(fd)

        def ready(self) -> list[int]:
            """Those that are readable, or closed by their peer."""
            return [fd for fd, _ in self._poll.poll(0)]

elif sys.platform != "win32":  # another platform

    class _Watched:
        """Descriptors that are watched by watching one."""

        def __init__(self) -> None:
            self._queue = select.kqueue()

        def fileno(self) -> int:
            return self._queue.fileno()

        def add(self, fd: int) -> None:
            self._queue.control([select.kevent(fd, select.KQ_FILTER_READ, select.KQ_EV_ADD)], 0)

        def remove(self, fd: int) -> None:
            self._queue.control([select.kevent(fd, select.KQ_FILTER_READ, select.KQ_EV_DELETE)], 0)

        def ready(self) -> list[int]:
            """Those that are readable, or closed by their peer."""
            return [event.ident for event in self._queue.control([], 8, 0)]

else:  # another platform

    class _Watched:
        """There is no process level here yet."""

        def fileno(self) -> int:
            raise NotImplementedError

        def add(self, fd: int) -> None:
            raise NotImplementedError

        def remove(self, fd: int) -> None:
            raise NotImplementedError

        def ready(self) -> list[int]:
            raise NotImplementedError


# -- the loops ---------------------------------------------------------------------------------------------------------


def load(name: str, peer: HostPeer, main: MainThread) -> MainLoop:
    """Make ready the loop of this name, on the main thread. Raises what fails the start."""
    if name == "asyncio":
        return MainLoop(peer, main, _asyncio(peer))
    if name == "qt":
        return MainLoop(peer, main, _qt())
    return MainLoop(peer, main, targets.resolve(name))


def _asyncio(peer: HostPeer) -> Callable[[MainLoop], None]:
    import asyncio

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    peer.coroutines.adopt(loop)

    def run(main_loop: MainLoop) -> None:
        def serve() -> None:
            main_loop.serve()
            if main_loop.stopping:
                loop.stop()

        loop.add_reader(main_loop.fileno(), serve)
        try:
            while not main_loop.stopping:  # the code in the domain is not to end it
                loop.run_forever()
        finally:
            loop.remove_reader(main_loop.fileno())

    return run


def _qt() -> Callable[[MainLoop], None]:
    core, application = _qt_application()

    def run(main_loop: MainLoop) -> None:
        def serve() -> None:
            main_loop.serve()
            if main_loop.stopping:
                application.quit()

        notifier = core.QSocketNotifier(main_loop.fileno(), core.QSocketNotifier.Type.Read)
        notifier.activated.connect(serve)
        while not main_loop.stopping:  # closing a window, or the code in the domain, is not to end it
            application.exec()
        notifier.setEnabled(False)

    return run


def _qt_application() -> tuple[Any, Any]:
    """QtCore, and the application of this process; one is made unless there is one.

    The richest one that there is: without the libraries of a screen, Qt may have no widgets. Raises ImportError.
    """
    import importlib

    for binding in ("PySide6", "PyQt6"):
        try:
            core: Any = importlib.import_module(f"{binding}.QtCore")
        except ImportError:
            continue
        application = core.QCoreApplication.instance()
        for module, kind in (("QtWidgets", "QApplication"), ("QtGui", "QGuiApplication"), ("QtCore", "")):
            if application is not None:
                break
            try:
                found: Any = importlib.import_module(f"{binding}.{module}")
            except ImportError:
                continue
            application = getattr(found, kind or "QCoreApplication")(sys.argv[:1] or ["cloister"])
            if kind:
                application.setQuitOnLastWindowClosed(False)
        return core, application
    raise ImportError(
        "main_loop='qt' needs PySide6 or PyQt6 in the Python of this domain; install one of them there, for instance"
        " PySide6-Essentials"
    )
