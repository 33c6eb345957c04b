"""The blocking engine of a call lane: the thread that calls writes its request and reads its own answer.

Here are the calls: made, served while another one waits, timed out, given up. Bytes, waiting and closing are in
`frame_lane`; what may be said in which state is in `conversation`. One thread uses a lane at a time.

**Time-out.** The outermost call of a lane: the peer is told to stop, the lane is closed and never used again. A nested
call of the host: the guest is told to stop, and the waiter goes on reading until the guest has unwound and answered, or
the grace period is over; then the lane is closed. Where the caller has asked for it, the peer is ended when it does not
stop, and the caller waits until it is known whether it did. A nested call of the guest is abandoned: the host's code is
never interrupted.

**Interruption.** A KeyboardInterrupt, or what a signal handler raises, may come between a write and a read. Then nobody
knows what was said, so the lane is closed, and only the lane: the next call of the thread takes another one.

**Depth.** A nested call needs the stack of this thread. It is refused with RecursionError before anything is sent,
while there still is the room to tell the peer of it; so too deep a nesting costs the call and not the lane.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from cloister.errors import CallTimeout, MarshalError, ProtocolError
from cloister.lanes.call_frames import Answer, Call, Unreadable
from cloister.lanes.conversation import OTHER, Conversation
from cloister.lanes.frame_lane import FrameLane, LaneClosed, TimeUp

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page
    from cloister.wire.frames import Frame

__all__ = ["LATER", "Asked", "CallLane", "LaneClosed", "LaneOwner", "Stopping"]

GRACE_S: Final = 5.0
"""How long a nested call that timed out may take to unwind before its lane is closed."""

LATER: Final = object()
"""What `LaneOwner.serve` returns where `CallLane.answer_late` will be called with the result."""

SHALLOW: Final = 8
"""Nested calls that need no look at the stack: with the usual limit of 1,000 frames there is room for them."""
FRAMES_NEEDED: Final = 90
"""Frames that one more nested call may take in our own code, the description of an exception included."""


class Stopping(Protocol):
    """A call that the peer was told to stop."""

    kills: bool
    """Where it does not stop, the peer is ended; so it is known after some time which of the two happened."""

    def outcome(self, name: str) -> CallTimeout:
        """What the caller is told; waits until it is known where the peer may be ended."""


class Asked:
    """As `Stopping`, where nothing follows if the call does not stop."""

    kills = False

    def outcome(self, name: str) -> CallTimeout:
        """What the caller is told."""
        return CallTimeout(f"the time for {name}() is up; it was told to stop, the domain goes on")


class LaneOwner(Protocol):
    """What a lane needs from the side that owns it."""

    def serve(self, lane: CallLane, call: Call) -> Any:
        """Run a call of the peer and return its result; what it raises is the call's exception."""

    def describe(self, error: BaseException) -> Any:
        """Turn an exception of `serve` into what travels. Raises nothing."""

    def rebuild(self, described: Any) -> BaseException:
        """Turn what travelled into the exception to raise. Raises ProtocolError where it is malformed."""

    def interrupt(self, lane: CallLane, number: int, name: str) -> Stopping | None:
        """Tell the peer to stop serving a call; None where this side may not interrupt the other."""

    def unheard(self, name: str, error: BaseException) -> None:
        """Take the exception of a call that wants no answer."""

    def passes_through(self, error: BaseException) -> bool:
        """Whether an exception of `serve` breaks the lane and goes on upwards here, instead of travelling."""


class CallLane(FrameLane):
    """One end of a call lane."""

    __slots__ = ("conversation", "logical", "owner", "strand")

    def __init__(
        self,
        end: LaneEnd,
        conversation: Conversation,
        owner: LaneOwner,
        number: int,
        page: Page | None = None,
        side: int = 0,
    ) -> None:
        """Take over the two descriptors of `end`; see `FrameLane`."""
        super().__init__(end, number, page, side)
        self.conversation = conversation
        self.owner = owner
        self.logical = 0
        """The logical thread that spoke last here; 0 before one has said which it is."""
        self.strand = 0
        """Its strand; 0 before it has said so."""

    def __del__(self) -> None:
        """Close the lane of a thread that has ended, and give up what it was spoken with."""
        super().__del__()
        if hasattr(self, "conversation"):
            self.conversation.let_go()

    # -- calling -----------------------------------------------------------------------------------------------------

    def call(
        self,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None = None,
        flags: int = 0,
        deadline: float | None = None,
    ) -> Any:
        """Call the peer and return its result; its own calls to this side are served meanwhile.

        `deadline` is a time of `time.monotonic`, or None for no limit. Raises what the peer raised, CallTimeout,
        MarshalError where a value can't travel and RecursionError where the nesting is too deep (the lane stays usable
        after both), what the lane was broken with, and LaneClosed where the peer is gone.
        """
        conversation = self.conversation
        outer = len(conversation.waiting)
        if outer > SHALLOW:
            _require_frames(FRAMES_NEEDED)
        calling = self.calling
        calling.append(name if target else _spoken(name, args))
        try:
            self._send(conversation.ask(target, name, args, kwargs, options, flags), deadline)
            data = self._listen(deadline)
            value = conversation.result_in(data)
            heard = self._converse(self._frame(data, deadline), deadline) if value is OTHER else None
        except TimeUp:
            self._expire(calling[-1])
        except BaseException as error:
            if type(error) is not MarshalError or len(conversation.waiting) > outer:
                self._leave(calling[-1], outer, error)
            else:
                self._not_introduced(options)
            raise
        finally:
            calling.pop()
            if self._ended and not calling:
                self.close()
        if heard is None:
            return value
        if heard.raised:
            raise self.owner.rebuild(heard.value)
        return heard.value

    def tell(
        self,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None = None,
        deadline: float | None = None,
    ) -> None:
        """Send a call that wants no answer; return as soon as the pipe has taken it. Raises as `call`."""
        self.calling.append(name)
        try:
            self._send(self.conversation.tell(target, name, args, kwargs, options), deadline)
        except MarshalError:
            self._not_introduced(options)
            raise
        except TimeUp:
            raise CallTimeout(f"the time was up before {name}() could be sent") from None
        except BaseException:
            self.give_up(f"{name}() was interrupted while it was sent")
            raise
        finally:
            self.calling.pop()
            if self._ended and not self.calling:
                self.close()

    def _not_introduced(self, options: dict[str, Any] | None) -> None:
        """A call was not sent: where it would have said who speaks, the peer does not know it yet."""
        if options and "logical" in options:
            self.logical = self.strand = 0

    def _converse(self, frame: Frame, deadline: float | None) -> Answer:
        """Take frames, the given one first, and serve the calls among them, until the last call is answered."""
        while True:
            heard = self.conversation.hear(frame)
            if type(heard) is Answer:
                return heard
            if heard is not None:
                self._answer(heard, deadline)
            frame = self._receive(deadline)

    def _leave(self, name: str, outer: int, error: BaseException) -> None:
        """Give up the lane in the middle of a call: the two sides no longer agree on what was said."""
        if isinstance(error, LaneClosed | ProtocolError):  # the domain ends, and the calls around it are told so
            self.close()
            return
        if not isinstance(error, Exception) and len(self.conversation.waiting) > outer and not self.closed:
            self.owner.interrupt(self, self.conversation.waiting[-1], name)
        self.give_up(f"{name}() was interrupted by {type(error).__name__}; the calls around it are lost")

    def _expire(self, name: str) -> NoReturn:
        """End a call whose time is up; see the module's text. Raises CallTimeout, or what comes between."""
        conversation = self.conversation
        if self.closed:  # the message was cut off
            raise CallTimeout(f"the time for {name}() was up before all of it was sent; the domain goes on") from None
        number = conversation.waiting[-1]
        stopping = self.owner.interrupt(self, number, name)
        if not conversation.serving:
            self.give_up(f"the time for {name}() was up")
            raise (stopping or Asked()).outcome(name) from None
        if stopping is None:
            conversation.abandon()
            raise CallTimeout(f"the time for {name}() is up; the host goes on with it") from None
        deadline = None if stopping.kills else time.monotonic() + GRACE_S
        try:
            self._converse(self._receive(deadline), deadline)
        except MarshalError:
            pass  # an answer all the same
        except TimeUp:
            self.give_up(
                f"{name}() did not stop within {GRACE_S:g} s after its time was up; the calls around it are lost"
            )
        except BaseException as other:
            self._leave(name, len(conversation.waiting) - 1, other)
            if stopping.kills and isinstance(other, Exception):  # the domain has ended
                raise stopping.outcome(name) from None
            raise
        raise stopping.outcome(name) from None

    # -- serving -----------------------------------------------------------------------------------------------------

    def serve_one(self) -> bool:
        """Wait for one call of the peer and serve it; False where the peer has closed the lane.

        Raises ProtocolError where the peer breaks the rules, and what the lane was broken with.
        """
        self._listening = True
        try:
            data = self._listen(None)
            heard = self.conversation.call_in(data) or self.conversation.hear(self._frame(data, None))
            if type(heard) is Answer:
                raise ProtocolError("an answer arrived while no call was open")
            if heard is not None:
                self._answer(heard, None)
        except LaneClosed:  # also while it was served: its time was up, or it was cancelled
            return False
        finally:
            self._listening = False
            if self._ended:
                self.close()
        return True

    def _answer(self, call: Call | Unreadable, deadline: float | None) -> None:
        """Serve a call and send the answer, by the deadline of the call around it."""
        conversation = self.conversation
        number = call[0]  # an item of a tuple costs less than its name
        if type(call) is Unreadable:
            if number:
                self._send(conversation.refuse(number, self.owner.describe(call.error)), deadline)
            else:
                self.owner.unheard("a call that wants no answer", call.error)
            return
        assert type(call) is Call
        serving = conversation.serving
        serving.append(number)
        value: Any = None
        try:
            value = self.owner.serve(self, call)
            if value is LATER:
                return
            data = conversation.reply(number, value, call[6]) if number else None
        except BaseException as error:
            if self.owner.passes_through(error):
                raise
            if not number:
                self.owner.unheard(call.name, error)
                return
            data = conversation.refuse(number, self.owner.describe(error))
        finally:
            if value is not LATER:
                serving.pop()
        if data is not None:
            self._send(data, deadline)

    def answer_late(self, call: Call, value: Any, error: BaseException | None) -> None:
        """Answer an outermost call for which `serve` has returned `LATER`; ignored where the peer has closed the lane.

        Called by the thread that uses the lane, while it serves nothing else on it.
        """
        conversation = self.conversation
        data = None
        if error is None:
            try:
                data = conversation.reply(call.number, value, call.copy)
            except MarshalError as refused:
                error = refused
        if error is not None:
            data = conversation.refuse(call.number, self.owner.describe(error))
        conversation.serving.remove(call.number)
        if data is not None and not self.closed:
            try:
                self._send(data, None)
            except LaneClosed:
                pass  # the next `serve_one` says so


def _require_frames(count: int) -> None:
    """Raise RecursionError unless this many frames are left. Only trying is right on every Python."""
    if count:
        _require_frames(count - 1)


def _spoken(name: str, args: Sequence[Any]) -> str:
    """How a call of the peer's service is named in reports: by the code that it is to run, where that has a name."""
    match args:
        case [["name" | "source", str(code), *_], *_]:
            return code
    return name
