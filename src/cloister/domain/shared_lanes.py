"""The lanes of a domain that many calls share, seen from the host's threads: which is free, how one is opened.

On them go `submit`, `map` and their like, and the work of a pool. The lane itself is `cloister.lanes.shared_lane`; what
it has in common with the other lanes is in `open_lanes`. The lanes of event loops are in `cloister.aio.peer`.

Any thread may enter, a finalizer too, and in the middle of anything here.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from cloister import calling
from cloister.domain import broken_lanes
from cloister.domain.uninterrupted import uninterrupted
from cloister.errors import ProtocolError
from cloister.lanes.call_lane import Asked
from cloister.lanes.shared_lane import SharedLane
from cloister.pipes.duplex import SHARED_PIPE_BYTES, lane_pair
from cloister.wire.messages import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.domain.guest_peer import GuestPeer
    from cloister.errors import CallTimeout
    from cloister.lanes.loop_shared import LoopCall
    from cloister.lanes.numbered import Numbered

__all__ = ["SharedLanes"]


class SharedLanes:
    """The shared lanes of one domain."""

    def __init__(self, peer: GuestPeer) -> None:
        self._peer = peer
        self._lock = threading.RLock()  # a finalizer may run and submit while it is held
        self._open = peer.lanes.shared
        self._work: SharedLane | None = None
        """That of a pool's worker; nothing else goes there."""

    def let_go(self) -> None:
        """Nobody has the domain any more: its lanes, which have ended and know this object, are given up."""
        self._open.clear()
        self._work = None

    def free(self) -> SharedLane:
        """The lane for a call that is submitted now.

        Waits until the domain is ready; raises the errors of the domain, and CallTimeout.
        """
        for shared in self._open:
            if shared is not self._work and not shared.busy_here:
                return shared
        self._peer.life.wait_ready(calling.deadline.get())
        return uninterrupted(partial(self._open_one, len(self._open), Role.SHARED))

    def work(self) -> SharedLane:
        """The lane on which this domain, a worker of a pool, gets its work. Opened before any other, once."""
        self._work = uninterrupted(partial(self._open_one, 0, Role.WORK))
        return self._work

    def _open_one(self, known: int, role: Role) -> SharedLane:
        """Open one more lane, unless another thread has done so since there were so many."""
        peer = self._peer
        with self._lock:
            if len(self._open) > known:
                return self._open[-1]
            host, guest = lane_pair(SHARED_PIPE_BYTES)
            number = peer.lanes.new_number()
            hearing, saying, _ = peer.shared_codecs()
            try:
                shared = SharedLane(
                    host, number, (hearing, saying), peer.rebuild, self._failed, self.interrupt, peer.name
                )
            except BaseException:
                host.close()
                guest.close()
                raise
            self._open.append(shared)
            peer.life.speaker.hand_over(number, role, 0, guest)
            return shared

    def _failed(self, cause: BaseException) -> BaseException:
        if isinstance(cause, ProtocolError):
            return broken_lanes.bad_message(self._peer.life, cause, "submit")
        return broken_lanes.ended(self._peer.life, "submit")

    def interrupt(self, future: Numbered | LoopCall, told: Callable[[CallTimeout], None] | None) -> None:
        """Tell the guest to stop a submitted call, or one of a loop.

        `told` gets what its caller is to be told, when it is known.
        """
        life = self._peer.life
        lane, number, name, grace = future.lane, future.number, future.name, future.kill_after
        if grace is not None:
            tell = None if told is None else lambda stop: told(stop.error(name))
            life.stops.watch(lane, number, grace, name, tell)
        life.speaker.interrupt(lane, number, main=False)
        if grace is None and told is not None:
            told(Asked().outcome(name))

    def disown(self) -> None:
        """This is a forked child: no lock of the parent's threads counts here."""
        self._lock = threading.RLock()
