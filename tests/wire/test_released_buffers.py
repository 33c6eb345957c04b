"""Buffers that their sender releases, resizes or frees while a message with them is made, or waits to be written."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Callable
from typing import Any

import pytest

from cloister.errors import MarshalError
from cloister.lanes.call_frames import reply_frame, reply_message
from cloister.lanes.outgoing import Outgoing
from cloister.wire.frames import FrameDecoder
from cloister.wire.values import Codec

LENGTH = 100_000
DATA = bytes(range(256)) * (LENGTH // 256)


def came(data: bytes, buffers: list[Any]) -> Any:
    """What a receiver makes of a message, after it was written."""
    written = [memoryview(bytes(each)) for each in buffers]
    return Codec().decode(data, written)


def test_bytearray_is_resized_while_its_message_waits() -> None:
    """Whoever sends a bytearray may resize it as soon as the message is made: what was in it then is what travels."""
    source = bytearray(DATA)
    buffers: list[Any] = []
    message = Codec().encode([source], buffers)
    source.clear()
    source += b"of somebody else"
    assert came(message, buffers) == [bytearray(DATA)]


def test_view_is_released_while_its_message_waits() -> None:
    """A view may be released then; its memory is held until the message was written, and not a moment longer."""
    source = bytearray(DATA)
    view = memoryview(source)
    buffers: list[Any] = []
    message = Codec().encode([view], buffers)
    view.release()
    with pytest.raises(BufferError):
        source.clear()
    assert came(message, buffers) == [DATA]
    buffers.clear()
    source.clear()


def test_memory_of_a_map_is_held() -> None:
    """A map can't be closed under a message, which would read what is not there any more."""
    source = mmap.mmap(-1, len(DATA))
    source[:] = DATA
    view = memoryview(source)
    buffers: list[Any] = []
    message = Codec().encode([view], buffers)
    view.release()
    with pytest.raises(BufferError):
        source.close()
    assert came(message, buffers) == [DATA]
    buffers.clear()
    source.close()


def test_array_is_freed_while_its_message_waits() -> None:
    """An array that nobody else holds lives until its message was written."""
    np = pytest.importorskip("numpy")
    buffers: list[Any] = []
    message = Codec().encode([np.arange(LENGTH)], buffers)
    gc.collect()
    others = [np.zeros(LENGTH, int) for _ in range(10)]  # what freed memory would be used for
    (array,) = came(message, buffers)
    assert np.array_equal(array, np.arange(LENGTH))
    assert len(others) == 10


def released(source: Any) -> None:
    """What another thread does with a view."""
    source.release()


def resized(source: Any) -> None:
    """What another thread does with a bytearray; while a copy of it is made Python forbids it."""
    with pytest.raises(BufferError):
        source.clear()


@pytest.mark.parametrize(("make", "change"), [(memoryview, released), (bytearray, resized)], ids=["view", "bytearray"])
def test_buffer_goes_while_a_place_is_sought(make: Callable[[bytes], Any], change: Callable[[Any], None]) -> None:
    """While a sender waits for shared memory, what it sends may be released; where there is none it travels whole."""
    source = make(DATA)
    buffers: list[Any] = []

    def place(_: Any) -> None:
        change(source)

    message = Codec(place=place).encode([source], buffers)
    assert came(message, buffers) == [DATA]


@pytest.mark.parametrize("large", [False, True])
def test_view_that_was_released_before_is_a_clear_error(large: bool) -> None:
    """A view that is released when its message is made is named with the path to it; the codec goes on."""
    codec = Codec()
    view = memoryview(DATA if large else b"few")
    view.release()
    for value in ([1, {"data": view}], [1, {"data": view}]):  # the second time it expects such things
        with pytest.raises(MarshalError, match=r"value\[1\]\['data'\]: .*released memoryview"):
            codec.encode(value, [])
        buffers: list[Any] = []
        assert came(codec.encode([bytearray(DATA)], buffers), buffers) == [DATA]


def test_view_of_nothing_in_several_dimensions() -> None:
    """A view that is empty, or has strides of zero, is what its content in C order is."""
    np = pytest.importorskip("numpy")
    for array in (np.zeros((0, 5)), np.zeros(0), np.broadcast_to(np.float64(3), (1, 1)), np.broadcast_to(3.0, (9, 9))):
        assert came(Codec().encode([memoryview(array)]), []) == [array.tobytes()]


def test_answers_that_wait_are_not_torn() -> None:
    """A bytearray that is resized while its answer waits for room leaves the answers behind it as they are."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    outgoing = Outgoing(writer, lambda: None)
    codec, source = Codec(), bytearray(DATA)
    try:
        outgoing.put(reply_frame(codec, 1, b"x" * 200_000))  # the pipe is full
        assert outgoing.stuck
        outgoing.put(reply_message(codec, 2, [source]))
        outgoing.put(reply_message(codec, 3, "secret" * 10_000))
        source.clear()
        decoder = FrameDecoder()
        heard: list[Any] = []
        while len(heard) < 3:
            decoder.feed(os.read(reader, 1 << 20))
            outgoing.stuck = False
            outgoing.push()
            while (frame := decoder.next_frame()) is not None:
                heard.append(Codec().decode(frame.body, frame.buffers))
    finally:
        os.close(reader)
        os.close(writer)
    assert heard == [[1, b"x" * 200_000], [2, [bytearray(DATA)]], [3, "secret" * 10_000]]
