"""Who wants to know what happens to one domain, and how they are told: handlers, and streams of events.

An event goes to the streams at once, and to the handlers through a queue, in the order in which it happened, on a
thread of cloister's. What waits there is bounded in number and in size; more is dropped and counted. Where a handler
raises, that is logged, and told as an `UnhandledException` before anything that came later.

Any thread may enter; nothing here waits, and no code of the user's runs on the thread that tells.
"""

from __future__ import annotations

import logging
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from cloister.domain import events
from cloister.domain.crew import Crew, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cloister.domain.event_streams import EventBuffer

__all__ = ["Handler", "Subscriptions"]

MAX_WAITING_EVENTS = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""What may wait for slow handlers; more is dropped and counted."""

_crew = Crew(8, "cloister-events")
"""Runs the handlers of events, which are the user's."""
_log = logging.getLogger("cloister")

Handler = "tuple[type[events.Event], Callable[[Any], object]]"


class Subscriptions:
    """Who wants to know what happens to one domain."""

    def __init__(self, handlers: Iterable[tuple[type[events.Event], Callable[[Any], object]]]) -> None:
        self.queue = Queue(_crew, MAX_WAITING_EVENTS, MAX_WAITING_BYTES)
        """Everything that keeps its order with the events: their handlers, the domain's output, its log records."""
        self._lock = threading.RLock()  # a finalizer may unload the domain while it is held
        self._handlers = list(handlers)
        self._streams: list[weakref.ref[EventBuffer]] = []
        self._over = False

    def __iter__(self) -> Any:
        return iter(list(self._handlers))

    def add(self, kind: type[events.Event], handler: Callable[[Any], object]) -> None:
        """Tell a handler of each event of this type from now on, after those that are there."""
        with self._lock:
            self._handlers.append((kind, handler))

    def remove(self, kind: type[events.Event], handler: Callable[[Any], object]) -> bool:
        """Tell a handler no more; False where it is not there."""
        with self._lock:
            for number, known in enumerate(self._handlers):
                if known[0] is kind and known[1] == handler:
                    del self._handlers[number]
                    return True
        return False

    def stream(self, buffer: EventBuffer) -> None:
        """Give a buffer each event from now on; one that comes after the end is closed at once."""
        with self._lock:
            if not self._over:
                self._streams = [known for known in self._streams if known() is not None]
                self._streams.append(weakref.ref(buffer))
                return
        buffer.finish()

    def wants(self, kind: type[events.Event]) -> bool:
        """Whether there is a handler that is told of events of this type."""
        return any(issubclass(kind, wanted) for wanted, _ in list(self._handlers))

    def tell(self, event: events.Event, size: int = 256) -> None:
        """Give an event to all who want it; `size` is about how many bytes it holds."""
        last = isinstance(event, events.Exited)
        with self._lock:
            streams = [stream for known in self._streams if (stream := known()) is not None]
            if last:
                self._over, self._streams = True, []
            for stream in streams:
                stream.offer(event)
            for kind, handler in list(self._handlers):
                if isinstance(event, kind):
                    self.queue.put(partial(self._handle, handler, event), size, always=last)
        if last:
            for stream in streams:
                stream.finish()

    def close(self) -> None:
        """Nothing more will be told: this is a forked child, and the domain its parent's."""
        self._lock = threading.RLock()
        self._over = True
        for known in self._streams:
            stream = known()
            if stream is not None:
                stream.disown()
        self._streams = []

    def _handle(self, handler: Callable[[Any], object], event: events.Event) -> None:
        """Runs on a thread of the crew, in the event's turn."""
        try:
            handler(event)
        except BaseException as error:  # `sys.exit()` too: this thread is not the handler's to end
            _log.exception("a handler of %s raised; domain %r goes on", type(event).__name__, event.domain)
            if isinstance(event, events.UnhandledException | events.Exited):
                return
            self._tell_now(
                events.UnhandledException(event.domain, event.pid, f"a handler of {type(event).__name__}", error)
            )

    def _tell_now(self, event: events.UnhandledException) -> None:
        """In the turn of the event whose handler has raised, so that nothing comes after `Exited`."""
        with self._lock:
            for known in self._streams:
                stream = known()
                if stream is not None:
                    stream.offer(event)
        for kind, handler in list(self._handlers):
            if isinstance(event, kind):
                self._handle(handler, event)
