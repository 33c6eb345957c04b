"""A call lane for an event loop: the guest's thread calls, a task of the loop serves it, and no thread waits.

Here is the host's end of a lane on which a thread of the guest calls. Each of its calls becomes a *turn*; what runs for
it is the owner's affair (`LoopLaneOwner.begin`), which says `finish` when it is over. While a turn runs, its code may
call back on this lane (`ask`): the guest's thread, which waits for the turn, serves that. So calls nest to any depth,
and each side has one thread for all of them.

The turns are a stack. Only the top one may speak; where something else has the lane, `ask` gives None, and the caller
takes another lane. A guest that waits for a turn no more, because its time was up, makes it known by its next message:
that turn is *left*, its answer is sent all the same, and nobody takes it.

Everything belongs to the loop's thread. A lane may move to another loop between two turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from cloister import calling
from cloister.errors import CallTimeout, MarshalError, ProtocolError
from cloister.lanes.call_frames import Answer, Call, Unreadable
from cloister.lanes.conversation import Conversation
from cloister.lanes.loop_end import LoopEnd
from cloister.lanes.loop_shared import LoopCall

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd
    from cloister.wire.frames import Buffer, Frame

__all__ = ["LoopCallLane", "LoopLaneOwner", "Turn"]


class Turn:
    """One thing that happens on a lane: a call of the peer that is served here, or a call of this side."""

    __slots__ = ("asked", "call", "data", "left", "strand", "task")

    def __init__(self, call: Call | None, asked: LoopCall | None) -> None:
        self.call = call
        self.asked = asked
        self.strand = 0
        """Which strand of the peer waits for it; 0 where that was not said."""
        self.data: list[Buffer] | None = None
        """The answer, where something above this turn still has the lane."""
        self.left = False
        """The peer does not wait for it any more."""
        self.task: asyncio.Task[Any] | None = None
        """What runs for it."""


class LoopLaneOwner(Protocol):
    """What a lane needs from the side that owns it."""

    def begin(self, lane: LoopCallLane, call: Call, turn: Turn) -> None:
        """Run a call of the peer; `finish` tells what came of it, unless the call wants no answer."""

    def place(self, lane: LoopCallLane, call: Call) -> asyncio.AbstractEventLoop:
        """The loop on which a call is to run."""

    def another(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop | None:
        """A loop that may have a lane of this one, which is closed; None where there is none."""

    def describe(self, error: BaseException) -> Any:
        """Turn an exception into what travels. Raises nothing."""

    def rebuild(self, described: Any) -> BaseException:
        """Turn what travelled into the exception to raise. Raises ProtocolError where it is malformed."""

    def interrupt(self, call: LoopCall, told: Callable[[CallTimeout], None] | None) -> None:
        """Tell the peer to stop a call, and then say, once and on any thread, what its caller is to be told."""

    def unheard(self, name: str, error: BaseException) -> None:
        """Take the exception of a call that wants no answer."""

    def lane_over(self, lane: LoopCallLane, cause: BaseException, waits: bool) -> None:
        """The lane has ended. Where something `waits` on it, `fail` says later what that gets."""


class LoopCallLane(LoopEnd):
    """The host's end of a call lane, watched by an event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, conversation: Conversation, owner: LoopLaneOwner, peer: object
    ) -> None:
        """Runs on the loop's thread, with the loop running."""
        super().__init__(loop)
        self.logical = self.strand = 0
        """The logical thread, and the strand, that spoke last here; 0 before one has said which it is."""
        self._conversation, self._owner = conversation, owner
        self.peer = peer
        """The other side."""
        self._turns: list[Turn] = []
        self._asking = False

    @property
    def waiting(self) -> list[str]:
        """The names of the calls of this side that have no answer yet."""
        return [turn.asked.name for turn in list(self._turns) if turn.asked is not None]

    def task_of(self, strand: int) -> asyncio.Task[Any] | None:
        """What runs here for a strand of the peer, which waits for it; None where nothing does. Any thread."""
        turns = (turn for turn in list(self._turns) if turn.asked is None and turn.strand == strand)
        return next((turn.task for turn in turns if not turn.left), None)

    @property
    def caller(self) -> LoopCall | None:
        """The call of this side that the peer serves now."""
        return self._turns[-1].asked if self._turns else None

    def caller_of(self, turn: Turn) -> LoopCall | None:
        """The call of this side that the peer serves, and because of which it has made this turn."""
        turns = self._turns
        at = len(turns) - 2 if turns and turns[-1] is turn else len(turns) - 1
        return turns[at].asked if at >= 0 else None

    # -- serving -----------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        try:
            heard = self._conversation.hear(frame)
        except MarshalError as error:
            self._answered(None, error)
            return
        if type(heard) is Answer:
            self._answered(heard.value, self._owner.rebuild(heard.value) if heard.raised else None)
        elif type(heard) is Call:
            self._serve(heard)
        elif type(heard) is Unreadable:
            if heard.number:
                self._send(self._conversation.refuse(heard.number, self._owner.describe(heard.error)))
            else:
                self._owner.unheard("a call that wants no answer", heard.error)

    def _serve(self, call: Call) -> None:
        turn = Turn(call, None)
        if call.number:
            self._drop_left()
            loop = self._owner.place(self, call)
            if loop is not self.loop and not self._turns and self._move(loop, call):
                return
            self._turns.append(turn)
        self._owner.begin(self, call, turn)

    def finish(self, turn: Turn, value: Any, error: BaseException | None) -> None:
        """Answer a turn, now or when what is above it is over."""
        call = turn.call
        if self._ended or call is None or not call.number:
            return
        conversation = self._conversation
        if error is None:
            try:
                data = conversation.reply(call.number, value, call.copy)
            except Exception as refused:  # also what a reducer raises
                data = conversation.refuse(call.number, self._owner.describe(refused))
        else:
            data = conversation.refuse(call.number, self._owner.describe(error))
        if turn.left:
            self._send(data)
            return
        turn.data = data
        self._settle()

    def _settle(self) -> None:
        """Send the answers that nothing holds up."""
        turns = self._turns
        while turns and (data := turns[-1].data) is not None:
            turns.pop()
            self._send(data)

    def _drop_left(self) -> None:
        """The peer speaks although a turn of its own is not over: it does not wait for that one any more."""
        turns = self._turns
        while turns and turns[-1].asked is None:
            turns.pop().left = True

    def _send(self, data: list[Buffer]) -> None:
        piece = data[0] if len(data) == 1 else b"".join(data)  # buffers are the user's, who may change them
        self._queue.append(piece)
        self._queued += len(piece)
        if not self._blocked:
            self._write()

    # -- calling back ------------------------------------------------------------------------------------------------

    def ask(
        self,
        turn: Turn,
        target: int,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        deadline: float | None,
        flags: int = 0,
        kind: type[LoopCall] = LoopCall,
    ) -> LoopCall | None:
        """Call the peer's thread that waits for this turn; None where that does something else. Raises MarshalError."""
        if self._ended or self._asking or not self._turns or self._turns[-1] is not turn or turn.data is not None:
            return None
        self._asking = True  # a `__getstate__` among the arguments may call, and takes another lane
        try:
            options = calling.options_down(deadline, name, self)
            data = self._conversation.ask(target, name, args, kwargs, options, flags)
        except BaseException:
            self.logical = self.strand = 0  # it was not said who speaks
            raise
        finally:
            self._asking = False
        call = kind(loop=self.loop)
        call.owner, call.name, call.kill_after = self, name, calling.kill_after.get()
        call.lane, call.number = self.number, self._conversation.waiting[-1]
        call.context = contextvars.copy_context()
        self._turns.append(Turn(None, call))
        self._send(data)
        if deadline is not None:
            timer = self.loop.call_later(max(0.0, deadline - time.monotonic()), self._expire, call)
            call.add_done_callback(lambda _: timer.cancel())
        return call

    def give_up(self, call: LoopCall) -> None:
        """Tell the peer to stop a call that was cancelled. Its turn lasts until the peer has answered."""
        self._owner.interrupt(call, None)
        call.stop_served()

    def _expire(self, call: LoopCall) -> None:
        if not call.done():
            self._owner.interrupt(call, partial(self._tell, call))
            call.stop_served()

    def _tell(self, call: LoopCall, error: CallTimeout) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
            self.loop.call_soon_threadsafe(call.complete, None, error)

    def _answered(self, value: Any, error: BaseException | None) -> None:
        self._drop_left()
        if not self._turns:
            raise ProtocolError("an answer arrived while no call was open")
        call = self._turns.pop().asked
        if call is not None:
            call.complete(value, error)
        self._settle()

    # -- another loop, and the end -----------------------------------------------------------------------------------

    def loop_closes(self) -> None:
        """Let another loop have the lane where nothing is open on it; else it ends."""
        if self._turns or self._ended or not self._leave(None):
            super().loop_closes()

    def _leave(self, call: Call | None) -> bool:
        other = self._owner.another(self.loop)
        return other is not None and self._move(other, call)

    def _move(self, loop: asyncio.AbstractEventLoop, call: Call | None) -> bool:
        """Let another loop have the lane, and serve the call there; False where that loop is closed."""
        end = self.detach()
        if end is None:
            return False
        try:
            loop.call_soon_threadsafe(self._arrive, loop, end, call)
        except RuntimeError:
            self.adopt(self.loop, end)
            return False
        return True

    def _arrive(self, loop: asyncio.AbstractEventLoop, end: LaneEnd, call: Call | None) -> None:
        if self._ended:
            end.close()
            return
        self.adopt(loop, end)
        if self._keeper.closing:  # it has begun to meanwhile
            if not self._leave(call):
                super().loop_closes()
            return
        if call is not None:
            turn = Turn(call, None)
            self._turns.append(turn)
            self._owner.begin(self, call, turn)
        self.take_rest()

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Close the lane: its calls raise `error()`, and what runs for the peer is cancelled. Idempotent."""
        if self._error is None:
            self._error = error
        self._close_here()
        turns, self._turns = self._turns, []
        for turn in reversed(turns):
            if turn.asked is not None:
                turn.asked.complete(None, self._error())
            elif turn.task is not None:
                turn.task.cancel()

    def _over(self, cause: BaseException) -> None:
        self._owner.lane_over(self, cause, any(turn.asked is not None for turn in self._turns))
