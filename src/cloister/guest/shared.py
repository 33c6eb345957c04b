"""A shared lane, served: many calls at once, each on a thread of a bounded pool.

One thread reads the lane and hands each call to the pool; whoever has run a call writes its answer. It stops reading
while `MAX_WAITING` calls wait, so a host that is too fast waits and this process does not grow. A cancelled call that
has not begun is not begun; one that runs is interrupted. The host's end is `cloister.lanes.shared_lane`.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import CallCancelled, MarshalError, ProtocolError
from cloister.guest.interrupts import Interrupted, Running
from cloister.guest.pool import Pool
from cloister.lanes.conversation import Call, part_frame, raise_frame, read_call, reply_frame
from cloister.lanes.shared_lane import read_frames, write_all
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.guest.host import HostPeer
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.frames import Buffer, Frame

__all__ = ["SharedServing"]

MAX_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""Calls of one shared lane that run at the same time; as `concurrent.futures` chooses it."""
MAX_WAITING: Final = 4096
"""Calls that were read and have no thread yet. Reading further ahead than this gains nothing."""


class SharedServing:
    """One shared lane, and what runs for it."""

    def __init__(self, peer: HostPeer, number: int, end: LaneEnd) -> None:
        self._peer, self._lane, self._end = peer, number, end
        self._hearing, self._saying, self._copying = peer.shared_codecs()
        self._heard = 0
        self._pool = Pool(MAX_THREADS, MAX_WAITING, f"cloister-shared-{number}")
        self._writing = threading.Lock()
        self._state = threading.Lock()
        self._waiting: set[int] = set()
        self._unwanted: set[int] = set()
        self._running: dict[int, Running] = {}
        peer.shared[number] = self  # not in `serve`: a cancel may come before its thread does

    def serve(self) -> None:
        """Serve until the host closes the lane. Raises ProtocolError where the host breaks the rules."""
        try:
            for frame in read_frames(self._end.reader):
                self._take(frame)
        finally:
            del self._peer.shared[self._lane]
            self._pool.close()
            with self._writing:
                self._end.close()
                self._end = None  # type: ignore[assignment]  # nobody looks at it without the lock

    def interrupt(self, number: int) -> None:
        """Stop a call, or see to it that it does not begin. Called by the control thread."""
        with self._state:
            if number > self._heard:
                self._unwanted.add(number)  # the control channel was faster than the lane
            self._waiting.discard(number)
            running = self._running.get(number)
            if running is not None:
                running.interrupt(number)

    def runs(self, number: int) -> bool:
        """Whether a call has begun, and is not over."""
        return number in self._running

    @property
    def running(self) -> list[int]:
        """The numbers of the calls that run."""
        return list(self._running)

    def _take(self, frame: Frame) -> None:
        if frame.kind != Kind.CALL:
            raise ProtocolError(f"a frame of kind {frame.kind} has no place on a shared lane")
        heard = read_call(self._hearing, frame, self._heard + 1)
        with self._state:
            self._heard += 1
            if self._heard in self._unwanted:
                self._unwanted.discard(self._heard)
                return
            self._waiting.add(self._heard)
        if type(heard) is Call:
            self._pool.run(partial(self._run, heard))
        else:
            self._waiting.discard(heard.number)
            self._answer(heard.number, None, heard.error)

    def _run(self, call: Call) -> None:
        number = call.number
        running = Running(self._lane)
        running.number = number
        error: BaseException | None = None
        value: Any = None
        try:
            with self._state:
                if number not in self._waiting:
                    return  # nobody waits for its answer
                self._waiting.discard(number)
                self._running[number] = running
            value = self._peer.serve_shared(running, call)
        except Interrupted:
            error = CallCancelled(f"{call.name}() was cancelled")
        except BaseException as raised:
            error = raised
        finally:
            with self._state:
                self._running.pop(number, None)
        self._answer(number, value, error, call.copy)

    def _answer(self, number: int, value: Any, error: BaseException | None, copy: bool = False) -> None:
        with self._writing:
            if self._end is None:
                return  # the host has closed the lane; nobody waits
            try:
                write_all(self._end.writer, self._encode(number, value, error, copy))
            except OSError:
                pass  # the host is about to close the lane

    def tell_part(self, number: int, value: Any) -> None:
        """Tell something of a call that runs, before its answer. Raises MarshalError where it can't travel."""
        with self._writing:
            if self._end is not None:
                try:
                    write_all(self._end.writer, part_frame(self._saying, number, value))
                except OSError:
                    pass  # the host is about to close the lane

    def _encode(self, number: int, value: Any, error: BaseException | None, copy: bool) -> list[Buffer]:
        if error is None:
            try:
                return reply_frame(self._copying if copy else self._saying, number, value)
            except MarshalError as refused:
                error = refused
        return raise_frame(self._saying, number, self._peer.describe(error))
