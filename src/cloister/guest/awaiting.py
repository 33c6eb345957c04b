"""How coroutines of a guest call the host: they await it, and their loop goes on meanwhile.

Inside a task of an asyncio loop - the guest's own, or one that its code runs - a call of a host's object gives a future
of that loop, which may be used as a coroutine too. It takes a shared lane that the host opens for this loop at its
first such call, so neither a thread nor the lane of the call around it waits. Plain functions that a coroutine calls
get the future too; what has to have the result there and then runs in `asyncio.to_thread`, where a call waits as on any
thread.

Cancelling the future gives the call up; what the host runs for it goes on, a host is never interrupted. What Python
wants an answer from at once - ``len``, ``in``, ``for``, ``with`` - can't be awaited, and is refused with the way out.

This module imports asyncio, so it is imported when it is first needed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from cloister import calling
from cloister.errors import CallCancelled, CallTimeout
from cloister.lanes.loop_shared import LoopShared
from cloister.lanes.method_call import MethodCall, MethodFuture

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.host import HostPeer
    from cloister.lanes.loop_shared import LoopCall
    from cloister.pipes.duplex import LaneEnd

__all__ = ["Awaiting"]

_AT_ONCE: Final = frozenset(
    f"__{name}__"
    for name in (
        *"len length_hint contains bool int float complex index hash str bytes format fspath eq ne".split(),
        *"reversed enter exit setitem delitem setattr delattr".split(),
    )
)
"""What can't be awaited, because Python itself takes the result."""


class Awaiting:
    """The shared lanes of this guest's loops, on which their tasks call the host."""

    def __init__(self, peer: HostPeer) -> None:
        self._peer = peer
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopShared] = WeakKeyDictionary()

    def call(
        self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, flags: int = 0
    ) -> asyncio.Future[Any]:
        """Call an object of the host from a task; every error but a use that can't be awaited is the future's."""
        if name in _AT_ONCE:
            raise TypeError(
                f"{name} of an object of the host can't be awaited; in a coroutine, put what uses it into a function"
                " and run that with `await asyncio.to_thread(function, ...)`"
            )
        loop = asyncio.get_running_loop()
        limit = calling.deadline.get()
        try:
            lane = self._lanes.get(loop)
            if lane is None or lane.ended:
                lane = self._lane_of(loop)
            options = calling.options(limit, name) or {}
            options["logical"], options["strand"] = calling.logical_thread(), calling.strand()
            call = lane.submit(target, name, args, kwargs, options, limit, flags, MethodCall)
        except Exception as error:
            failed = MethodFuture(loop=loop)
            failed.set_exception(error)
            return failed
        proxy = self._peer.imports.held(target)
        call.add_done_callback(lambda _, proxy=proxy: None)  # type: ignore[misc]  # it keeps the proxy until then
        return call

    def _lane_of(self, loop: asyncio.AbstractEventLoop) -> LoopShared:
        peer = self._peer
        hearing, saying, _ = peer.shared_codecs()

        def over(cause: BaseException) -> None:
            lane.fail(lambda: CallCancelled("the call was not answered: the host does not wait any more"))

        def opened(number: int, end: LaneEnd) -> None:
            try:
                loop.call_soon_threadsafe(lane.open, end, number)
            except RuntimeError:  # the loop was closed meanwhile
                end.close()

        def refused(why: str) -> None:
            lane.stop_from_afar(lambda: OSError(why))

        lane = self._lanes[loop] = LoopShared(loop, (hearing, saying), peer.rebuild, _given_up, over)
        peer.open_shared(opened, refused)
        return lane


def _given_up(call: LoopCall, told: Callable[[CallTimeout], None] | None) -> None:
    """A call was cancelled, or its time is up: a guest does not interrupt its host."""
    if told is not None:
        told(CallTimeout(f"the time for {call.name}() is up; the host goes on with it"))
