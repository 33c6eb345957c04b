"""A shared lane on which a loop of the guest's calls this program: many calls at once, served by a bounded crew.

The watcher waits until the lane speaks; a thread of the crew then reads once. How the calls are run is in
`guest_threads`, and for a host with event loops in `cloister.aio.callbacks`. Reading stops while `MAX_OPEN` calls are
open or the guest does not read its answers, so a guest can't make this program grow. Which messages there are is in
`cloister.wire.messages`, the guest's end in `cloister.guest.awaiting`.

The lane is closed by the thread that reads it at that moment, else by the watcher's.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cloister import waits
from cloister.errors import ProtocolError
from cloister.lanes.call_frames import Call, answer_message, read_call
from cloister.lanes.frame_lane import READ_BYTES
from cloister.lanes.outgoing import Outgoing
from cloister.lanes.rows import CALLS, read_calls
from cloister.levels.watcher import watcher
from cloister.objects.exports import Misaimed
from cloister.report import Reason
from cloister.wire.frames import FrameDecoder
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.domain.crew import Crew
    from cloister.domain.life import Life
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.frames import Frame
    from cloister.wire.values import Codec

__all__ = ["Answer", "GuestShared"]

Answer: TypeAlias = "Callable[[Any, BaseException | None], None]"
"""Takes the result of a call, or its exception."""

MAX_OPEN: Final = 4096
"""Calls of one lane that were read and have no answer yet."""


class GuestShared:
    """One shared lane of a guest's loop, and the calls that are open on it."""

    def __init__(
        self,
        life: Life,
        crew: Crew,
        end: LaneEnd,
        gone: Callable[[GuestShared], None],
        run: Callable[[Call, Answer], None],
    ) -> None:
        """Serve it from now on. Called by the watcher's thread.

        `run` begins a call, and gives its result or exception to an `Answer`, on a thread that may wait for the guest
        to read. `gone` is told when the guest has closed the lane.
        """
        self._life, self._crew, self._end, self._gone, self._run = life, crew, end, gone, run
        self._hearing, saying, copying = life.peer.shared_codecs()
        self._spare: list[tuple[Codec, Codec]] = [(saying, copying)]
        self._decoder = FrameDecoder()
        self._out = Outgoing(end.writer, lambda: None)
        self._lock = threading.RLock()  # a finalizer may end the domain while it is held
        self._heard = 0
        self._open = 0
        self._loose: Counter[int] = Counter()
        """The strands of the open calls, which `waits` knows of until they are over, or this lane is."""
        self._has = life.waits.has
        self._reading = self._watching = self._closed = False
        self._await()

    def close(self) -> None:
        """The guest has ended. Called by the watcher's thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            reading = self._reading
        if not reading:
            watcher.unwatch(self._end.reader)
            self._end_it()

    def disown(self) -> None:
        """This is a forked child, which has none of the threads."""
        if not self._closed:
            self._closed = True
            self._loose.clear()  # `waits` has begun anew too
            self._end.close()

    def _end_it(self) -> None:
        """Close the descriptors, which nobody watches any more. What is still open is never answered."""
        with self._lock:
            loose, self._loose = self._loose, Counter()
        for strand in loose.elements():
            waits.tighten(strand, self._has)
        self._out.close()
        self._end.close()
        self._gone(self)

    # -- the watcher's thread ----------------------------------------------------------------------------------------

    def _await(self) -> None:
        """Wait for more calls, unless enough are open."""
        with self._lock:
            if self._closed or self._watching or self._reading or self._open >= MAX_OPEN:
                return
            self._watching = True
        watcher.watch(self._end.reader, selectors.EVENT_READ, self._on_ready)

    def _on_ready(self) -> None:
        watcher.unwatch(self._end.reader)
        with self._lock:
            self._watching = False
            if self._closed:
                return
            self._reading = True
        self._life.begin_use()  # it has not ended: this is the watcher's thread
        self._crew.run(self._read)

    # -- a thread of the crew ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        alive = False
        try:
            data = os.read(self._end.reader, READ_BYTES)
            self._decoder.feed(data)
            while (frame := self._decoder.next_frame()) is not None:
                self._take(frame)
            alive = bool(data)
        except OSError:
            pass  # the guest is gone
        except ProtocolError as error:
            self._life.end_for(Reason.BAD_MESSAGE, str(error))
        finally:
            with self._lock:
                self._reading = False
                over = self._closed = self._closed or not alive
            if over:
                self._end_it()
            else:
                watcher.soon(self._await)
            self._life.end_use()

    def _take(self, frame: Frame) -> None:
        if frame.kind == CALLS:
            calls = read_calls(self._hearing, frame, self._heard + 1)
            self._heard += len(calls)
            with self._lock:
                self._open += len(calls)
            for call in calls:
                self._begin(call)
            return
        if frame.kind != Kind.CALL:
            raise ProtocolError(f"a frame of kind {frame.kind} has no place on a shared lane")
        self._heard += 1
        heard = read_call(self._hearing, frame, self._heard)
        with self._lock:
            self._open += 1
        if type(heard) is Call:
            self._begin(heard)
        else:
            self._answer(heard.number, None, heard.error)

    def _begin(self, call: Call) -> None:
        if not self._life.begin_use():
            return  # the guest has gone, and nobody holds its domain
        strand = _strand_of(call)
        with self._lock:
            self._loose[strand] += 1
        waits.loosen(strand, self._has)
        self._run(call, partial(self._over, call))

    def _over(self, call: Call, value: Any, error: BaseException | None) -> None:
        """A call is over."""
        try:
            self._tighten(_strand_of(call))
            if isinstance(error, Misaimed):
                self._life.end_for(Reason.BAD_MESSAGE, str(error))
            else:
                self._answer(call.number, value, error, call.copy)
        finally:
            self._life.end_use()

    def _tighten(self, strand: int) -> None:
        with self._lock:
            known = self._loose[strand] > 0
            self._loose[strand] -= 1
            if self._loose[strand] <= 0:
                del self._loose[strand]
        if known:
            waits.tighten(strand, self._has)

    def _answer(self, number: int, value: Any, error: BaseException | None, copy: bool = False) -> None:
        try:
            codecs = self._spare.pop()
        except IndexError:
            codecs = self._life.peer.shared_codecs()[1:]
        self._out.put(answer_message(codecs, number, value, error, copy, self._life.peer.describe))
        self._spare.append(codecs)
        self._out.flush()  # a guest that does not read holds up its own calls, and nothing else
        with self._lock:
            self._open -= 1
            held_up = not self._watching and not self._reading
        if held_up:
            watcher.soon(self._await)


def _strand_of(call: Call) -> int:
    options = call.options or {}
    strand = options.get("strand", options.get("logical"))
    return strand if type(strand) is int else 0
