"""Telling of each exception that is raised here, where somebody wants to know: the host, or code of this domain.

`sys.monitoring` of Python 3.12 calls us in every frame through which an exception passes; it is told where it was
raised, when its traceback has one entry. What cloister itself raises is left out. The thread that raises only notes it;
another one tells, so that nothing waits and nothing that tells is interrupted. What waits there is bounded.

It is a whole interpreter that is monitored. Where several domains share one, each is told of what its own code raises;
of what no watched domain raises, no more than its domain is looked at. With the last watcher the monitoring ends.
"""

from __future__ import annotations

import atexit
import contextvars
import os
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from cloister.daemons import before_end, daemons
from cloister.errors import LevelUnavailable
from cloister.guest import local

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Raised", "forget", "watch_raised"]

Raised = tuple[str, str, str, int, str, str]
"""The type, the message, the file, the line, the function, the name of the thread."""

MAX_WAITING: Final = 10_000
MAX_MESSAGE: Final = 1000
"""Characters of a message."""
EXIT_S: Final = 1.0
"""How long a process that ends waits for what is still to be told."""

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_noting = threading.local()
_lock = threading.RLock()
_watching = 0
"""How many want to be told, in all domains of this interpreter."""
_monitor: _Monitor | None = None
"""What notes and tells, while somebody wants to be told."""


def watch_raised(tell: Callable[[Raised], None]) -> None:
    """Call `tell` with each exception that the code of this domain raises from now on, on a thread of ours.

    Raises LevelUnavailable before Python 3.12, and where every tool of `sys.monitoring` is in use.
    """
    global _monitor, _watching
    if sys.version_info < (3, 12):
        raise LevelUnavailable(
            f"ExceptionRaised needs Python 3.12 or later, and this is {sys.version_info[0]}.{sys.version_info[1]};"
            " UnhandledException is told by every Python"
        )
    with _lock:
        if _monitor is None:
            _monitor = _Monitor()
        local.here().raised.append(tell)
        _watching += 1


def forget(place: local.Place) -> None:
    """Tell of this domain no more: it ends. What was raised until now has been told on return."""
    global _monitor, _watching
    with _lock:
        if not place.raised:
            return
        monitor, _watching = _monitor, _watching - len(place.raised)
        ends = not _watching
        if ends:
            _monitor = None
    if monitor is not None:
        (monitor.end if ends else monitor.flush)()
    place.raised.clear()


def _end() -> None:
    """The interpreter ends: monitor no more, once what waits has been told."""
    global _monitor
    with _lock:
        monitor, _monitor = _monitor, None
    if monitor is not None:
        monitor.end()


before_end(_end)


class _Monitor:
    """The tool of `sys.monitoring`, and the thread that tells."""

    def __init__(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # there from 3.12 on
        for tool in range(3, -1, -1):  # the upper ones are a profiler's and an optimizer's
            if monitoring.get_tool(tool) is None:
                break
        else:
            raise LevelUnavailable("ExceptionRaised needs one of four tool numbers of sys.monitoring; all are in use")
        self._tool, self._monitoring = tool, monitoring
        self._waiting: queue.SimpleQueue[tuple[local.Place, Raised] | threading.Event | None] = queue.SimpleQueue()
        """An event is set in its turn; None ends the thread that tells."""
        self._thread = threading.Thread(
            target=contextvars.Context().run, args=(self._tell,), name="cloister-raised", daemon=daemons()
        )
        self._thread.start()
        if daemons():
            atexit.register(self._leave)
        monitoring.use_tool_id(tool, "cloister")
        monitoring.register_callback(tool, monitoring.events.RAISE, self._note)
        monitoring.set_events(tool, monitoring.events.RAISE)

    def flush(self) -> None:
        """Wait until what was noted has been told. Telling waits for nothing but the channel."""
        told = threading.Event()
        self._waiting.put(told)
        while not told.wait(1.0) and self._thread.is_alive():
            pass

    def end(self) -> None:
        """Note no more, tell what waits, and end the thread."""
        self._monitoring.set_events(self._tool, 0)
        self._monitoring.register_callback(self._tool, self._monitoring.events.RAISE, None)
        self._monitoring.free_tool_id(self._tool)
        atexit.unregister(self._leave)
        self._waiting.put(None)
        self._thread.join()

    def _leave(self) -> None:
        """The process ends: tell what waits, for as long as that may take."""
        self._waiting.put(None)
        self._thread.join(EXIT_S)

    def _note(self, code: Any, offset: int, error: BaseException) -> None:
        trace = error.__traceback__
        if trace is None or trace.tb_next is not None or getattr(_noting, "busy", False):
            return
        file, place = code.co_filename, local.here()
        if not place.raised or file.startswith(_OURS) or self._waiting.qsize() >= MAX_WAITING:
            return
        _noting.busy = True  # `str` of the exception may raise others
        try:
            cls = type(error)
            try:
                message = str(error)[:MAX_MESSAGE]
            except Exception as other:
                message = f"<its text raised {type(other).__name__}>"
            kind, thread = f"{cls.__module__}.{cls.__qualname__}", threading.current_thread().name
            self._waiting.put((place, (kind, message, file, trace.tb_lineno, code.co_qualname, thread)))
        finally:
            _noting.busy = False

    def _tell(self) -> None:
        _noting.busy = True
        while (noted := self._waiting.get()) is not None:
            if isinstance(noted, threading.Event):
                noted.set()
                continue
            place, raised = noted
            for tell in list(place.raised):
                tell(raised)
