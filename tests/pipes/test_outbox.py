"""The message that is under way."""

from __future__ import annotations

import pytest

from cloister.errors import NotConnected, PipeTimeout
from cloister.pipes.outbox import Outbox


def test_a_message_that_has_not_begun_is_forgotten() -> None:
    """S27: where nothing has left, an error leaves nothing behind, and says so."""
    outbox, error = Outbox(), PipeTimeout("late")
    outbox.put(b"head", memoryview(b"tail"))
    assert outbox.unsent == 0
    outbox.stopped(error, mine=True)
    assert outbox.rest is None
    assert not error.begun


def test_a_message_that_has_begun_is_kept_as_it_was() -> None:
    """S27: where a part has left, the rest is kept, whatever the caller does with its buffer afterwards."""
    for sent in (2, 4, 5):
        outbox, error = Outbox(), PipeTimeout("late")
        message = bytearray(b"tail")
        outbox.put(b"head", memoryview(message))
        left = sent
        while left:
            assert outbox.rest is not None
            step = min(left, len(outbox.rest))
            outbox.sent(step)
            left -= step
        assert outbox.unsent == 8 - sent
        outbox.stopped(error, mine=True)
        message[:] = b"XXXX"
        kept = b""
        while outbox.rest is not None:
            kept += outbox.rest
            outbox.sent(len(outbox.rest))
        assert kept == b"headtail"[sent:]
        assert error.begun


def test_an_error_on_an_older_message_is_not_the_new_one_s() -> None:
    """`begun` speaks of the message that was written now, not of one that still waits."""
    outbox, error = Outbox(), PipeTimeout("late")
    outbox.put(b"older")
    outbox.sent(1)
    outbox.stopped(error, mine=False)
    assert not error.begun
    assert outbox.unsent == 4


def test_an_interrupt_keeps_what_is_certain() -> None:
    """An interrupt that came while nothing moved keeps the rest; one that may have torn the stream refuses the next."""
    outbox = Outbox()
    outbox.put(b"message")
    outbox.sent(3)
    outbox.stopped(KeyboardInterrupt(), mine=True)
    assert outbox.rest == b"sage"
    outbox.broken = True
    with pytest.raises(NotConnected, match="torn"):
        outbox.put(b"next")


def test_a_message_that_a_broken_stream_refuses_has_not_begun() -> None:
    """`begun` is False for a message of which nothing will leave, also when the one before has left whole."""
    outbox = Outbox()
    outbox.put(b"before")
    outbox.sent(6)
    outbox.broken = True
    with pytest.raises(NotConnected, match="torn") as caught:
        outbox.put(b"next")
    outbox.stopped(caught.value, mine=True)
    assert not caught.value.begun
