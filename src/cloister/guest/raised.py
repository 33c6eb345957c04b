"""Telling of each exception that is raised here, where somebody wants to know: the host, or code of this domain.

`sys.monitoring` of Python 3.12 calls us in every frame through which an exception passes; it is told where it was
raised, when its traceback has one entry. What cloister itself raises is left out. The thread that raises only notes it;
another one tells, so that nothing waits and nothing that tells is interrupted. What waits there is bounded.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.daemons import before_end, daemons
from cloister.errors import LevelUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Raised", "watch_raised"]

Raised = tuple[str, str, str, int, str, str]
"""The type, the message, the file, the line, the function, the name of the thread."""

MAX_WAITING: Final = 10_000
MAX_MESSAGE: Final = 1000
"""Characters of a message."""

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_noting = threading.local()
_waiting: queue.SimpleQueue[Raised | None] = queue.SimpleQueue()
"""None ends the thread that tells."""
_tells: list[Callable[[Raised], None]] = []
_lock = threading.Lock()


def watch_raised(tell: Callable[[Raised], None]) -> None:
    """Call `tell` with each exception that is raised from now on, on a thread of ours.

    Raises LevelUnavailable before Python 3.12.
    """
    if sys.version_info < (3, 12):
        raise LevelUnavailable(
            f"ExceptionRaised needs Python 3.12 or later, and this is {sys.version_info[0]}.{sys.version_info[1]};"
            " UnhandledException is told by every Python"
        )
    with _lock:
        _tells.append(tell)
        if len(_tells) > 1:
            return
    thread = threading.Thread(target=_tell, name="cloister-raised", daemon=daemons())
    thread.start()
    before_end(partial(_stop, thread))
    monitoring: Any = sys.monitoring
    for tool in range(3, -1, -1):  # the upper ones are a profiler's and an optimizer's
        if monitoring.get_tool(tool) is None:
            break
    else:
        raise LevelUnavailable("ExceptionRaised needs one of four tool numbers of sys.monitoring; all are in use")
    monitoring.use_tool_id(tool, "cloister")
    monitoring.register_callback(tool, monitoring.events.RAISE, _note)
    monitoring.set_events(tool, monitoring.events.RAISE)


def _stop(thread: threading.Thread) -> None:
    """Tell what waits, and nothing more. Waits for the thread that tells, which waits for nothing but the channel."""
    _waiting.put(None)
    thread.join()
    _tells.clear()


def _note(code: Any, offset: int, error: BaseException) -> None:
    trace = error.__traceback__
    if trace is None or trace.tb_next is not None or getattr(_noting, "busy", False):
        return
    file = code.co_filename
    if file.startswith(_OURS) or _waiting.qsize() >= MAX_WAITING or not _tells:
        return
    _noting.busy = True  # `str` of the exception may raise others
    try:
        cls = type(error)
        try:
            message = str(error)[:MAX_MESSAGE]
        except Exception as other:
            message = f"<its text raised {type(other).__name__}>"
        thread = threading.current_thread().name
        _waiting.put((f"{cls.__module__}.{cls.__qualname__}", message, file, trace.tb_lineno, code.co_qualname, thread))
    finally:
        _noting.busy = False


def _tell() -> None:
    _noting.busy = True
    while (raised := _waiting.get()) is not None:
        for tell in list(_tells):
            tell(raised)
