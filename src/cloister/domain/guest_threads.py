"""Calls of the guest's own threads: each has a lane of its own, which the host opens and serves.

A thread that the guest has made itself, and that calls the host, asks for a lane on the control channel. The watcher
waits until such a lane speaks, then hands it to a bounded crew, which serves one call, with all that is nested in it,
and gives it back. So a thousand lanes that are silent cost no thread here. A lane is `watched` from its first to its
last moment: it is closed only by the thread that serves it, or here.

`open_lane` and `close` belong to the watcher's thread.
"""

from __future__ import annotations

import contextvars
import logging
import selectors
from functools import partial
from typing import TYPE_CHECKING, Any

from cloister import calling
from cloister.domain.crew import Crew
from cloister.domain.guest_shared import GuestShared
from cloister.errors import CloisterError, ProtocolError
from cloister.levels.watcher import watcher
from cloister.pipes.duplex import lane_pair
from cloister.report import Reason
from cloister.wire.messages import Kind, Role

if TYPE_CHECKING:
    from cloister.domain.guest_shared import Answer
    from cloister.domain.life import Life
    from cloister.lanes.call_frames import Call
    from cloister.lanes.call_lane import CallLane

__all__ = ["GuestThreads"]

THREADS = 32
"""Calls of one guest's own threads that are served at once."""

_log = logging.getLogger("cloister")


class GuestThreads:
    """The lanes of one guest's own threads."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._crew = Crew(THREADS, f"cloister-{life.name}-calls")
        self._lanes: set[CallLane] = set()
        self._idle: dict[int, CallLane] = {}
        """The lanes that wait for their next call, by their descriptor."""
        self._shared: set[GuestShared] = set()
        self._over = False

    def open_lane(self, ticket: int, role: Role = Role.GUEST) -> None:
        """Open a lane for the thread that asked with this ticket, or a shared one for a loop of the guest's.

        Raises ProtocolError where it has too many, or for another role.

        Where this program has no descriptors left, the thread in the guest is told so, and its call fails there.
        """
        life = self._life
        if life.over or life.stopping:
            return
        if role not in (Role.GUEST, Role.GUEST_SHARED):
            raise ProtocolError(f"a guest asked for a lane of role {role.value}")
        if len(self._lanes) + len(self._shared) >= life.options.max_guest_lanes:
            raise ProtocolError(f"more than {life.options.max_guest_lanes} of its threads want to call the host")
        try:
            host, guest = lane_pair()
        except OSError as error:
            _log.error("domain %r: a thread of its own can't call this program: %s", life.name, error)
            life.speaker.send(Kind.NO_LANE, ticket, f"the host has no lane for this thread: {error}")
            return
        number = life.peer.lanes.new_number()
        if role is Role.GUEST_SHARED:
            self._shared.add(GuestShared(life, self._crew, host, self._shared.discard, self.run_shared))
            life.speaker.hand_over(number, role, ticket, guest)
            return
        lane = life.peer.guest_lane(number, host)
        lane.watched = True
        self._lanes.add(lane)
        life.speaker.hand_over(number, Role.GUEST, ticket, guest)
        self._await_call(lane)

    def close(self) -> None:
        """Close every lane: the domain has ended. One that is being served is closed by its thread."""
        self._over = True
        for fd, lane in self._idle.items():
            watcher.unwatch(fd)
            lane.close()
        self._idle.clear()
        self._lanes.clear()
        for shared in list(self._shared):
            shared.close()
        self._shared.clear()

    def run_shared(self, call: Call, answer: Answer) -> None:
        """Run a call of a loop of the guest's; `answer` takes its result or exception. Called by a thread of the crew.

        What it calls may call the guest again, on the lane of the thread that runs it.
        """
        self._crew.run(partial(self._run_shared, call, answer))

    def _run_shared(self, call: Call, answer: Answer) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = contextvars.copy_context().run(self._invoke_shared, call)
        except BaseException as raised:
            error = raised
        answer(value, error)

    def _invoke_shared(self, call: Call) -> Any:
        calling.adopt(call.options)
        return self._life.peer.invoke(call)

    def disown_shared(self) -> None:
        """This is a forked child: close the shared lanes; the others are the peer's, who closes them."""
        for shared in self._shared:
            shared.disown()
        self._shared.clear()

    def _await_call(self, lane: CallLane) -> None:
        if self._over:
            lane.close()
        if lane.closed:
            self._lanes.discard(lane)
            return
        fd = lane.fileno()
        self._idle[fd] = lane

        def ready() -> None:
            watcher.unwatch(fd)
            del self._idle[fd]
            self._life.begin_use()  # it has not ended: this is the watcher's thread
            self._crew.run(lambda: self._serve(lane))

        watcher.watch(fd, selectors.EVENT_READ, ready)

    def _serve(self, lane: CallLane) -> None:
        try:
            if not lane.serve_one():
                lane.close()
        except CloisterError as error:
            lane.close()
            if isinstance(error, ProtocolError):
                self._life.end_for(Reason.BAD_MESSAGE, str(error))
        except BaseException:
            lane.close()
            raise
        finally:
            watcher.soon(lambda: self._await_call(lane))
            self._life.end_use()
