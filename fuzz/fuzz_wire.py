"""Feed hostile bytes to the frames, the codec, rows and exceptions: each is accepted, or refused as documented.

Most inputs are encodings of good values with some bytes changed, cut, repeated, exchanged or blown up, or rows of calls
and answers; a third are good frames treated likewise, delivered in random pieces. One in 16 values goes through the
MessagePack that is written in Python.

    python fuzz/fuzz_wire.py --count 1000000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloister.errors import MarshalError, ProtocolError
from cloister.lanes.rows import CALLS, REPLIES, calls_frame, read_calls, read_replies, replies_frame
from cloister.wire.containers import Marker
from cloister.wire.exceptions import describe, exception_table, rebuild
from cloister.wire.frames import BODY, Frame, FrameDecoder, parse, serialize
from cloister.wire.packing import load_msgpack
from cloister.wire.values import Codec
from tests.wire.samples import REGISTRY, SAMPLES

GROWTH_BYTES = 256 * 1024 * 1024
"""More than this the process must not grow, whatever it was fed: a lying length would take more at once."""

# What a header begins with, and lengths that lie.
TOKENS = [bytes((byte,)) for byte in (0x80, 0x8F, 0x90, 0x91, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE0))] + [
    b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x02",
    b"\xdc\xff\xff", b"\xde\xff\xff", b"\x91" * 1200, b"\x81\xc0" * 600,
    *(b"\xd4\x01" + bytes((number,)) for number in range(32)),
    *(b"\xc7\x00" + bytes((code,)) for code in range(32)),
    *(b"\xd4" + bytes((code, 0xFF)) for code in range(32)),
    *(b"\xd8" + bytes((code,)) + b"\x7f" * 16 for code in range(32)),
    b"\xd6\xff\0\0\0\1", b"\xd7\xff" + b"\0" * 8, b"\xc7\x0c\xff" + b"\0" * 12,
]  # fmt: skip


class Fuzzer:
    """One run with one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.codecs = [Codec(registry=REGISTRY, packing=load_msgpack(pure=pure)) for pure in (False, True)]
        encode = Codec(registry=REGISTRY, outbound=lambda value: value).encode  # type: ignore[arg-type, return-value]  # only references get there
        values = [encode(value) for value in SAMPLES.values()]
        values += [encode([list(SAMPLES.values())[at : at + 9]]) for at in range(0, len(SAMPLES), 3)]
        try:
            raise ValueError("bad", (1, 2)) from KeyError("k")
        except ValueError as error:
            group = ExceptionGroup("several", [error, OSError(2, "gone", "name")])
            undecodable = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")
            values += [encode(describe(each)) for each in (error, group, undecodable)]
        self.values = [*values, *self._numpy()]
        self.frames = [b"".join(serialize(1 + at % 255, value)) for at, value in enumerate(values)]
        self.frames += [b"".join(serialize(2, value, [b"a" * at, bytearray(3)])) for at, value in enumerate(values)]
        calls = [
            encode([at, 5, "add", [at, "x"], {"of": None} if at % 3 else None, {"left": at}]) for at in range(1, 30)
        ]
        replies = [encode([at, {"a": [at, 1.5, None]} if at % 3 else at]) for at in range(1, 30)]
        self.rows = [calls_frame(calls[:at])[BODY] for at in (2, 5, 29)]
        self.rows += [replies_frame(replies[:at])[BODY] for at in (2, 5, 29)]
        self.table = exception_table(REGISTRY)
        self.outcomes: Counter[str] = Counter()

    def _numpy(self) -> list[bytes]:
        try:
            import numpy
        except ImportError:
            return []
        record = numpy.zeros(2, [("a", "<i4"), ("b", ">f8", (2,))])
        return [
            self.codecs[0].encode(value)
            for value in (numpy.arange(6.0).reshape(2, 3).T, record, numpy.float32(1.5), numpy.array(["a", "b"]))
        ]

    def mutate(self, data: bytes, others: list[bytes]) -> bytes:
        """Give `data` with one to four injuries, mostly one."""
        made = bytearray(data)
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            at = self.random.randrange(len(made) + 1)
            match self.random.randrange(8):
                case 0 | 1 if made:
                    made[at % len(made)] = self.random.randrange(256)
                case 2:
                    made[at:at] = self.random.choice(TOKENS)
                case 3:
                    token = self.random.choice(TOKENS)
                    made[at : at + len(token)] = token
                case 4:
                    del made[at : at + self.random.randint(1, 8)]
                case 5:
                    other = self.random.choice(others)
                    start = self.random.randrange(len(other) + 1)
                    made[at:] = other[start:]
                case 6:
                    made[at:at] = made[at : at + self.random.randint(1, 64)]
                case _ if made:
                    made[at % len(made)] ^= 1 << self.random.randrange(8)
        return bytes(made)

    def feed_value(self) -> None:
        """Give one input to the codec, and what it accepts to the exceptions."""
        if self.random.randrange(50):
            data = self.mutate(self.random.choice(self.values), self.values)
        else:
            data = self.random.randbytes(self.random.randrange(64))
        codec = self.codecs[0 if self.random.randrange(16) else 1]
        try:
            value = codec.decode(data, (memoryview(b"12345678"),) if self.random.randrange(2) else ())
        except ProtocolError:
            self.outcomes["value refused: ProtocolError"] += 1
            return
        except MarshalError:
            self.outcomes["value refused: MarshalError"] += 1
            return
        self.outcomes["value accepted"] += 1
        if type(value) is Marker:
            raise AssertionError(f"a marker came out of {data!r}")
        if type(value) is dict:
            try:
                rebuild(value, self.table)
            except ProtocolError:
                self.outcomes["exception refused: ProtocolError"] += 1
            else:
                self.outcomes["exception accepted"] += 1

    def feed_row(self) -> None:
        """Give one input to what reads rows, as calls or as answers."""
        data = self.mutate(self.random.choice(self.rows), self.rows)
        codec = self.codecs[0 if self.random.randrange(16) else 1]
        try:
            if self.random.randrange(2):
                for at, call in enumerate(read_calls(codec, Frame(CALLS, 0, data), 1), 1):
                    if call.number != at or {type(key) for key in call.kwargs} - {str}:
                        raise AssertionError(f"{call} came out of {data!r}")
            else:
                for number, _ in read_replies(codec, Frame(REPLIES, 0, data), 1 << 40):
                    if not 0 < number <= 1 << 40:
                        raise AssertionError(f"call {number} came out of {data!r}")
        except ProtocolError:
            self.outcomes["row refused: ProtocolError"] += 1
        else:
            self.outcomes["row accepted"] += 1

    def feed_frames(self) -> None:
        """Give a few frames, some of them injured, to a decoder, in random pieces."""
        stream = b"".join(self.random.choices(self.frames, k=self.random.randint(1, 4)))
        if self.random.randrange(8):
            stream = self.mutate(stream, self.frames)
        decoder = FrameDecoder()
        at = 0
        try:
            while at < len(stream):
                size = self.random.choice((1, 7, 64, 4096))
                decoder.feed(stream[at : at + size])
                at += size
                while (frame := decoder.next_frame()) is not None:
                    self.outcomes["frame accepted"] += 1
                    quick = parse(b"".join(serialize(frame.kind, frame.body, frame.buffers, frame.flags)))
                    if quick is not None and quick != frame:
                        raise AssertionError(f"two ways to read it: {quick} and {frame}")
            decoder.finish()
        except ProtocolError:
            self.outcomes["stream refused: ProtocolError"] += 1
        else:
            self.outcomes["stream accepted"] += 1


def peak_bytes() -> int:
    """Give the largest size that this process ever had, or 0 where the platform does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(count: int, seed: int) -> Counter[str]:
    """Feed `count` inputs, with a new generator every 50,000. Raises what is not documented; its note says the seed."""
    outcomes: Counter[str] = Counter()
    before = peak_bytes()
    for first in range(0, count, 50_000):
        fuzzer = Fuzzer(seed + first // 50_000)
        at = 0
        try:
            for at in range(min(50_000, count - first)):
                if at % 12 == 1:
                    fuzzer.feed_row()
                elif at % 3:
                    fuzzer.feed_value()
                else:
                    fuzzer.feed_frames()
        except Exception as error:
            error.add_note(f"input {at} of --seed {seed + first // 50_000}")
            raise
        outcomes += fuzzer.outcomes
    grown = peak_bytes() - before
    outcomes["MiB grown at most"] = grown // (1 << 20)
    if grown > GROWTH_BYTES:
        raise AssertionError(f"the process grew by {grown:,} bytes")
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for outcome, number in sorted(run(arguments.count, arguments.seed).items()):
        print(f"{number:>12,}  {outcome}")
    print(f"{arguments.count:>12,}  inputs, each accepted, or refused as documented")
