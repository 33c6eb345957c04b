"""The answers of a shared lane: made by whoever has run the call, and sent together where more of them follow.

While further calls wait, the answers of short ones leave together, in common frames: with the first one that is made
`HOLD_NS` after them, or when a call takes long and who stands by looks, some milliseconds later, or before one runs
code that did not run before, or has held up the reader before (`shared`). So what the end of this process can take
along, or a long call hold back, are answers of the last milliseconds, and only a call of code that had run before, and
had never been seen to take longer than a millisecond or a few. Any thread may enter.

Encoding may run code of the user's, which may call the host and take long, so it holds no lock: each answer is encoded
with a codec that nobody else has at that moment. A type is described once by each codec, and a codec is given back only
when its frame has its place in the row; so no frame relies on a description that comes after it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from cloister.guest.interrupts import StopRequested
from cloister.lanes.call_frames import answer_message, part_frame

if TYPE_CHECKING:
    from cloister.guest.host import HostPeer
    from cloister.lanes.outgoing import Outgoing
    from cloister.wire.values import Codec

__all__ = ["Answers"]

HOLD_NS: Final = 100_000
"""How long the answer of a call may wait for those of the next ones, where these are short."""

_clock = time.monotonic_ns


class Answers:
    """The answers of one lane."""

    def __init__(self, peer: HostPeer, out: Outgoing, codecs: tuple[Codec, Codec]) -> None:
        """`codecs` are the first ones: for saying, and for what was asked for as a copy."""
        self._peer, self._out = peer, out
        self._spare = [codecs]
        self._held_since = 0

    def answer(
        self, number: int, value: Any, error: BaseException | None, copy: bool = False, more: bool = False
    ) -> None:
        """Answer a call; `more` follow, whose answers may leave with this one."""
        if self._peer.stopping or isinstance(error, StopRequested):
            return  # the domain ends, and its host tells the caller so
        codecs = self._take_codecs()
        data = answer_message(codecs, number, value, error, copy, self._peer.describe)
        if more:
            now = _clock()
            if not self._out.holds:
                self._held_since = now
            more = now - self._held_since < HOLD_NS
        self._out.put(data, more)
        self._spare.append(codecs)

    def part(self, number: int, value: Any, last: bool = False) -> None:
        """Tell something of a call that runs, before its answer; it has left this process when this returns.

        The loop's thread waits for no pipe: what that does not take leaves later. With `last` it leaves with the
        answer, which comes next. Raises MarshalError where it can't travel.
        """
        codecs = self._take_codecs()
        try:
            self._out.put(part_frame(codecs[0], number, value), last)
        finally:
            self._spare.append(codecs)
        if not last and not self._peer.coroutines.here:
            self._out.flush()

    def _take_codecs(self) -> tuple[Codec, Codec]:
        try:
            return self._spare.pop()
        except IndexError:
            return self._peer.shared_codecs()[1:]
