"""Waiting for room in a lane's pipe, and being woken by another thread, with one descriptor.

A readiness is told once, where it was asked for (one-shot events of epoll or kqueue); asking also wakes who waits, as
long as there is room. One thread waits, any thread may ask. Reading the lane is another thread's business.
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd

__all__ = ["Room", "Watch"]


class Room(NamedTuple):
    """What the thread that waits is told."""

    writable: bool
    gone: bool
    """Nobody will ever read what is written."""


if sys.platform == "linux":

    class Watch:
        """The writing end of a lane, watched by one thread."""

        def __init__(self, end: LaneEnd) -> None:
            """Raises OSError where no descriptor is left."""
            self._writer = end.writer
            self._epoll = select.epoll()
            self._epoll.register(end.writer, select.EPOLLONESHOT)

        def wait(self, seconds: float | None) -> Room | None:
            """Wait until this thread is told something; None when the time is up.

            Who has asked by the time that this returns may not be told again: look at all there is to do.
            """
            events = self._epoll.poll(seconds, 1)
            if not events:
                return None
            gone = bool(events[0][1] & (select.EPOLLERR | select.EPOLLHUP))
            if not gone:  # the event has switched off that the end is told, too
                self._set(select.EPOLLONESHOT)
            return Room(not gone, gone)

        def ask(self) -> None:
            """Tell the thread that waits when there is room to write, or nobody to read it.

            Ignored after `close`, and where the end of the lane was closed meanwhile.
            """
            self._set(select.EPOLLOUT | select.EPOLLONESHOT)

        def _set(self, events: int) -> None:
            try:
                self._epoll.modify(self._writer, events)
            except (ValueError, OSError):
                pass

        def close(self) -> None:
            """Close what waits, not the lane. Called when no thread waits any more."""
            self._epoll.close()

elif sys.platform != "win32":  # another platform

    class Watch:
        """The writing end of a lane, watched by one thread."""

        def __init__(self, end: LaneEnd) -> None:
            """Raises OSError where no descriptor is left."""
            self._writer = end.writer
            self._queue = select.kqueue()

        def wait(self, seconds: float | None) -> Room | None:
            """Wait until this thread is told something; None when the time is up."""
            events = self._queue.control(None, 1, seconds)
            if not events:
                return None
            gone = bool(events[0].flags & select.KQ_EV_EOF)
            return Room(not gone, gone)

        def ask(self) -> None:
            """Tell the thread that waits when there is room to write, or nobody to read it. Ignored after `close`."""
            event = select.kevent(self._writer, select.KQ_FILTER_WRITE, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)
            try:
                self._queue.control([event], 0)
            except ValueError:
                pass

        def close(self) -> None:
            """Close what waits, not the lane. Called when no thread waits any more."""
            self._queue.close()

else:  # another platform

    class Watch:
        """There are no lanes on this platform yet."""

        def __init__(self, end: LaneEnd) -> None:
            raise NotImplementedError

        def wait(self, seconds: float | None) -> Room | None:
            """Refuse."""
            raise NotImplementedError

        def ask(self) -> None:
            """Refuse."""

        def close(self) -> None:
            """Refuse."""
