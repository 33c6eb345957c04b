"""A call into another process: `add(int) -> int` on a proxy, against the C socket floor, a bare lane, and the peers.

The bare lane is what a call could cost from Python at best: two pipes, MessagePack, and the rule of the busy wait,
without objects, errors, time-outs or threads. Each contestant has a child process at the other end, and they take turns
in one run. Many calls at once are in `bench_pipelined`, many threads in `bench_threads`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgpack

import cloister
from benchmarks import harness, peers
from benchmarks.harness import Contestant, Entered, NotHere, Placement, Row, Table

ROUNDS = 12
CALLS = 400
SPIN_NS = 20_000
LOOK_EVERY = 64

Call = Callable[[int], int]
AIMS = {"same": 1.5, "diff": 0.12, "free": 0.25}
P99_AIM = 0.5
SILENCE_AIM = 2.0
SILENCE_S = 0.001


def run() -> Iterator[Table]:
    """Two tables for each placement, and one for calls after a silence."""
    for placement in harness.placements():
        yield from _tables(placement)
    yield _after_silence()


def _contestants(placement: Placement) -> dict[str, Contestant]:
    return {
        "C, Unix socket": partial(floor, placement),
        "bare lane in Python": _bare_lane,
        "cloister, proxied call": proxied,
        "multiprocessing Connection": partial(_peer, peers.connection),
        "multiprocessing manager": partial(_peer, peers.manager),
        "zmq": partial(_peer, peers.zmq),
        "Pyro5": partial(_peer, peers.pyro),
        "execnet": partial(_peer, peers.execnet),
        "RPyC": partial(_peer, peers.rpyc),
    }


def _tables(placement: Placement) -> Iterator[Table]:
    """The medians, and the same calls by their 99th percentile."""
    made = harness.contest(
        "Call: add(int) -> int",
        _contestants(placement),
        rounds=harness.rounds(ROUNDS),
        placement=placement,
        aims={"cloister, proxied call": AIMS[placement]},
        extra=lambda _, seconds: {"calls/s": 1 / seconds},
    )
    yield made
    rows = [
        replace(row, median=row.p99, ratio=row.p99 / made.rows[0].p99, extra={}, aim=_p99_aim(row, placement))
        for row in made.rows
    ]
    yield replace(made, title="Call: the 99th percentile", rows=rows, missing={})


def _p99_aim(row: Row, placement: Placement) -> float | None:
    return P99_AIM if placement == "free" and row.aim is not None else None


def _after_silence() -> Table:
    """What a call takes that comes after a millisecond in which nothing happened."""
    return harness.contest(
        "Call: after 1 ms of silence",
        {
            "C, Unix socket": _silent_floor,
            "bare lane in Python": partial(_bare_lane, SILENCE_S),
            "cloister, proxied call": partial(proxied, SILENCE_S),
            "multiprocessing manager": partial(_peer, peers.manager, SILENCE_S),
        },
        rounds=harness.rounds(ROUNDS),
        placement="free",
        aims={"cloister, proxied call": SILENCE_AIM},
    )


def _timed(call: Call, silence: float = 0.0) -> Callable[[], list[float]]:
    def calls() -> list[float]:
        clock = time.perf_counter
        times = []
        for number in range(CALLS if not silence else CALLS // 8):
            if silence:
                time.sleep(silence)
            begun = clock()
            result = call(number)
            times.append(clock() - begun)
            if result != number + 1:
                raise AssertionError(result)
        return times

    return calls


# -- the contestants ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def floor(placement: Placement, what: str = "e", count: int = CALLS) -> Iterator[Entered]:
    program = harness.compile_c(Path(__file__).with_name("floor_socket.c"))
    cpus = ["-1", "-1"]
    if placement != "free":
        first, second = sorted(os.sched_getaffinity(0))[:2]
        cpus = [str(first), str(first if placement == "same" else second)]
    with subprocess.Popen([str(program), "8", *cpus], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def calls() -> list[float]:
            stdin.write(f"{what} {count}\n".encode())
            stdin.flush()
            return list(struct.unpack(f"{count}d", stdout.read(8 * count)))

        yield calls, []


def _silent_floor() -> contextlib.AbstractContextManager[Entered]:
    return floor("free", "w", CALLS // 8)


@contextlib.contextmanager
def proxied(silence: float = 0.0) -> Iterator[Entered]:
    with cloister.Domain("bench") as domain:
        adder = domain.create(peers.ADDER)
        adder.add(1)
        yield _timed(adder.add, silence), [_pid(domain)]


def _pid(domain: cloister.Domain) -> int:
    assert domain.pid is not None
    return domain.pid


@contextlib.contextmanager
def _peer(
    peer: Callable[[], contextlib.AbstractContextManager[peers.Maker]], silence: float = 0.0
) -> Iterator[Entered]:
    with peer() as (connect, pid), connect() as call:
        yield _timed(call, silence), [pid]


class Bare:
    """One end of a bare lane: send a list, receive a list."""

    def __init__(self, reader: int, writer: int, page: int, side: int) -> None:
        self._reader, self._writer = reader, writer
        self._cpus = memoryview(mmap.mmap(page, 4096)).cast("H")
        self._side = side
        self._current_cpu = ctypes.CDLL(None).sched_getcpu
        self._countdown, self._spin, self._probe = 0, False, bytearray(4)

    def send(self, message: list[Any]) -> None:
        os.write(self._writer, msgpack.packb(message))

    def receive(self) -> list[Any]:
        self._countdown -= 1
        if self._countdown < 0:
            self._countdown = LOOK_EVERY
            own = self._cpus[self._side] = self._current_cpu() + 1
            self._spin = self._cpus[1 - self._side] not in (0, own)
        if self._spin:
            give_up = time.perf_counter_ns() + SPIN_NS
            while True:
                fcntl.ioctl(self._reader, termios.FIONREAD, self._probe)
                if self._probe[0] or time.perf_counter_ns() > give_up:
                    break
        message: list[Any] = msgpack.unpackb(os.read(self._reader, 65536))
        return message

    def serve(self) -> None:
        """Serve calls until the other end is closed."""
        methods = {"add": peers.add}
        while True:
            try:
                number, name, argument = self.receive()
            except ValueError:
                return
            self.send([number, methods[name](argument)])


@contextlib.contextmanager
def _bare_lane(silence: float = 0.0) -> Iterator[Entered]:
    if sys.platform != "linux":
        raise NotHere("the bare lane is written for Linux")
    (down_reader, down_writer), (up_reader, up_writer) = os.pipe(), os.pipe()
    page = os.memfd_create("bench")
    os.truncate(page, 4096)
    theirs = (down_reader, up_writer, page)
    code = f"from {__name__} import Bare; Bare({down_reader}, {up_writer}, {page}, 1).serve()"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=theirs)
    lane = Bare(up_reader, down_writer, page, 0)
    for fd in theirs:
        os.close(fd)

    def call(number: int) -> int:
        lane.send([number, "add", number])
        answered, result = lane.receive()
        assert answered == number
        return int(result)

    try:
        call(1)
        yield _timed(call, silence), [process.pid]
    finally:
        os.close(down_writer)
        process.wait(10)
        os.close(up_reader)
