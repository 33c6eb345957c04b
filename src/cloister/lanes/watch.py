"""Waiting for a lane on several threads at once, so that whoever hears of a call can serve it.

Each readiness is told to one thread, once; then nobody hears of that end until it is asked for again (one-shot events
of epoll or kqueue). So a thread that has read asks again before it serves what it has read, and another one that waits
here hears what comes next: no call is handed from one thread to another. Any thread may enter.
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd

__all__ = ["Ready", "Watch"]


class Ready(NamedTuple):
    """What one thread is told."""

    readable: bool
    """The lane can be read; its end is read as no bytes."""
    writable: bool
    gone: bool
    """Nobody will ever read what is written."""


if sys.platform == "linux":

    class Watch:
        """One end of a lane, watched by any number of threads."""

        def __init__(self, end: LaneEnd) -> None:
            """Hear of the first bytes to read. Raises OSError where no descriptor is left."""
            self._end = end
            self._epoll = select.epoll()
            self._epoll.register(end.reader, select.EPOLLIN | select.EPOLLONESHOT)
            self._epoll.register(end.writer, select.EPOLLONESHOT)

        def wait(self, seconds: float | None) -> Ready | None:
            """Wait until this thread is told something; None when the time is up."""
            events = self._epoll.poll(seconds, 2)
            if not events:
                return None
            readable = writable = gone = False
            for fd, event in events:
                if fd == self._end.reader:
                    readable = True
                elif event & select.EPOLLOUT:
                    writable = True
                else:
                    gone = True
            return Ready(readable, writable, gone)

        def ask_reading(self) -> None:
            """Tell one thread when there is something to read, or the end."""
            self._epoll.modify(self._end.reader, select.EPOLLIN | select.EPOLLONESHOT)

        def ask_writing(self) -> None:
            """Tell one thread when there is room to write, or nobody to read it."""
            self._epoll.modify(self._end.writer, select.EPOLLOUT | select.EPOLLONESHOT)

        def close(self) -> None:
            """Close what waits, not the lane. Called when no other thread waits any more."""
            self._epoll.close()

elif sys.platform != "win32":  # another platform

    class Watch:
        """One end of a lane, watched by any number of threads."""

        def __init__(self, end: LaneEnd) -> None:
            """Hear of the first bytes to read. Raises OSError where no descriptor is left."""
            self._end = end
            self._queue = select.kqueue()
            self.ask_reading()

        def wait(self, seconds: float | None) -> Ready | None:
            """Wait until this thread is told something; None when the time is up."""
            events = self._queue.control(None, 2, seconds)
            if not events:
                return None
            readable = any(event.filter == select.KQ_FILTER_READ for event in events)
            writes = [event for event in events if event.filter == select.KQ_FILTER_WRITE]
            gone = any(event.flags & select.KQ_EV_EOF for event in writes)
            return Ready(readable, bool(writes) and not gone, gone)

        def ask_reading(self) -> None:
            """Tell one thread when there is something to read, or the end."""
            self._ask(self._end.reader, select.KQ_FILTER_READ)

        def ask_writing(self) -> None:
            """Tell one thread when there is room to write, or nobody to read it."""
            self._ask(self._end.writer, select.KQ_FILTER_WRITE)

        def _ask(self, fd: int, what: int) -> None:
            self._queue.control([select.kevent(fd, what, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)], 0)

        def close(self) -> None:
            """Close what waits, not the lane. Called when no other thread waits any more."""
            self._queue.close()

else:  # another platform

    class Watch:
        """There are no lanes on this platform yet."""

        def __init__(self, end: LaneEnd) -> None:
            raise NotImplementedError

        def wait(self, seconds: float | None) -> Ready | None:
            """Refuse."""
            raise NotImplementedError

        def ask_reading(self) -> None:
            """Refuse."""

        def ask_writing(self) -> None:
            """Refuse."""

        def close(self) -> None:
            """Refuse."""
