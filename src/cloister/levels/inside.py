"""A place in this very process: what the thread level and the interpreter level have in common.

A guest there is a thread of this program, which `thread` or `interpreter` gives something to run. It can be asked to
end, and waited for; nothing can kill it. To the life of a domain it looks as a process does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloister.daemons import daemons
from cloister.levels.process import Ending

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd

__all__ = ["Inside"]


class Inside:
    """The host's side of one guest in this process. Any thread may enter."""

    pidfd = -1
    forked = False
    output: tuple[int, ...] = ()
    """It writes where this program does."""

    def __init__(self, control: socket.socket, visible: bool) -> None:
        """`control` is the host's end of the control channel; whoever reads and writes it closes it. `visible`: what
        its thread runs can be seen from this interpreter.
        """
        self._visible = visible
        self.pid = os.getpid()
        self.control = control
        self.reaped: Ending | None = None
        self.failure = ""
        """Why it could not serve, in one line."""
        self._over = threading.Event()
        self._lock = threading.RLock()
        self._tell: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], object], name: str) -> None:
        """Run the guest on a thread. Raises RuntimeError where the system has none left."""
        self._thread = threading.Thread(target=self._run, args=(work,), name=f"cloister-{name}", daemon=daemons())
        self._thread.start()

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Call `tell` once it has ended: at once, or on its thread, which it must not hold up."""
        with self._lock:
            if not self._over.is_set():
                self._tell = tell
                return
        tell()

    def has_ended(self) -> bool:
        """Whether its last thread has ended."""
        return self._over.is_set()

    def ends_now(self) -> bool:
        """It says so itself."""
        return False

    def kill(self) -> None:
        """Close the channel to it, after which it ends as soon as its code lets it. Never raises."""
        try:
            self.control.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is closed already

    def signal(self, number: int) -> bool:
        """No signal reaches it: False."""
        return False

    def remember_descendants(self) -> None:
        """It has no processes of its own."""

    def try_reap(self) -> Ending:
        """How it ended: in order, or with an exception."""
        self.reaped = Ending(1 if self.failure else 0)
        return self.reaped

    reap = try_reap

    def when_told(self, tell: Callable[[], object]) -> bool:
        """It is known at once."""
        return False

    def close(self) -> None:
        """Nothing of it is left."""

    def disown(self) -> None:
        """This is a forked child, which has none of its threads."""
        self._lock = threading.RLock()
        self.reaped = Ending()
        self._over.set()

    def where(self) -> str:
        """What its main thread does at this moment, in a few words; empty where that can't be known."""
        thread = self._thread
        if thread is None or thread.ident is None or not self._visible:
            return ""
        frame = sys._current_frames().get(thread.ident)
        if frame is None:
            return ""
        last = traceback.extract_stack(frame, limit=1)[0]
        return f": its main thread is in {last.name}() at {last.filename}:{last.lineno}"

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self.failure = f"{type(error).__name__}: {error}"
        with self._lock:
            self._over.set()
            tell, self._tell = self._tell, None
        if tell is not None:
            tell()


def leave(channel: socket.socket, lane: LaneEnd) -> None:
    """Close the guest's ends, where it never came up."""
    lane.close()
    channel.close()
