"""Telling of each exception that nobody here handles, where somebody wants to know: the host, or code of this domain.

Three ways lead there: a thread ends with one, the main thread does, or a task or a call-back of an event loop has one
that nobody takes. The loops say so in the log of asyncio, whichever loop it is and whoever made it; so we listen there.
What Python does by itself in each case - write the traceback - stays. Where several domains share one interpreter, each
is told of its own threads and tasks, and the default domain of the others. Any thread may enter.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from cloister.guest import local, own_threads
from cloister.guest.interrupts import Interrupted, StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["watch_unhandled"]

_process = local.Place()
"""Who is told of what happens outside of every domain that shares this interpreter."""
_lock = threading.Lock()


def watch_unhandled(tell: Callable[[str, BaseException], None]) -> None:
    """Call `tell` with where it was and the exception, from now on, on the thread that has raised it.

    Of this interpreter; where the running code shares it with other domains, of its domain alone.
    """
    place = local.shared()
    with _lock:
        _listen_to_tasks()
        if place is not None:
            place.unhandled.append(tell)
            return
        _process.unhandled.append(tell)
        if len(_process.unhandled) > 1:
            return
    before_thread, before_main = threading.excepthook, sys.excepthook

    def thread_raised(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, StopRequested | Interrupted):
            return  # its end is wanted
        before_thread(args)
        if args.exc_value is None or isinstance(args.exc_value, SystemExit) or own_threads.is_followed(args.thread):
            return
        _process.tell_unhandled(f"thread {'?' if args.thread is None else args.thread.name}", args.exc_value)

    def main_raised(kind: Any, error: BaseException, trace: Any) -> None:
        before_main(kind, error, trace)
        if not isinstance(error, KeyboardInterrupt):
            _process.tell_unhandled("main thread", error)

    threading.excepthook, sys.excepthook = thread_raised, main_raised


def _listen_to_tasks() -> None:
    log = logging.getLogger("asyncio")
    if not any(isinstance(known, _Listener) for known in log.filters):
        log.addFilter(_Listener())


class _Listener(logging.Filter):
    """Hears what event loops say of tasks and call-backs. No handler: with one, what nobody logs would not be shown."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and record.levelno >= logging.ERROR:
            (local.shared() or _process).tell_unhandled("task", error)
        return True
