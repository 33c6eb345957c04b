"""A guest that lives in the process of its host: on threads of its own, or in an interpreter of its own.

It serves as any other; what differs is its end. No process ends with it, so each of its threads must be brought to an
end: calls are interrupted, lanes are closed by the host, and the main thread leaves when all others have. Code that
can't be interrupted is waited for, without a limit here; the host has one. Nothing here touches what belongs to the
process: no signal, no descriptor by number, no exit.

`serve` is the work of the guest's main thread, which is no main thread of Python's.
"""

from __future__ import annotations

import contextvars
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from cloister.daemons import allow_no_daemons, end_services
from cloister.guest import loads, local, own_threads, raised
from cloister.guest.boot import Guest
from cloister.guest.control import INSIST_S, Control
from cloister.guest.delivery import Delivery
from cloister.guest.interrupts import LOOKS, MainThread, StopRequested
from cloister.guest.service import NAMESPACE
from cloister.guest.threads import Threads
from cloister.guest.unhandled import watch_unhandled

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page

__all__ = ["serve"]


def serve(channel: socket.socket, first: LaneEnd, level: str, page: Page | None = None) -> None:
    """Be a guest on the calling thread until the host says stop, and every other thread of the guest has ended."""
    contextvars.Context().run(_serve, channel, first, level, page)


def _serve(channel: socket.socket, first: LaneEnd, level: str, page: Page | None) -> None:
    main = _Main(shared=level == "thread")
    control = _Control(channel, main)
    control.greet()
    try:
        setup = control.receive_setup()
    except EOFError:
        first.close()
        channel.close()
        return
    guest = _InThread(control, main, setup["id"]) if level == "thread" else _InInterpreter(control, main)
    guest.take_up(setup, first, page)
    guest.serve()


class _Main(MainThread):
    """The thread that serves the first lane. No signal reaches it."""

    def __init__(self, shared: bool) -> None:
        """`shared`: the modules that it imports are the host's too."""
        super().__init__()
        self._shared = shared
        self.signalled = False
        self._thread = threading.get_ident()
        self._preparing = False
        self._stop = Delivery()
        self._lock = threading.Lock()
        self.interrupted: set[tuple[int, int]] = set()
        """The calls that were interrupted because the domain ends."""

    def prepare(self, begin: bool) -> None:
        """The code of the set-up begins, or is over. Raises `StopRequested` where that was asked for meanwhile."""
        with self._lock:
            self._preparing = begin
        for _ in range(LOOKS):
            pass

    def stop(self) -> None:
        """Interrupt the set-up, if it runs; to be called again until it is over. Control thread.

        A finalizer would swallow that, so it is waited for; where others see what is imported, an import for a while.
        """
        patient = self._shared and time.monotonic() < self.stop_until
        with self._lock:
            if self._preparing and self._stop.send(self._thread, StopRequested, patient, lasting=True):
                self._preparing = False


class _Control(Control):
    """A control channel that ends no process."""

    maps_memory = False

    def __init__(self, channel: socket.socket, main: _Main) -> None:
        super().__init__(channel)
        self._own_main = main
        self._left = threading.Event()

    def start_thread(self, threads: Threads) -> None:
        """Start the thread, unless it is there. It ends before the process does, so it is one that is waited for."""
        if not self._has_thread:
            self._has_thread = True
            self.thread = threads.start(self._run, "cloister-control")

    def leave(self) -> None:
        """End the thread and close the channel. Called by the main thread, as the last thing."""
        self._left.set()
        self._wanted.end()  # what is let go after that may have finalizers that call
        try:
            self.channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the host was first
        if self.thread is not None:
            self.thread.join()
        self.channel.close()

    def _interrupt_main(self) -> None:
        self._own_main.stop()

    def _insist(self) -> bool:
        """While the domain ends, interrupt what still runs, each call once: one may begin after the first look."""
        if not self._main.stopping:
            return False
        self._own_main.stop()
        self._peer.stop_all(self._own_main.interrupted)
        return True

    def _end_with_host(self) -> None:
        """The host has given this guest up."""
        self._wanted.end()
        if not self._main.stopping:
            self._main.stopping = True
            self._stop()
            self._own_main.stop()
        while not self._left.wait(INSIST_S):
            self._insist()


class _Inside(Guest):
    """What serves the host in its own process."""

    def __init__(self, control: _Control, main: _Main, *args: Any) -> None:
        super().__init__(control, main, *args)
        self._own_control, self._own_main = control, main

    def take_up(self, setup: dict[str, Any], first: LaneEnd, page: Page | None) -> None:
        """As ever; but no signal reaches its threads, so none is told of in the page."""
        super().take_up(setup, first, page)
        self._main.page = None

    def serve(self) -> None:
        """Serve until the end, and leave nothing."""
        try:
            self.run()
        except BaseException:
            pass  # the host has been told, with the last words
        self._main.stopping = True
        self._peer.graves.close()
        while not self._lanes.empty():
            offer = self._lanes.get()
            if offer is not None and offer.accept():
                offer.end.close()
        self._peer.threads.wait_ended(self._own_control.thread)
        self._service.forget()
        self._end_services()
        self._watch_no_more()
        self._own_control.leave()
        self._peer.exports.clear()  # after the last release of the host; leases end with what they are for

    def _stop(self) -> None:
        """Let all threads go. One that waits for a domain that code here has made goes on when that has ended."""
        super()._stop()
        self._peer.threads.start(self._end_services, "cloister-ends")

    def _end_services(self) -> None:
        """End what would outlive the domain, such as domains that its code has made. Twice does no harm."""

    def _watch_no_more(self) -> None:
        """Take back what was done to this interpreter, where it lives on. What there was to tell has been told then."""

    def _prepare(self) -> None:
        self._own_main.prepare(True)
        try:
            super()._prepare()
        finally:
            self._own_main.prepare(False)


class _InThread(_Inside):
    """Its modules, its `sys.path` and its logging are the host's, and stay as they are."""

    def __init__(self, control: _Control, main: _Main, identity: int) -> None:
        super().__init__(
            control, main, Threads(lambda: local.bind(self._domain), shared=True), f"{NAMESPACE}{identity}"
        )

    def serve(self) -> None:
        """Serve until the end, and leave nothing; the threads of its code are known as its own meanwhile."""
        own_threads.follow()
        try:
            super().serve()
        finally:
            own_threads.leave()

    def _watch_no_more(self) -> None:
        loads.forget(self._domain)
        raised.forget(self._domain)
        self._domain.unhandled.clear()

    def _end_services(self) -> None:
        self._domain.end_what_is_its_own()

    def _enter(self) -> None:
        local.bind(self._domain)

    def _settle(self) -> None:
        """Nothing here belongs to the domain alone, but for the threads of its code, and what that loads and raises."""
        watch_unhandled(self._unhandled)
        self._service.watch(self._setup["watch"])


class _InInterpreter(_Inside):
    """It has modules of its own. Its interpreter allows no daemon threads; it is closed after the last one."""

    def __init__(self, control: _Control, main: _Main) -> None:
        allow_no_daemons()
        super().__init__(control, main)

    def _end_services(self) -> None:
        end_services()

    def _settle(self) -> None:
        sys.path[:] = [*self._setup["search"], *self._setup["path"]]
        self._tell_host()
