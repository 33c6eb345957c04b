"""How a guest at the process level comes up, serves, and ends.

`main` is the program of a guest. In order: its descriptors, the lifeline, the fault handler, a greeting, the set-up,
the control thread with its beats, the initializer, ready; then the main thread serves lanes until the host says stop.
A guest that a template has forked joins in at `Guest.come_up`, with its descriptors in place; it has greeted before.
An end by itself is announced with its last words, so that the report can say why.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import socket
import sys
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from cloister import long_waits
from cloister.environments import locks
from cloister.errors import EnvironmentFailed
from cloister.guest import departure, descriptors, interrupts, lifeline, local, main_loop, preloading
from cloister.guest.control import Control
from cloister.guest.coroutines import is_coroutine
from cloister.guest.host import HostPeer
from cloister.guest.interrupts import MainThread, StopRequested
from cloister.guest.logs import ForwardingHandler
from cloister.guest.service import NAMESPACE, Service
from cloister.guest.shared import SharedServing
from cloister.guest.tasks import Tasks
from cloister.guest.unhandled import watch_unhandled
from cloister.guest.work_lane import WorkServing
from cloister.objects import pickles, targets
from cloister.pipes.duplex import LaneEnd
from cloister.pipes.page import Page
from cloister.wire.limits import DEFAULT_LIMITS
from cloister.wire.messages import Kind, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cloister.guest.threads import Threads
    from cloister.lanes.conversation import Conversation

__all__ = ["EXIT_FAILED", "Guest", "find_modules", "main", "make", "serve", "use_utf8"]

EXIT_FAILED = 1
"""The exit code of a guest that failed to start, or that an exception ended."""

MAX_WORDS = 16 * 1024
"""Characters of the traceback that a guest ends with."""

MAIN_PATIENCE_S = 1.0
"""How long a lane waits for the main thread where that still unwinds a call that was given up."""


def main() -> NoReturn:
    """Be a guest, until the host says stop; leaves in good order, with exit hooks."""
    if sys.platform == "win32":
        raise NotImplementedError
    os.closerange(descriptors.FIRST_FREE, os.sysconf("SC_OPEN_MAX"))
    for fd in range(descriptors.CONTROL, descriptors.FIRST_FREE):
        try:
            os.set_inheritable(fd, False)
        except OSError:
            pass  # no page on this platform
    lifeline.tie(descriptors.LIFELINE)
    use_utf8()
    serve()


def serve() -> NoReturn:
    """Be a guest whose descriptors are in place and whose lifeline is tied, as `main`."""
    if sys.platform == "win32":
        raise NotImplementedError
    control, guest = make()
    control.greet()
    guest.come_up(LaneEnd(descriptors.LANE_READER, descriptors.LANE_WRITER), descriptors.PAGE)
    departure.leave(forked=False)


def make() -> tuple[Control, Guest]:
    """What serves the host, with all that it has before it knows its domain. In a template this is made before a fork.

    The descriptor of the control channel is a socket by now. Faults are written to that of the page.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    if sys.platform == "linux":
        import faulthandler  # not where this file is loaded: a sub-interpreter refuses it

        faulthandler.enable(descriptors.PAGE)
        faulthandler.register(interrupts.DUMP, descriptors.PAGE)
    control = Control(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptors.CONTROL))
    return control, Guest(control, interrupts.install())


def use_utf8() -> None:
    """Write UTF-8, line by line, whatever the locale is."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr,unused-ignore]  # they are text files here


class Guest:
    """What serves the host in here; `run` is the work of the main thread."""

    def __init__(
        self, control: Control, main: MainThread, threads: Threads | None = None, namespace: str = NAMESPACE
    ) -> None:
        """`namespace` is the name of the module of `exec`."""
        self.forked = False
        """A template has made it, where the modules of `Setup.preload` were imported before."""
        self._control, self._main = control, main
        self._setup: dict[str, Any] = {}
        self._domain = local.Place()
        self._service, tasks = Service(namespace), Tasks()
        self._peer = HostPeer("", self._service.functions | tasks.functions, DEFAULT_LIMITS, None, threads)
        self._service.peer = tasks.peer = self._peer
        self._lanes: queue.SimpleQueue[_Offer | None] = queue.SimpleQueue()
        self._loop: main_loop.MainLoop | None = None
        self._hears = False

    def take_up(self, setup: dict[str, Any], first: LaneEnd, page: Page | None) -> None:
        """Be the guest of this set-up; `first` is its end of the first lane, which it serves with `run`."""
        self._setup = setup
        place = self._domain
        place.name, place.identity, place.config, place.base = (setup[key] for key in ("name", "id", "config", "base"))
        self._peer.name, self._peer.page, self._main.page = setup["name"], page, page
        self._peer.calls.expect(0)
        self._lanes.put(_Offer(0, first))

    def come_up(self, first: LaneEnd, page: int) -> None:
        """Be a guest of the process level, once the host says which, until it says stop. `page` is a descriptor.

        Raises whatever ends it before, SystemExit too.
        """
        shared = Page(page) if sys.platform == "linux" else None
        try:
            setup = self._control.receive_setup()
        except EOFError:
            sys.exit(EXIT_FAILED)
        self.take_up(setup, first, shared)
        self.run()

    def converse(self) -> Conversation:
        """A conversation as its host has it, to talk to itself with."""
        return self._peer.converse()

    def wait_awake(self) -> None:
        """Start the control thread before the guest knows its domain; it does nothing until then."""
        self._control.start_thread(self._peer.threads)

    def run(self) -> None:
        control, main = self._control, self._main
        self._enter()
        try:
            control.connect(self._peer, main, self._take_lane, self._stop, self._setup["beat"])
            if not self.forked or self._runs_code():
                control.let_go()
                control.start_thread(self._peer.threads)
            try:
                self._prepare()
            except Exception as error:
                control.send(Kind.FAILED, self._peer.describe(error))
                sys.exit(EXIT_FAILED)
            self._domain.notices.serves = True
            control.send(Kind.READY)
            control.let_go()
            control.start_thread(self._peer.threads)  # no code of the user's has run, where it was not there before
            if self._loop is not None:
                self._loop.run()
                sys.exit(0)  # it has ended by itself, as a program does whose loop ends
            while not main.stopping and (offer := self._lanes.get()) is not None:
                if offer.accept():
                    self._peer.serve_lane(offer.number, offer.end, main)
            main.past_stop = True  # it may not have been told by the signal, which is not to tear the exit hooks
        except StopRequested:
            main.past_stop = True
        except SystemExit as end:
            main.past_stop = True
            code = int(end.code or 0) & 0xFF if isinstance(end.code, int | None) else EXIT_FAILED
            control.send(Kind.LAST_WORDS, "exited", code, "")  # its exit hooks may take long
            raise
        except BaseException as error:
            main.past_stop = True
            reason = "out of memory" if isinstance(error, MemoryError) else "raised"
            control.send(Kind.LAST_WORDS, reason, EXIT_FAILED, "".join(traceback.format_exception(error))[-MAX_WORDS:])
            raise
        finally:
            control.let_go()  # what tells of its failure is not to stay here
            self._peer.coroutines.close()

    def _enter(self) -> None:
        """Let the code of this process know in which domain it is."""
        local.enter(self._domain)

    def _settle(self) -> None:
        """Make this process, which is the domain's own, what the set-up says."""
        setup = self._setup
        if setup["in_use"] is not None:
            self._in_use = _hold(setup["in_use"])
        find_modules(setup)
        pickles.read_with(setup["cloudpickle"])
        self._tell_host()

    def _tell_host(self) -> None:
        """Let the host hear the logs of this interpreter, what its threads raise, and what it does not find, and who
        waits for long."""
        self.hear()
        long_waits.connect(partial(self._control.send, Kind.WAIT), partial(self._control.send, Kind.STILL))
        root = logging.getLogger()
        if root.level != self._setup["log_level"]:
            root.setLevel(self._setup["log_level"])
        self._service.watch(self._setup["watch"])

    def hear(self) -> None:
        """Hear what is logged and raised in this interpreter from now on. Idempotent."""
        if not self._hears:
            self._hears = True
            logging.getLogger().addHandler(ForwardingHandler(lambda *record: self._control.send(Kind.LOG, *record)))
            logging.raiseExceptions = False
            importlib.invalidate_caches()
            watch_unhandled(self._unhandled)
            interrupts.hear_lost(lambda error: self._main.lost(error), lambda: self._control.interrupt_again())

    def _prepare(self) -> None:
        setup = self._setup
        self._settle()
        if setup["main_loop"] is not None:
            loop = main_loop.load(setup["main_loop"], self._peer, self._main)
            self._loop = loop  # from here on lanes are offered to it
            while not self._lanes.empty():
                if (offer := self._lanes.get()) is not None:
                    loop.offer(offer)
        for name in self._to_import():
            preloading.preload(name, alone=setup["shared"])
        if setup["initializer"] is not None:
            target, args = setup["initializer"]
            made = targets.from_plain(target)(*args)
            if is_coroutine(made):
                self._peer.coroutines.run(made, "initializer")

    def _runs_code(self) -> bool:
        """Whether code of the user's runs before it serves."""
        setup = self._setup
        return setup["initializer"] is not None or setup["main_loop"] is not None or bool(self._to_import())

    def _to_import(self) -> list[str]:
        """The modules of `Setup.preload` that are to be imported here."""
        names: list[str] = self._setup["preload"]
        return [name for name in names if name not in sys.modules] if self.forked else names

    def _unhandled(self, where: str, error: BaseException) -> None:
        self._control.send(Kind.EVENT, where, self._peer.describe(error))

    def _stop(self) -> None:
        """Let the main thread go, also where the code that it ran has swallowed `StopRequested`."""
        if self._loop is not None:
            self._loop.stop()
        self._lanes.put(None)

    def _take_lane(self, number: int, role: Role, end: LaneEnd) -> None:
        """Find a thread for a lane that the host has opened; called by the control thread."""
        if role not in (Role.SHARED, Role.WORK):
            self._peer.calls.expect(number)
        if role in (Role.MAIN, Role.MAIN_ONLY):
            offer = _Offer(number, end)
            if self._loop is not None:
                self._loop.offer(offer)
            else:
                self._lanes.put(offer)
            if role == Role.MAIN_ONLY:
                return
            fallback = threading.Timer(MAIN_PATIENCE_S, self._serve_instead, (offer,))
            fallback.daemon = self._peer.threads.daemon
            offer.fallback = fallback
            try:
                fallback.start()
            except RuntimeError:
                # No thread is left: one that comes later waits for the main thread then.
                self._peer.threads.start_soon(fallback.run, f"cloister-lane-{number}")
            return
        if role == Role.WORK:
            serve: Callable[[], None] = WorkServing(self._peer, number, end).serve
        elif role == Role.SHARED:
            try:
                serve = SharedServing(self._peer, number, end).serve
            except OSError:  # no descriptor is left here
                end.close()
                return
        else:
            serve = partial(self._peer.serve_lane, number, end)
        if not self._peer.threads.start_soon(serve, f"cloister-lane-{number}"):
            shortage = RuntimeError(
                "the system has no thread left for a call in this domain, which waits for one. Raise the limit of"
                " processes (ulimit -u, pids.max), or let fewer threads call at once"
            )
            self._unhandled("open a lane", shortage)

    def _serve_instead(self, offer: _Offer) -> None:
        if offer.accept():
            self._peer.serve_lane(offer.number, offer.end)


def find_modules(setup: Mapping[str, Any]) -> None:
    """Let modules be found where the set-up says, and go to its folder. Raises OSError where that is gone."""
    if setup["path"] is not None:
        sys.path[:] = setup["path"]
    elif "" in sys.path:
        sys.path.remove("")  # put there by -c; the working directory of the host is not ours
    sys.path[:0] = setup["search"]
    if setup["cwd"] is not None:
        os.chdir(setup["cwd"])


def _hold(path: str) -> int:
    """Say that this process uses an environment of the cache, for as long as it lives."""
    try:
        return locks.hold(path)
    except OSError as error:
        raise EnvironmentFailed(
            f"its environment was removed in the meantime; make the domain again: {error}"
        ) from None


class _Offer:
    """A lane that waits for the main thread; whoever accepts it first serves it."""

    __slots__ = ("_taken", "end", "fallback", "number")

    def __init__(self, number: int, end: LaneEnd) -> None:
        self.number, self.end = number, end
        self.fallback: threading.Timer | None = None
        self._taken = threading.Lock()

    def accept(self) -> bool:
        if self.fallback is not None:
            self.fallback.cancel()
        return self._taken.acquire(blocking=False)
