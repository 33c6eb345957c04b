"""What must not be torn by a KeyboardInterrupt, run where none can come.

Python runs the handlers of signals on the main thread, between any two steps of it: also between the system call that
makes a descriptor and the note of it, and nobody closes that descriptor any more. Any thread may enter.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from cloister.daemons import daemons

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["uninterrupted"]

T = TypeVar("T")


def uninterrupted(make: Callable[[], T]) -> T:
    """Return what `make` returns, or raise what it raises; on the main thread, from a thread of its own.

    Where the main thread is interrupted meanwhile, the result is dropped when it is there, so it must be something that
    ends itself then.
    """
    if threading.current_thread() is not threading.main_thread():
        return make()
    made: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)

    maker = threading.Thread(target=run, name="cloister-maker", daemon=daemons())
    try:
        maker.start()
    except RuntimeError:
        return make()  # the interpreter is ending, or the system has no thread left
    maker.join()
    if failed:
        raise failed.pop()
    return made.pop()
