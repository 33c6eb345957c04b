"""The bytes of a lane: frames out and in, waiting with a deadline, breaking and closing.

Here is everything that touches the two descriptors of a lane; which frame may come when is in `conversation`, what a
call does in `call_lane`. One thread uses a lane at a time, and only that thread closes it. Other threads enter only
through `break_with`, which marks the lane and wakes the thread that waits.

**The wait** is a read that blocks, and before it, where that helps, a `BusyWait`.

**Both directions at once.** Usually one side speaks and the other listens. A one-way call, or a late answer, may meet a
message of the other direction; where both fill their pipes, neither would read. So a lane that waits for room to write
also takes in what arrives.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cloister.errors import CallCancelled, ProtocolError
from cloister.lanes.busy_wait import BusyWait
from cloister.pipes.duplex import wake
from cloister.wire import frames
from cloister.wire.frames import HEADER_SIZE, Buffer, Frame, FrameDecoder
from cloister.wire.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page

__all__ = ["READ_BYTES", "FrameLane", "LaneClosed", "TimeUp"]

GATE_S: Final = 1.0
"""How long the end of a lane waits for another thread that is at it, which takes microseconds."""
SHORT_READ_BYTES: Final = 479
"""How much a read takes while messages are short. Python has blocks of 512 bytes, with the head of a bytes object, at
hand; for a larger one it asks the C library and gives most of it back, which takes a tenth of a call."""
MOST_READ_BYTES: Final = 65_536


def _read_bytes() -> int:
    said = os.environ.get("CLOISTER_LANE_READ_BYTES") or str(MOST_READ_BYTES)
    if not (said.isdecimal() and len(said) <= 5 and 1 <= int(said) <= MOST_READ_BYTES):
        raise ValueError(
            f"the environment variable CLOISTER_LANE_READ_BYTES is {said!r}: it is a number of bytes from 1 to "
            f"{MOST_READ_BYTES}, and there for tests; leave it out"
        )
    return int(said)


READ_BYTES = _read_bytes()
"""How much one read takes at most. Tests set the variable to 1, so that a lane delivers one byte at a time."""

_write, _read = os.write, os.read
"""Names of this module, because a look-up less counts on the way of each call."""


class LaneClosed(Exception):
    """The lane is over: its peer is gone, or its owner closed it. Never seen by users."""


class TimeUp(Exception):
    """The deadline has come. Not a TimeoutError, which a signal handler of the user's may raise at any moment."""


class FrameLane:
    """One end of a lane, as a place where frames go out and come in."""

    __slots__ = (
        "__weakref__",
        "_broken",
        "_decoder",
        "_ended",
        "_gate",
        "_hoard",
        "_listening",
        "_open",
        "_poll",
        "_reader",
        "_room",
        "_side",
        "_wait",
        "_writer",
        "calling",
        "closed",
        "lost",
        "number",
        "watched",
    )

    def __init__(self, end: LaneEnd, number: int, page: Page | None = None, side: int = 0) -> None:
        """Take over the two descriptors of `end`.

        `number` names the lane on the control channel and in the page; `side` is 0 in the host and 1 in the guest.
        """
        self._reader, self._writer = end
        self._open = [*end]
        self.number = number
        self.calling: list[str] = []
        """The names of the calls that this side waits for, outermost first. Not empty while a thread is in a call."""
        self.lost: tuple[str, ...] = ()
        """The calls that waited when the peer went away; for the report of its end."""
        self.watched = False
        """A poller has the descriptor while the lane is idle; it is closed by whoever the poller calls."""
        self._listening = False
        self._decoder: FrameDecoder | None = None
        self._hoard = 0
        self._poll: Any = None
        self._gate = threading.RLock()  # a finalizer may end the domain while it is held
        self._broken: Callable[[], BaseException] | None = None
        self.closed = False
        """This end is closed."""
        self._ended = False
        """It is closed, or broken, or both: the next step on it raises."""
        self._side = side
        shared = page if page is not None and number < page.slots else None
        self._wait = BusyWait(shared, 8 * number + side, 8 * number + 1 - side)
        self._room = min(SHORT_READ_BYTES, READ_BYTES)

    def fileno(self) -> int:
        """The descriptor that is readable when the peer speaks."""
        return self._reader

    @property
    def ready(self) -> bool:
        """Whether a frame was read already, so that the descriptor need not be readable."""
        return self._decoder is not None and not self._decoder.wanted

    # -- the end -----------------------------------------------------------------------------------------------------

    def break_with(self, error: Callable[[], BaseException], keep: bool = False) -> None:
        """Make the thread that waits on this lane, and every later use, raise `error()`. Any thread may call it.

        Where no thread uses the lane it is closed, unless a poller has it: that one finds it readable. Nobody can enter
        a call meanwhile: who does first says so (`calling`) and then looks whether the lane is broken, and here it is
        the other way round. `keep`: it is not closed yet, which would wake the peer.
        """
        gate = self._pass_gate()
        try:
            if self._broken is None:
                self._broken = error
            self._ended = True
            in_use = self.calling or self._listening or self.watched
            if in_use and not self.closed:
                wake(self._reader)
        finally:
            gate.release()
        if not (in_use or keep):
            self.close()

    def give_up(self, why: str) -> None:
        """Close the lane because of something on this side; later uses raise CallCancelled. The using thread only."""
        if self._broken is None:
            self._broken = lambda: CallCancelled(why)
        self.close()

    def disown(self, error: Callable[[], BaseException]) -> None:
        """Close the lane in a forked child, where the lock may be held by a thread that is not there."""
        self._gate = threading.RLock()
        self._broken = error
        self.close()

    def close(self) -> None:
        """Close the descriptors; only the thread that uses the lane may. Idempotent."""
        gate = self._pass_gate()
        try:
            self.closed = self._ended = True
            self._wait.end()
            _close_all(self._open)
        finally:
            gate.release()

    def _pass_gate(self) -> threading.RLock:
        """Take the gate, which keeps a descriptor from being closed while another thread wakes its reader.

        A thread of a guest that is told to stop may be torn out of it before it can let go: Python raises what another
        thread has sent between any two steps. Nobody else may wait for it then, the watcher least of all.
        """
        gate = self._gate
        if not gate.acquire(timeout=GATE_S):
            gate = self._gate = threading.RLock()
            gate.acquire()
        return gate

    def __del__(self) -> None:
        """Close the lane of a thread that has ended."""
        self.close()

    def _over(self) -> BaseException:
        if self._broken is not None:
            return self._broken()
        self.lost = self.lost or tuple(self.calling)
        return LaneClosed("the peer is gone")

    def _raise_over(self) -> NoReturn:
        """Raise what `_over` says, with the cause that it has of its own, and without what became of the pipe."""
        error = self._over()
        try:
            raise error from error.__cause__
        finally:
            del error  # it holds this frame

    # -- out ---------------------------------------------------------------------------------------------------------

    def _send(self, data: list[Buffer], deadline: float | None) -> None:
        """Write a frame. Raises TimeUp at the deadline, and what `_over` says where the lane is over.

        A message that was cut off leaves nothing that could be read after it, so the lane is closed then.
        """
        if self._ended:
            raise self._over()
        for piece in data:
            try:
                sent = _write(self._writer, piece)
            except BlockingIOError:
                sent = 0
            except BrokenPipeError:
                self._raise_over()
            if sent != len(piece):
                self._send_rest(memoryview(piece)[sent:], deadline)

    def _send_rest(self, rest: memoryview, deadline: float | None) -> None:
        """Write what the pipe did not take at once, and take in what arrives meanwhile."""
        if sys.platform == "win32":
            raise NotImplementedError
        poll = select.poll()
        poll.register(self._writer, select.POLLOUT)
        poll.register(self._reader, select.POLLIN)
        while rest:
            ready = dict(poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000))
            if not ready:
                self.give_up("the time was up in the middle of a message; the calls around it are lost")
                raise TimeUp
            if self._reader in ready:
                self._take_in()
            if self._writer in ready:
                try:
                    # POLLOUT promises one page only; the end does not block, so it takes what it can.
                    rest = rest[os.write(self._writer, rest) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    self._raise_over()

    def _take_in(self) -> None:
        """Read once, and keep it for `_receive`; no more than the greatest frame. Raises ProtocolError past that."""
        try:
            data = os.read(self._reader, READ_BYTES)
        except OSError:
            self._raise_over()
        if not data or self._ended:
            raise self._over()
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = FrameDecoder()
            self._hoard = 0
        self._hoard += len(data)
        if self._hoard > DEFAULT_LIMITS.frame_bytes:
            raise ProtocolError("the peer goes on sending, and does not read what it is sent")
        decoder.feed(data)

    # -- in ----------------------------------------------------------------------------------------------------------

    def _receive(self, deadline: float | None) -> Frame:
        """Wait for a frame. Raises TimeUp, ProtocolError for what is no frame, and what `_over` says."""
        return self._frame(self._listen(deadline), deadline)

    def _listen(self, deadline: float | None) -> bytes:
        """Wait, and give what one read gives: nearly always one whole frame. Raises TimeUp, and what `_over` says.

        No bytes where a frame was begun by an earlier read: `_frame` has it.
        """
        if self._decoder is not None:
            return b""
        wait = self._wait
        wait.left -= 1
        if wait.left < 0:
            self._look()
        if wait.worthwhile:
            wait.probe(self._reader)
        return self._read(self._room, deadline)

    def _read(self, size: int, deadline: float | None) -> bytes:
        if deadline is not None:
            self._wait_until(deadline)
        if self._ended:
            raise self._over()
        try:
            data = _read(self._reader, size)
        except OSError:
            self._raise_over()
        if not data or self._ended:
            raise self._over()
        return data

    def _frame(self, data: bytes, deadline: float | None) -> Frame:
        """Give the frame that these bytes are, or continue. Raises as `_receive`."""
        decoder = self._decoder
        if decoder is None:
            frame = frames.parse(data)
            if frame is not None:
                return frame
            decoder = self._decoder = FrameDecoder()
            self._room = READ_BYTES  # until the next look
        decoder.feed(data)
        while (frame := decoder.next_frame()) is None:
            decoder.feed(self._read(READ_BYTES, deadline))
        if decoder.wanted == HEADER_SIZE:  # nothing is left over
            self._decoder = None
        return frame

    def _wait_until(self, deadline: float) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self._reader, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeUp

    def _look(self) -> None:
        """Do what is done now and then, and not with each message."""
        self._room = min(SHORT_READ_BYTES, READ_BYTES)
        if sys.platform != "win32" and not self._side and threading.get_ident() == threading.main_thread().ident:
            # Ctrl-C must end a read of the host. A library may install a handler of SIGINT of its own that lets the
            # kernel start the read again (polars does); Python itself never does.
            signal.siginterrupt(signal.SIGINT, True)
        self._wait.look()


def _close_all(descriptors: list[int]) -> None:
    """Close each, and forget it in the same step of Python.

    A call that is interrupted gets an exception between any two steps, also here; whoever comes back closes the rest.
    """
    while descriptors:
        try:
            deque(map(os.close, map(list.pop, repeat(descriptors, len(descriptors)))), 0)
        except (IndexError, OSError):
            pass  # a finalizer came in between and has closed some; or one was closed by the end of the peer
