"""Telling of each exception that nobody here handles, where somebody wants to know: the host, or code of this domain.

Three ways lead there: a thread ends with one, the main thread does, or a task or a call-back of an event loop has one
that nobody takes. The loops say so in the log of asyncio, whichever loop it is and whoever made it; so we listen there.
What Python does by itself in each case - write the traceback - stays. Any thread may enter.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from cloister.guest.interrupts import Interrupted, StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["watch_unhandled"]

_tells: list[Callable[[str, BaseException], None]] = []
_lock = threading.Lock()


def watch_unhandled(tell: Callable[[str, BaseException], None]) -> None:
    """Call `tell` with where it was and the exception, from now on, on the thread that has raised it."""
    with _lock:
        _tells.append(tell)
        if len(_tells) > 1:
            return
    before_thread, before_main = threading.excepthook, sys.excepthook

    def thread_raised(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, StopRequested | Interrupted):
            return  # its end is wanted
        before_thread(args)
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            _tell(f"thread {'?' if args.thread is None else args.thread.name}", args.exc_value)

    def main_raised(kind: Any, error: BaseException, trace: Any) -> None:
        before_main(kind, error, trace)
        if not isinstance(error, KeyboardInterrupt):
            _tell("main thread", error)

    threading.excepthook, sys.excepthook = thread_raised, main_raised
    logging.getLogger("asyncio").addHandler(_Listener(logging.ERROR))


class _Listener(logging.Handler):
    """Hears what event loops say of tasks and call-backs."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            _tell("task", error)


def _tell(where: str, error: BaseException) -> None:
    for tell in list(_tells):
        try:
            tell(where, error)
        except Exception:
            logging.getLogger("cloister").exception("what tells of unhandled exceptions raised")
