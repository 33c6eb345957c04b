"""What the code in a domain wants to know of its end: that it is about to be unloaded, or wants that itself.

The control channel tells, and asks the host. The default domain, too, has notices; there is nobody to ask, and no
end of it but that of the process. Any thread may enter.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from cloister.guest.interrupts import StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.interrupts import MainThread
    from cloister.guest.threads import Threads

__all__ = ["Notices"]

LOOK_S: Final = 0.01
"""How often the main thread looks for the signal that ends it."""

_log = logging.getLogger("cloister")


class Notices:
    """The handlers of this domain's end."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[], object]] = []
        self.serves = False
        """The domain is ready; one that is stopped before has no last moments."""
        self._told = False
        self._lock = threading.RLock()
        self._main: MainThread | None = None
        self._stopping = threading.Event()
        self._tell: Callable[[bool], None] | None = None
        self._ask: Callable[[], None] | None = None

    def connect(
        self, main: MainThread, tell: Callable[[bool], None], ask: Callable[[], None], threads: Threads
    ) -> None:
        """Begin: `tell` tells the host that there are handlers, or that they have run; `ask` asks it to unload."""
        self._main, self._tell, self._ask, self._threads = main, tell, ask, threads

    def add(self, handler: Callable[[], object]) -> None:
        """Run a handler when this domain is unloaded, while it still works; after those that are there."""
        with self._lock:
            first = not self._handlers
            self._handlers.append(handler)
        if first and self._tell is not None:
            self._tell(True)

    def farewell(self) -> None:
        """The host is about to unload this domain: run the handlers, on a thread of ours, and say so after it."""
        self._told = True
        self._threads.start_soon(self._run, "cloister-farewell")

    def end(self, end: Callable[[], None]) -> None:
        """The host wants this domain to end now: call `end`. Called by the control thread.

        Where it had not heard yet that there are handlers, they run first, on a thread of ours.
        """

        def run() -> None:
            try:
                self._run()
            finally:
                end()

        if self.serves and self._handlers and not self._told:
            self._told = True
            try:
                self._threads.start(run, "cloister-farewell")
                return
            except RuntimeError:
                pass  # there is no thread left
        end()

    def _run(self) -> None:
        for handler in list(self._handlers):
            try:
                handler()
            except BaseException:  # `sys.exit()` too: the others run, and the host is told
                _log.exception("a handler of Unloading raised; the others run")
        assert self._tell is not None
        self._tell(False)

    def stop(self) -> None:
        """The host wants this domain to end now. Called by the control thread."""
        self._stopping.set()

    def unload(self, wait: bool) -> None:
        """Ask the host to unload this domain; with `wait` also end what runs on this thread, when the end has come."""
        assert self._ask is not None
        self._ask()
        if not wait:
            return
        main = self._main
        by_signal = main is not None and main.signalled and not main.has_loop
        if main is not None and by_signal and threading.current_thread() is threading.main_thread():
            while not main.past_stop:
                time.sleep(LOOK_S)  # the signal of the stop raises in here
        else:
            self._stopping.wait()
        raise StopRequested
