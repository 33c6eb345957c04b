"""The core of a call lane, without any pipe: two conversations against each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import MarshalError, ProtocolError
from cloister.lanes import call_frames as core
from cloister.lanes.call_frames import Answer, Call, Unreadable
from cloister.lanes.conversation import Conversation
from cloister.wire import frames
from cloister.wire.frames import FrameDecoder
from cloister.wire.messages import COPY, Kind
from cloister.wire.values import Codec, Reference


def frame_of(data: list[Any]) -> frames.Frame:
    """The one frame that these bytes are."""
    decoder = FrameDecoder()
    for piece in data:
        decoder.feed(piece)
    frame = decoder.next_frame()
    assert frame is not None
    return frame


def made(kind: Kind, *body: Any) -> frames.Frame:
    """A frame of this kind, as a peer that keeps no rules may send it."""
    return frame_of(frames.serialize(kind, Codec().encode([*body])))


def test_call_and_answer_meet() -> None:
    """What one side asks, the other hears as that call; what that one answers is the answer to it."""
    here, there = Conversation(Codec()), Conversation(Codec())
    heard = there.hear(frame_of(here.ask(7, "add", (1, 2), {"base": 10}, {"left": 5}, 0)))
    assert heard == Call(1, 7, "add", [1, 2], {"base": 10}, {"left": 5}, False)
    assert here.waiting == [1]
    assert here.hear(frame_of(there.reply(1, "three"))) == Answer(1, "three", False)
    assert here.waiting == []


def test_exception_answers_the_call() -> None:
    """A call that raised is answered with what describes the exception."""
    here, there = Conversation(Codec()), Conversation(Codec())
    there.hear(frame_of(here.ask(7, "add", (), None)))
    assert here.hear(frame_of(there.refuse(1, ["ValueError"]))) == Answer(1, ["ValueError"], True)


def test_copy_flag_chooses_the_copying_codec() -> None:
    """A call that asks for a copy is heard as such, and its result passes through the codec for copies."""

    class Alien:
        pass

    def refuse(value: object) -> Reference:
        raise MarshalError("no copy")

    here = Conversation(Codec())
    there = Conversation(Codec(outbound=lambda value: Reference((0, 1))), Codec(outbound=refuse))
    heard = there.hear(frame_of(here.ask(0, "unwrap", (), None, None, COPY)))
    assert type(heard) is Call
    assert heard.copy
    assert there.reply(1, Alien())
    with pytest.raises(MarshalError, match="no copy"):
        there.reply(1, Alien(), copy=True)


def test_argument_that_cannot_travel_opens_no_call() -> None:
    """A call whose argument can't be encoded is not open, and the next one has its number."""
    here, there = Conversation(Codec()), Conversation(Codec())
    with pytest.raises(MarshalError, match="args"):
        here.ask(1, "add", (object(),), None)
    assert here.waiting == []
    heard = there.hear(frame_of(here.ask(1, "add", (), None)))
    assert type(heard) is Call
    assert heard.number == 1


def test_call_made_while_encoding_does_not_share_the_number() -> None:
    """Where the encoding of an argument makes a call of its own, both calls keep numbers of their own, in order."""
    sent: list[list[Any]] = []

    class Chatty:
        pass

    def outbound(value: object) -> Reference:
        if not sent:
            sent.append(here.ask(1, "inner", (), None))
        return Reference((1, 1))

    here, there = Conversation(Codec(outbound=outbound)), Conversation(Codec())
    sent.append(here.ask(1, "outer", (Chatty(),), None))
    heard = [there.hear(frame_of(data)) for data in sent]
    assert [(call.number, call.name) for call in heard if type(call) is Call] == [(1, "inner"), (2, "outer")]


def test_call_that_cannot_be_rebuilt_is_known_by_number() -> None:
    """A call with something in it that can't be had here is refused by its number, and the lane goes on."""

    def inbound(reference: Reference) -> object:
        raise MarshalError("gone")

    here, there = Conversation(Codec(outbound=lambda _: Reference((1, 9)))), Conversation(Codec(inbound=inbound))
    for number in (1, 2):
        heard = there.hear(frame_of(here.ask(1, "take", (object(),), None)))
        assert type(heard) is Unreadable
        assert heard.number == number
        assert type(here.hear(frame_of(there.refuse(number, [])))) is Answer


def test_abandoned_answer_reaches_nobody() -> None:
    """The late answer of a call that was given up is thrown away, never given to the next call."""
    here, there = Conversation(Codec()), Conversation(Codec())
    there.hear(frame_of(here.ask(1, "slow", (), None)))
    here.abandon()
    there.hear(frame_of(here.ask(1, "quick", (), None)))
    assert here.hear(frame_of(there.reply(1, "late"))) is None
    assert here.waiting == [2]
    assert here.hear(frame_of(there.reply(2, "in time"))) == Answer(2, "in time", False)
    with pytest.raises(ProtocolError, match="nobody waits"):
        here.hear(frame_of(there.reply(1, "again")))


def test_one_way_call_has_no_number_and_no_answer() -> None:
    """A call that is only told is heard with the number 0, and takes none from the calls after it."""
    here, there = Conversation(Codec()), Conversation(Codec())
    told = there.hear(frame_of(here.tell(1, "touch", (), None, {"left": 1})))
    asked = there.hear(frame_of(here.ask(1, "get", (), None)))
    assert (type(told), type(asked)) == (Call, Call)
    assert (told.number, asked.number, here.waiting) == (0, 1, [1])  # type: ignore[union-attr]  # both are calls


BAD: dict[str, tuple[Any, ...]] = {
    "answer that nobody waits for": (Kind.REPLY, 1, None),
    "exception that nobody waits for": (Kind.RAISE, 9, None),
    "call out of turn": (Kind.CALL, 2, 1, "name", [], None, None),
    "number 0 in a call": (Kind.CALL, 0, 1, "name", [], None, None),
    "negative number": (Kind.CALL, -1, 1, "name", [], None, None),
    "number that is none": (Kind.CALL, "1", 1, "name", [], None, None),
    "target that is none": (Kind.CALL, 1, "1", "name", [], None, None),
    "name that is none": (Kind.CALL, 1, 1, 5, [], None, None),
    "arguments that are none": (Kind.CALL, 1, 1, "name", {}, None, None),
    "keywords that are none": (Kind.CALL, 1, 1, "name", [], [1], None),
    "keyword that is no string": (Kind.CALL, 1, 1, "name", [], {1: 2}, None),
    "options that are none": (Kind.CALL, 1, 1, "name", [], None, [1]),
    "too short a call": (Kind.CALL, 1, 1),
    "too long a call": (Kind.CALL, 1, 1, "name", [], None, None, None),
    "one-way call with a number": (Kind.ONE_WAY, 1, 1, "name", [], None, None),
    "answer of one": (Kind.REPLY, 1),
    "answer with a number that is none": (Kind.REPLY, None, 1),
    "frame of the control channel": (Kind.HELLO, 1),
}


@pytest.mark.parametrize("what", BAD)
def test_what_has_no_place_is_refused(what: str) -> None:
    """A frame that a peer may not send at this moment, or that is malformed, is a protocol error."""
    kind, *body = BAD[what]
    with pytest.raises(ProtocolError):
        Conversation(Codec()).hear(made(kind, *body))


def test_body_that_is_no_list_is_refused() -> None:
    """A call or an answer that is no list at all is a protocol error, also where its number is looked for."""
    values: list[Any] = [None, 5, "text", {}]
    for value in values:
        for kind in (Kind.CALL, Kind.REPLY):
            with pytest.raises(ProtocolError):
                Conversation(Codec()).hear(frame_of(frames.serialize(kind, Codec().encode(value))))
        with pytest.raises(ProtocolError):
            core.number_of(Codec().encode(value))


@pytest.mark.parametrize("number", [1, 127, 128, 255, 256, 65535, 65536, 2**32, 2**40])
def test_number_is_read_without_the_rest(number: int) -> None:
    """The number of a call is found in front of its body, whatever size it has."""
    assert core.number_of(Codec().encode([number, 1])) == number


class Side:
    """One end of a lane that follows a script: what to do while a call of the other side is served."""

    def __init__(self, script: list[int]) -> None:
        self.talk = Conversation(Codec())
        self.decoder = FrameDecoder()
        self.out = bytearray()
        self.script = script
        self.open: list[int] = []
        """Calls of the other side that are served, innermost last."""
        self.asked = self.answered = self.served = 0

    def say(self, data: list[Any]) -> None:
        for piece in data:
            self.out += piece

    def act(self) -> None:
        """Make the next step of the one who has the word: ask further, tell, or answer."""
        step = self.script.pop() if self.script else 0
        if step == 1:
            self.asked += 1
            self.say(self.talk.ask(1, f"call {self.asked}", (self.asked,), None))
            return
        if step == 2:
            self.say(self.talk.tell(1, "told", (), None))
            self.act()
            return
        if self.open:
            number = self.open.pop()
            self.say(self.talk.reply(number, number))

    def take(self, data: bytes) -> None:
        self.decoder.feed(data)
        while (frame := self.decoder.next_frame()) is not None:
            heard = self.talk.hear(frame)
            if type(heard) is Call and heard.number:
                self.served += 1
                self.open.append(heard.number)
                self.act()
            elif type(heard) is Answer:
                assert heard.number == heard.value, "an answer came to another call"
                self.answered += 1
                self.act()


@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 2), max_size=60), st.integers(1, 50))
def test_any_nesting_in_any_pieces_gives_each_call_its_answer(down: list[int], up: list[int], size: int) -> None:
    """S12, S30: Calls nested at will in both directions, delivered in pieces of any size, all get their own answers."""
    host, guest = Side(down), Side(up)
    host.act()
    while host.out or guest.out or host.script:
        for speaker, hearer in ((host, guest), (guest, host)):
            while speaker.out:
                piece = bytes(speaker.out[:size])
                del speaker.out[:size]
                hearer.take(piece)
        if not host.out and not guest.out and host.script:
            host.act()
    assert host.asked == host.answered == guest.served
    assert guest.asked == guest.answered == host.served
    assert host.talk.waiting == guest.talk.waiting == []


class Curious:
    """What a proxy does to the side that has it: to compare, show or unpack it calls the other side."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def _note(self, name: str) -> Any:
        self.called.append(name)
        raise AssertionError(name)

    def __hash__(self) -> int:
        return int(self._note("__hash__"))

    def __eq__(self, other: object) -> bool:
        return bool(self._note("__eq__"))

    def __ne__(self, other: object) -> bool:
        return bool(self._note("__ne__"))

    def __repr__(self) -> str:
        return str(self._note("__repr__"))

    def __iter__(self) -> Any:
        return self._note("__iter__")


@pytest.mark.parametrize("whole", [False, True])
def test_decoding_calls_nothing_that_the_peer_chose(whole: bool) -> None:
    """A proxy where the number belongs, or instead of the whole message, breaks the rules and is not touched."""
    curious = Curious()

    class Decoder(Codec):
        def decode(self, *args: Any) -> Any:
            return curious if whole else [curious, 1, "f", [], None, None][: 6 if args[0] == b"call" else 2]

    here = Conversation(Decoder())
    here.ask(1, "f", (), None)
    reply = b"".join(bytes(piece) for piece in core.reply_frame(Codec(), 1, 1))
    with pytest.raises(ProtocolError):
        here.result_in(reply)
    with pytest.raises(ProtocolError):
        here.hear(made(Kind.REPLY, 1, 1))
    with pytest.raises(ProtocolError):
        here.hear(frames.Frame(int(Kind.CALL), 0, b"call", ()))
    assert curious.called == []
