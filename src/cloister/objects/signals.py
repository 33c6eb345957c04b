"""Signals: an object lets others subscribe to what happens to it, over any wall: `signal.connect(callback)`.

A signal belongs to the object that emits it and stays where that is; what subscribes may be here, in the host, or in
another domain. Nothing travels but the call-backs and what is emitted. Who emits waits for each subscriber in turn, as
for any call; what one raises is logged, and the others are told all the same. A subscriber is left out when its domain
has ended, when it was dropped - a bound method is not what keeps its object alive - or when it says so.

Any thread may enter. No lock is held while a subscriber is called.
"""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from types import MethodType
from typing import TYPE_CHECKING, Any

from cloister.objects.gone import is_gone
from cloister.objects.marks import by_reference
from cloister.objects.proxies import bound_method, is_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connection", "Signal"]

_log = logging.getLogger("cloister")


@by_reference
class Connection:
    """One subscription; ended by `disconnect`, or by leaving its ``with`` block."""

    def __init__(self, signal: Signal, find: Callable[[], Any]) -> None:
        """Users do not make connections."""
        self._signal, self._find = signal, find

    def disconnect(self) -> None:
        """Be told no more. Idempotent."""
        self._signal._remove(self)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()


@by_reference
class Signal:
    """Something to subscribe to; an attribute of the object that emits it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may disconnect while it is held
        self._connections: list[Connection] = []

    def connect(self, callback: Callable[..., object]) -> Connection:
        """Call `callback` with what is emitted from now on. Raises TypeError for what can't be called.

        A bound method of an object of this domain is held weakly: with the object its subscription goes.
        """
        if not callable(callback):
            raise TypeError(f"a subscriber is called with what is emitted; {callback!r} can't be called")
        find: Callable[[], Any] = lambda: callback  # noqa: E731 - it is kept, and told from a weak one by nobody
        if type(callback) is MethodType and bound_method(callback) is None:
            try:
                find = weakref.WeakMethod(callback)
            except TypeError:
                pass  # its object takes no weak references
        connection = Connection(self, find)
        with self._lock:
            self._connections.append(connection)
        return connection

    def disconnect(self, callback: Callable[..., object]) -> None:
        """Tell a subscriber no more. Raises LookupError for one that is not there."""
        with self._lock:
            for connection in self._connections:
                if connection._find() == callback:
                    self._connections.remove(connection)
                    return
        raise LookupError(f"{callback!r} is not connected to this signal")

    def emit(self, *args: Any, **kwargs: Any) -> int:
        """Tell all subscribers, in the order in which they came; return how many were told.

        In a task of an event loop those in other domains are told by tasks of that loop, which nobody waits for.
        Raises nothing that a subscriber raises.
        """
        told = 0
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            callback = connection._find()
            if callback is None:
                self._remove(connection)
                continue
            try:
                result = callback(*args, **kwargs)
                if inspect.isawaitable(result):
                    self._follow(connection, result)
                told += 1
            except Exception as error:
                self._failed(connection, callback, error)
        return told

    def __len__(self) -> int:
        """How many subscribers there are, as far as is known."""
        with self._lock:
            self._connections = [one for one in self._connections if one._find() is not None]
            return len(self._connections)

    def __bool__(self) -> bool:
        return True

    def _remove(self, connection: Connection) -> None:
        with self._lock:
            if connection in self._connections:
                self._connections.remove(connection)

    def _follow(self, connection: Connection, result: Any) -> None:
        """What a subscriber has returned is still to come."""
        import asyncio

        def over(done: asyncio.Future[Any]) -> None:
            error = None if done.cancelled() else done.exception()
            if isinstance(error, Exception):
                self._failed(connection, connection._find(), error)

        asyncio.ensure_future(result).add_done_callback(over)

    def _failed(self, connection: Connection, callback: Any, error: Exception) -> None:
        if _is_dead(callback, error):
            self._remove(connection)
        else:
            _log.error("a subscriber of a signal raised; the others are told", exc_info=error)


def _is_dead(callback: Any, error: Exception) -> bool:
    """Whether a call-back over a wall failed because there is nobody behind it any more."""
    return (is_proxy(callback) or bound_method(callback) is not None) and is_gone(error)
