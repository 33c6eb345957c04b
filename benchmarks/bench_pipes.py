"""Pipes: round trips and throughput at 64 B, 4 KiB and 1 MiB, against the C socket floor and multiprocessing.

Each contestant has a child process at the other end. They take turns in one run; what is timed is one round trip, or a
burst of messages one way with one answer at its end.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Placement, Table
from cloister import pipes

SIZES = {"64 B": 64, "4 KiB": 4096, "1 MiB": 1 << 20}
BURSTS = {64: 1000, 4096: 500, 1 << 20: 10}
ROUNDS = 12
TRIPS = {64: 400, 4096: 300, 1 << 20: 15}

CHILD = """
import sys
from multiprocessing import connection
from cloister import pipes
kind, place = sys.argv[1:]
if kind == "cloister":
    end = pipes.connect(place, 10, style="dotnet")
    read, write = end.read_message, end.write_message
else:
    end = connection.Client(place, "AF_UNIX")
    read, write = end.recv_bytes, end.send_bytes
try:
    while True:
        message = read()
        if message[0] == 101: write(message)
        elif message[0] == 97: write(b"a")
except EOFError:
    end.close()
"""

Samples = Callable[[str, int], list[float]]
"""Given "e" or "s" and a count, do it and return the times in seconds."""


def run() -> Iterator[Table]:
    """One table per question, size and placement."""
    for label, size in SIZES.items():
        for placement in harness.placements():
            yield _table(f"Pipe: round trip of {label}", "e", size, placement)
    for label, size in SIZES.items():
        yield _table(f"Pipe: one way, {label}", "s", size, "free")


def _table(title: str, what: str, size: int, placement: Placement) -> Table:
    messages = BURSTS[size] if what == "s" else 1
    with contextlib.ExitStack() as stack:
        contestants: dict[str, Samples] = {}
        try:
            contestants["C, Unix socket"] = stack.enter_context(_floor(size, placement))
        except harness.NotHere as reason:
            print(reason)
        children = []
        for kind in ("cloister", "multiprocessing"):
            samples, pid = stack.enter_context(_peer(kind, size))
            contestants["cloister.pipes" if kind == "cloister" else "multiprocessing.connection"] = samples
            children.append(pid)
        stack.enter_context(harness.place(placement, *children))
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(harness.rounds(ROUNDS)):
            for name, samples in contestants.items():
                times[name] += samples(what, messages if what == "s" else TRIPS[size])
    columns = harness.throughput(size, messages)
    return harness.table(title, times, placement=placement, extra=columns if what == "s" else None)


@contextlib.contextmanager
def _floor(size: int, placement: Placement) -> Iterator[Samples]:
    program = harness.compile_c(Path(__file__).with_name("floor_socket.c"))
    cpus = ["-1", "-1"]
    if placement != "free":
        first, second = sorted(os.sched_getaffinity(0))[:2]
        cpus = [str(first), str(first if placement == "same" else second)]
    command = [str(program), str(size), *cpus]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def samples(what: str, count: int) -> list[float]:
            stdin.write(f"{what} {count}\n".encode())
            stdin.flush()
            answers = 1 if what == "s" else count
            return list(struct.unpack(f"{answers}d", stdout.read(8 * answers)))

        yield samples


@contextlib.contextmanager
def _peer(kind: str, size: int) -> Iterator[tuple[Samples, int]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        place = f"{folder}/pipe"
        command = [sys.executable, "-c", CHILD, kind, place]
        if kind == "cloister":
            server = stack.enter_context(pipes.PipeServer(place, style="dotnet"))
            child = stack.enter_context(subprocess.Popen(command))
            pipe = stack.enter_context(server.accept(10))
            yield _sampler(pipe.read_message, pipe.write_message, size), child.pid
        else:
            listener = stack.enter_context(connection.Listener(place, "AF_UNIX"))
            child = stack.enter_context(subprocess.Popen(command))
            link = stack.enter_context(listener.accept())
            yield _sampler(link.recv_bytes, link.send_bytes, size), child.pid


def _sampler(read: Callable[[], bytes], write: Callable[[bytes], None], size: int) -> Samples:
    echo, sink, ask = (letter + bytes(size - 1) for letter in (b"e", b"s", b"a"))

    def samples(what: str, count: int) -> list[float]:
        clock = time.perf_counter
        if what == "s":
            start = clock()
            for _ in range(count - 1):
                write(sink)
            write(ask)
            read()
            return [clock() - start]
        times = []
        for _ in range(count):
            start = clock()
            write(echo)
            read()
            times.append(clock() - start)
        return times

    return samples
