"""A guest that keeps no rules: it writes what it likes on its lane and on its control channel. Only guests import this.

Each function runs inside a call of the host's, on the main thread, so the host waits on lane 0 while it is attacked.
"""

from __future__ import annotations

import array
import os
import random
import signal
import socket
import struct
import threading
import time
from typing import Any

from cloister.guest import descriptors
from cloister.wire import containers, frames
from cloister.wire.messages import Kind
from cloister.wire.values import Codec, Reference


def _write(fd: int, data: bytes) -> None:
    """Write all, whether the end blocks or not; stop where the host has closed its end."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            break


def _wait() -> None:
    """Do nothing more; the host is to end this process."""
    time.sleep(60)


def _control(kind: int, *body: Any, times: int = 1) -> None:
    _write(descriptors.CONTROL, _frame(kind, [*body]) * times)


def _lane(kind: int, *body: Any, times: int = 1) -> None:
    _write(descriptors.LANE_WRITER, _frame(kind, [*body]) * times)


def _frame(kind: int, body: Any) -> bytes:
    codec = Codec(outbound=lambda value: value.reference)  # type: ignore[attr-defined]  # a Sent, see below
    return b"".join(frames.serialize(kind, codec.encode(body)))


class Sent:
    """Encodes as a reference of any form."""

    def __init__(self, *fields: Any) -> None:
        self.reference = Reference(fields)


# -- bytes -------------------------------------------------------------------------------------------------------------


def random_bytes(seed: int, control: bool) -> None:
    """Write rubbish."""
    rubbish = random.Random(seed).randbytes(4096)
    _write(descriptors.CONTROL if control else descriptors.LANE_WRITER, rubbish)
    _wait()


def lying_length(control: bool) -> None:
    """Announce a frame of 4 GiB."""
    header = struct.pack("<IBBH", 0xFFFFFFFF, int(Kind.REPLY), 0, 0)
    _write(descriptors.CONTROL if control else descriptors.LANE_WRITER, header + b"x" * 1000)
    _wait()


def lying_buffers() -> None:
    """Announce buffers that do not fit into their frame."""
    _write(descriptors.LANE_WRITER, struct.pack("<IBBHII", 8, int(Kind.REPLY), 0, 2, 2**31, 2**31))
    _wait()


def deep_nesting(levels: int, control: bool) -> None:
    """Answer with a value that is nested very deeply."""
    body = b"\x92\x01" + b"\x91" * levels + b"\xc0"
    kind = Kind.BEAT if control else Kind.REPLY
    _write(descriptors.CONTROL if control else descriptors.LANE_WRITER, b"".join(frames.serialize(kind, body)))
    _wait()


def huge_container() -> None:
    """Answer with a list that says it has four thousand million items."""
    _write(descriptors.LANE_WRITER, b"".join(frames.serialize(Kind.REPLY, b"\x92\x01\xdd\xff\xff\xff\xff\xc0")))
    _wait()


def half_a_frame() -> None:
    """Begin an answer, and never finish it."""
    _write(descriptors.LANE_WRITER, _frame(Kind.REPLY, [1, "x" * 1000])[:100])
    _wait()


# -- messages ----------------------------------------------------------------------------------------------------------


def on_lane(kind: int, body: list[Any]) -> None:
    """Write a well made frame of any kind and body on the lane."""
    _lane(kind, *body)
    _wait()


def on_control(kind: int, body: list[Any], times: int = 1) -> None:
    """Write a well made frame of any kind and body on the control channel."""
    _control(kind, *body, times=times)
    _wait()


def reference(fields: list[Any]) -> None:
    """Answer with a reference of any form."""
    _lane(Kind.REPLY, 1, Sent(*fields))
    _wait()


def many_calls(count: int) -> None:
    """Call the host often without ever waiting for an answer, nor reading one."""
    for number in range(1, count + 1):
        _lane(Kind.CALL, number, 0, "nothing", ["x" * 1000], None, None)
    _wait()


def many_tickets(count: int) -> None:
    """Ask for more lanes than anybody needs."""
    for ticket in range(count):
        _control(Kind.WANT_LANE, ticket + 1_000_000)
    _wait()


def send_descriptors() -> None:
    """Send a descriptor upwards."""
    channel = socket.socket(fileno=os.dup(descriptors.CONTROL))
    rights = array.array("i", [0])
    channel.sendmsg([_frame(Kind.BEAT, [1, 1, []])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    _wait()


# -- silence -----------------------------------------------------------------------------------------------------------


def close_lane() -> None:
    """Close the lane on which the host waits, and live on."""
    os.close(descriptors.LANE_WRITER)
    _wait()


def close_control() -> None:
    """Close the control channel, and live on."""
    os.close(descriptors.CONTROL)
    _wait()


def stop_itself() -> None:
    """Stop like a program under a debugger or a shell."""
    os.kill(os.getpid(), signal.SIGSTOP)


def read_nothing() -> None:
    """Read nothing any more, neither on the lane nor, with the interpreter lock held, on the control channel."""
    import re

    re.match(r"(a+)+$", "a" * 60 + "b")


def flood_from_threads(kind: int, body: list[Any]) -> None:
    """Send the same message as fast as it goes, for as long as the host takes it."""
    data = _frame(kind, body) * 64
    threading.Thread(target=_write, args=(descriptors.CONTROL, data * 200), daemon=True).start()
    time.sleep(0.5)


def lying_stream(how: str) -> Any:
    """Hand out an iterator whose batches break the rules."""
    from cloister.objects import streams

    answers = {"empty": [[], 0, None], "many": [[1] * 5000, 0, None], "shape": "rubbish", "error": [[], 2, "rubbish"]}
    streams.Puller.pull = lambda *_: answers[how]  # type: ignore[assignment,method-assign]  # that is the attack
    return iter(range(10))


# -- shared memory -----------------------------------------------------------------------------------------------------


def loan(length: int, *changed: Any) -> None:
    """Answer with a loan of which one field, named by its position, is another one than the true."""
    exchange = _exchange()
    placed = exchange.lend(memoryview(bytes(length)))
    while placed is None:
        placed = exchange.lend(memoryview(bytes(length)))
    _answer_with_loan([0, *placed.fields], changed)


def loan_twice(length: int, kinds: list[int]) -> None:
    """Answer with one loan, named several times."""
    from cloister.wire.scalars import _SEGMENT, SEGMENT_CODE

    placed = None
    while placed is None:
        placed = _exchange().lend(memoryview(bytes(length)))
    codec = Codec()
    leaves = [codec.packing.ext_type(SEGMENT_CODE, _SEGMENT.pack(kind, *placed.fields)) for kind in kinds]
    body = codec.packing.packer().pack([1, leaves])
    _write(descriptors.LANE_WRITER, b"".join(frames.serialize(Kind.REPLY, body)))
    _wait()


def many_loans(number: int, how: str, lent: Any = None) -> None:
    """Answer with so many loans of one segment, each of another slot, that are all to be copied; see `_leaf_of`.

    `lent` is an array of the host's; without one the segment is one that this guest writes.
    """
    from cloister.wire.scalars import _SEGMENT, SEGMENT_CODE

    data = memoryview(_stream(60_000)) if how in ("table", "polars") else memoryview(bytes(65_536))
    placed = None
    while placed is None:
        placed = _exchange().lend(data if lent is None else memoryview(lent))
    segment, offset, length, _, generation = placed.fields
    codec = Codec()
    kind = {"bytes": 0, "bytearray": 1}.get(how, 2) + 4 * placed.home
    sent = _exchange().lender._ledger.sent
    leaves = []
    for slot in range(number):
        sent[slot] = generation
        fields = _SEGMENT.pack(kind, segment, offset, length, slot, generation)
        leaves.append(_leaf_of(how, codec.packing.ext_type(SEGMENT_CODE, fields), length, codec))
    if how == "frame":
        leaves = _frame_of(leaves, length // 8, codec)
    body = codec.packing.packer().pack([1, leaves])
    _write(descriptors.LANE_WRITER, b"".join(frames.serialize(Kind.REPLY, body)))
    _wait()


def _leaf_of(how: str, loan: Any, length: int, codec: Codec) -> Any:
    """What holds a loan: nothing, a table, or the array of a column."""
    markers = containers.markers(codec.packing)
    if how == "table":
        return [markers[containers.TABLE], "table", loan]
    if how == "polars":
        return [markers[containers.POLARS], "frame", loan]
    if how in ("frame", "array"):
        return [markers[containers.ARRAY], "<f8", [length // 8], "C", loan]
    return loan


def _frame_of(columns: list[Any], length: int, codec: Codec) -> Any:
    names = ["range", 0, len(columns), 1, None]
    rows = ["range", 0, length, 1, None]
    plain = [["array", column] for column in columns]
    return [containers.markers(codec.packing)[containers.PANDAS], "frame", names, rows, plain, {}]


def _stream(length: int) -> bytes:
    import pyarrow

    table = pyarrow.table({"a": [0.0] * (length // 8)})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return bytes(sink.getvalue())


def loan_home(array: Any, *changed: Any) -> None:
    """Give back what the host has sent, and lie about one field of where it lies."""
    placed = _exchange().lend(memoryview(array))
    assert placed is not None
    assert placed.home
    _answer_with_loan([4, *placed.fields], changed)


def _answer_with_loan(fields: list[int], changed: tuple[Any, ...]) -> None:
    from cloister.wire.scalars import _SEGMENT, SEGMENT_CODE

    for position, value in zip(changed[::2], changed[1::2], strict=True):
        fields[position] = value
    codec = Codec()
    leaf = codec.packing.ext_type(SEGMENT_CODE, _SEGMENT.pack(*fields))
    body = codec.packing.packer().pack([1, leaf])
    _write(descriptors.LANE_WRITER, b"".join(frames.serialize(Kind.REPLY, body)))
    _wait()


def rubbish_ledger(length: int) -> int:
    """Write rubbish over all of the ledger; return how long the lent buffer is."""
    exchange = _exchange()
    exchange.lend(memoryview(bytes(length)))
    for ledger in (exchange.lender._ledger, exchange.borrower._ledger):
        for words in (ledger.sent, ledger.taken, ledger.returned):
            for slot in range(len(words)):
                words[slot] = random.getrandbits(32)
    return length


def _exchange() -> Any:
    import gc

    from cloister.guest.host_segments import HostSegments

    return next(found for found in gc.get_objects() if isinstance(found, HostSegments))


def tell_in_a_pool(number: int, told: list[Any]) -> int:
    """As an item of a pool's work: tell this before the answer. None gives the work back."""
    import sys

    from cloister.guest.tasks import Tasks

    frame: Any = sys._getframe()
    while not isinstance(frame.f_locals.get("self"), Tasks):
        frame = frame.f_back
    tell = frame.f_locals["self"].peer.teller()
    for value in told:
        tell(value, False)
    return number
