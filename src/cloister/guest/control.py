"""The guest's end of the control channel: the thread that gives signs of life and takes the host's orders.

It runs beside the user's code and never runs any of it. Which messages there are is in `cloister.wire.messages`; what
is remembered between them, in `wanted_lanes`, `stopped_calls` and `host_segments`. Native code that holds the
interpreter lock stops this thread too; then no beat arrives, and that is what the host is to see.

`send` may be called by any thread; all else belongs to the control thread.
"""

from __future__ import annotations

import errno
import math
import os
import platform
import select
import signal
import socket
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from cloister import long_waits
from cloister.guest import departure, descriptors, local
from cloister.guest.bell import Bell
from cloister.guest.host_segments import HostSegments
from cloister.guest.interrupts import INTERRUPT, STOP_SHARE
from cloister.guest.stopped_calls import StoppedCalls
from cloister.guest.wanted_lanes import WantedLanes
from cloister.pipes.duplex import LaneEnd, receive_with_descriptors
from cloister.pipes.page import rewind
from cloister.release import VERSION
from cloister.wire import frames
from cloister.wire.messages import Kind, Role
from cloister.wire.values import Codec
from cloister.wire.version import PROTOCOL_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.guest.host import HostPeer
    from cloister.guest.interrupts import MainThread
    from cloister.guest.threads import Threads

__all__ = ["Control"]

PYTHON = platform.python_version()
READ_BYTES = 8 * 1024
INSIST_S = 0.01
"""How soon a signal is repeated that has not reached the main thread's call."""
AGAIN_S = 0.005
"""How soon a beat is tried again while another thread sends."""
THREAD_S = 0.05
"""How soon it is tried again to start a thread where the system had none left."""
HURRY_S = 0.01
"""How soon the host is told of a stream that was dropped, with all others that are until then."""
MAX_BYTES = 4 * 1024 * 1024
"""What the host takes in one message of a control channel."""


class Control:
    """The control channel of this guest."""

    maps_memory = True
    """Whether large buffers lie in shared memory: not where host and guest are one process."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(True)
        self.channel = channel
        self._codec = Codec()
        self._sending = threading.RLock()  # a finalizer may run and send while it is held
        self._send_codec = Codec()
        self._decoder = frames.FrameDecoder()
        self._descriptors: list[int] = []
        self._early: list[frames.Frame] = []
        """What came before the set-up."""
        self._wanted = WantedLanes(self.send)
        self._beats = 0
        self._ran = True
        """The host was not told yet that nothing runs."""
        self._begin = threading.Lock()
        self._begin.acquire()
        """Held until the thread may begin."""
        self._had_children = self._told_children = False
        """The host was told that there are child processes: by a beat; once it has said that this one is to stop, which
        it says once more then."""
        self.vanishes: Callable[[], object] = _nothing
        """Ends this process where it has nothing to do before; called where no code of the user's runs."""
        self._has_thread = False
        self.thread: threading.Thread | None = None
        """The thread, where somebody waits for its end."""
        self._held: list[bytes] | None = None
        """What is to be sent in one piece; None where everything is sent at once."""

    # -- before the thread runs --------------------------------------------------------------------------------------

    def greet(self) -> None:
        """Say who this is."""
        self.send(Kind.HELLO, PROTOCOL_VERSION, VERSION, PYTHON, os.getpid())

    def receive_setup(self, kind: Kind = Kind.SETUP) -> dict[str, Any]:
        """Wait for the set-up, or the order to build. What comes before is obeyed when the thread runs.

        Raises EOFError where the host has gone away, or does not want this guest any more.
        """
        while True:
            frame = self._decoder.next_frame()
            if frame is not None:
                if frame.kind == kind:
                    setup: dict[str, Any] = self._codec.decode(frame.body, frame.buffers)[0]
                    return setup
                if frame.kind == Kind.STOP:
                    raise EOFError
                self._early.append(frame)  # a call that was sent ahead may be cancelled by now
                continue
            if self._held is not None and not self._has_more():
                self.let_go()
            self._fill()

    def feed(self, data: bytes) -> None:
        """Take in what was read from the channel already."""
        self._decoder.feed(data)

    def _has_more(self) -> bool:
        if sys.platform == "win32":
            raise NotImplementedError
        try:
            self.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass  # whoever reads will see
        return True

    def connect(
        self,
        peer: HostPeer,
        main: MainThread,
        serve: Callable[[int, Role, LaneEnd], None],
        stop: Callable[[], None],
        beat_s: float,
    ) -> None:
        """Know what there is to serve, and let the thread begin; it is started by `start_thread`, before or after.

        `serve` takes a lane that the host has opened, `stop` is told that the host wants this guest to end; `beat_s` is
        the time between two beats.
        """
        self._peer, self._main, self._serve, self._stop, self._beat_s = peer, main, serve, stop, beat_s
        peer.open_lane = self._wanted.open_lane
        peer.open_shared = self._wanted.open_shared
        peer.report_event = lambda name, what: self.send(Kind.EVENT, name, what)
        peer.report = lambda name, error: self.send(Kind.EVENT, name, peer.describe(error))
        peer.coroutines.report = peer.report
        self._stopped = StoppedCalls(peer.calls, partial(self.send, Kind.OVER))
        self._segments = HostSegments(self)
        if self.maps_memory:
            peer.segments = self._segments
            self._segments.offer()
        self._notices = local.here().notices
        self._notices.connect(main, partial(self.send, Kind.FAREWELL), partial(self.send, Kind.UNLOAD), peer.threads)
        self._begin.release()

    def start_thread(self, threads: Threads) -> None:
        """Start the thread, unless it is there; it waits for `connect`."""
        if not self._has_thread:
            self._has_thread = True
            self.thread = threads.start_for_good(self._run, "cloister-control")

    def hold(self) -> None:
        """Keep what is sent, until `let_go` or a wait for the set-up: what belongs together wakes the host once."""
        self._held = []

    def let_go(self) -> None:
        """Send what was kept. Idempotent."""
        with self._sending:
            held, self._held = self._held, None
            if held:
                self._write(b"".join(held))

    # -- any thread --------------------------------------------------------------------------------------------------

    def send(self, kind: Kind, *body: Any) -> None:
        """Send a message. A host that is gone is no error here: its end is noticed elsewhere.

        One that is larger than the host takes is left out.
        """
        with self._sending:
            data = b"".join(frames.serialize(kind, self._send_codec.encode([*body])))
            if len(data) > MAX_BYTES:
                return
            if self._held is None:
                self._write(data)
            else:
                self._held.append(data)

    def _write(self, data: bytes) -> None:
        try:
            self.channel.sendall(data)
        except OSError:
            pass

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        with self._begin:
            pass
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        bell, channel = self._hang_bell(), self.channel.fileno()
        if bell is not None:
            poll.register(bell.reader, select.POLLIN)
        due, hurry = time.monotonic(), math.inf
        try:
            self._obey_all()  # what came together with the set-up
            while True:
                now = time.monotonic()
                wait = min(due, hurry) - now
                if wait <= 0 and not self._sending.acquire(blocking=False):
                    # A finalizer in the middle of another thread's `send` may wait for what only this thread brings.
                    wait = AGAIN_S
                elif wait <= 0:
                    beats, hurry = now >= due, math.inf
                    try:
                        if bell is not None:
                            bell.answered()
                        (self._beat if beats else self._tell_dropped)()
                    finally:
                        self._sending.release()
                    if beats:
                        due = time.monotonic() + self._beat_s
                    continue
                if self._insist():
                    wait = min(wait, INSIST_S)
                if self._peer.threads.start_waiting():
                    wait = min(wait, THREAD_S)
                if self._stopped:
                    wait = min(wait, self._stopped.look())
                ready = [fd for fd, _ in poll.poll(wait * 1000 + 1)]
                if bell is not None and bell.reader in ready:
                    bell.hush()
                    hurry = min(hurry, time.monotonic() + HURRY_S)
                if channel in ready:
                    self._fill()
                    self._obey_all()
        except EOFError:
            self._end_with_host()
        finally:
            if bell is not None:
                bell.close()

    def _fill(self) -> None:
        data, received = receive_with_descriptors(self.channel, READ_BYTES)
        if not data:
            raise EOFError
        self._descriptors += received
        self._decoder.feed(data)

    def _beat(self) -> None:
        self._beats += 1
        running = [[lane, number] for lane, number in self._peer.calls.running()]
        page, used = self._peer.page, time.process_time_ns()
        # Nothing to tell but that it lives: a host with a thousand guests is not to wake for that.
        idle = not running and not self._ran
        if not idle or page is None or not page.note_beat(self._beats, used):
            self.send(Kind.BEAT, self._beats, used, running)
        self._ran = bool(running)
        if self.maps_memory and not self._had_children and departure.has_children():
            self._had_children = True  # this process may not come to say so at its end
            self.send(Kind.CHILDREN)
        self._tell_dropped()
        self._segments.tidy()

    def _tell_dropped(self) -> None:
        """Tell which proxies and handles have died here."""
        dropped = self._peer.imports.take_dropped()
        if dropped:
            self.send(Kind.RELEASE, dropped)

    def _hang_bell(self) -> Bell | None:
        """What finalizers ring when the host is to hear of them soon. None where no descriptor is left."""
        try:
            bell = Bell()
        except OSError:
            return None
        self._peer.imports.hurry = bell.ring
        return bell

    def _obey_all(self) -> None:
        early, self._early = self._early, []
        for kept in early:
            self._obey(kept)
        while (frame := self._decoder.next_frame()) is not None:
            self._obey(frame)

    def _obey(self, frame: frames.Frame) -> None:
        body = self._codec.decode(frame.body, frame.buffers)
        match frame.kind:
            case Kind.LANE:
                number, role, ticket = body
                self._stopped.forget(number)
                if len(self._descriptors) < 2:  # the kernel drops those that this process may not have
                    self._without_lane(Role(role), ticket)
                    return
                end = LaneEnd(self._descriptors.pop(0), self._descriptors.pop(0))
                if role in (Role.GUEST, Role.GUEST_SHARED):
                    self._wanted.deliver(ticket, number, end)
                else:
                    self._serve(number, Role(role), end)
            case Kind.CANCEL:
                lane, number = body
                if self._main.serves(lane):
                    self._main.want(lane, number)
                else:
                    self._stopped.stop(lane, number)
                self._stopped.follow(lane, number)
            case Kind.RECALL:
                self._peer.calls.recall(body[0], body[1])
            case Kind.SEGMENT:
                number, size, upwards, ticket = body
                fd = self._descriptors.pop(0) if self._descriptors else None
                self._segments.arrived(number, size, upwards, ticket, fd)
            case Kind.NO_SEGMENT:
                self._segments.refused(body[0])
            case Kind.DROP_SEGMENT:
                self._segments.dropped(body[0])
            case Kind.NO_LANE:
                self._wanted.refuse(body[0], str(body[1]))
            case Kind.DESCRIPTOR:
                # None comes where this process may not have another one.
                self._peer.arrivals.take_in(body[0], self._descriptors.pop(0) if self._descriptors else None)
            case Kind.NO_DESCRIPTOR:
                self._peer.arrivals.forget(body[0])
            case Kind.RELEASE:
                self._peer.exports.release(body[0])
            case Kind.STILL:
                long_waits.ask(*body)
            case Kind.DEADLOCK:
                long_waits.refuse(body[0], str(body[1]))
            case Kind.FAREWELL:
                self._notices.farewell()
            case Kind.STOP if self.maps_memory and not self._told_children and departure.has_children():
                self._told_children = True
                self.send(Kind.CHILDREN)
            case Kind.STOP:
                self._main.stop_until = time.monotonic() + STOP_SHARE * body[0] / 1000
                self._notices.end(self._halt)
            case Kind.REWIND if self._peer.page is not None:
                rewind(descriptors.PAGE)
            case _:
                pass  # a newer host may say more than this guest knows

    def _halt(self) -> None:
        """End the domain now. The control thread, or the one on which the last handlers have run."""
        try:
            if self._notices.serves and not (self._main.past_stop or self._main.has_loop) and self._peer.rests():
                self.vanishes()
        except BaseException:
            pass  # the steps of an orderly end do without
        self._main.stopping = self._peer.stopping = True
        for step in (self._wanted.end, self._notices.stop, self._stop):
            try:
                step()
            except BaseException as error:
                self._unheard("stop", error)
        self._interrupt_main()

    def _unheard(self, where: str, error: BaseException) -> None:
        """Tell of an exception; where that can't be, nobody is told."""
        try:
            self._peer.report(where, error)
        except BaseException:
            pass

    def interrupt_again(self) -> None:
        """The call of this thread was told to stop, and a finalizer has swallowed that. Any thread but the main one."""
        self._stopped.stop_again(self._peer.runs_here())

    def _without_lane(self, role: Role, ticket: int) -> None:
        """A lane has come without its descriptors. What the host says on it finds nobody, and it is told why."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        error = OSError(errno.EMFILE, "no descriptor left for a lane; the code here keeps too many files open")
        if role in (Role.GUEST, Role.GUEST_SHARED):
            self._wanted.refuse(ticket, str(error))
        else:
            self.send(Kind.EVENT, "open a lane", self._peer.describe(error))

    def _insist(self) -> bool:
        """Interrupt again what should have been; whether it is to be looked at again soon."""
        return self._main.insist()

    def _interrupt_main(self) -> None:
        """The domain is to end: let the main thread raise `StopRequested`."""
        if sys.platform == "win32":
            raise NotImplementedError
        signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)

    def _end_with_host(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _nothing() -> None:
    pass
