"""A call into another process: `add(int) -> int` on a proxy, against the C socket floor, a bare lane, and the peers.

The bare lane is what a call could cost from Python at best: two pipes, MessagePack, and the rule of the busy wait,
without objects, errors, time-outs or threads. Each contestant has a child process at the other end, and they take turns
in one run. The second question is many calls at once, against `ProcessPoolExecutor`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import multiprocessing
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import msgpack

import cloister
from benchmarks import harness
from benchmarks.harness import NotHere, Placement, Row, Table

ROUNDS = 12
CALLS = 400
MANY = 2000
SPIN_NS = 20_000
LOOK_EVERY = 64

Call = Callable[[int], int]
Contestant = Callable[[Placement], contextlib.AbstractContextManager[tuple[Callable[[int], list[float]], int | None]]]
"""Entered, it gives a function that makes so many calls and returns their times in seconds, and the child to place."""


class Adder:
    """What is called."""

    def add(self, number: int) -> int:
        return number + 1


def add(number: int) -> int:
    return number + 1


def run() -> Iterator[Table]:
    """One table for each placement, and one for many calls at once."""
    for placement in harness.placements():
        yield _table(placement)
    yield _many()


def _table(placement: Placement) -> Table:
    contestants: dict[str, Contestant] = {
        "C, Unix socket": _floor,
        "bare lane in Python": _bare_lane,
        "cloister, proxied call": _cloister,
        "multiprocessing manager": _manager,
        "RPyC": _rpyc,
        "Pyro5": _pyro,
    }
    with contextlib.ExitStack() as stack:
        entered: dict[str, Callable[[int], list[float]]] = {}
        children: list[int] = []
        for name, contestant in contestants.items():
            try:
                entered[name], child = stack.enter_context(contestant(placement))
            except NotHere as reason:
                print(f"{name}: {reason}")
            else:
                children += [] if child is None else [child]
        stack.enter_context(harness.place(placement, *children))
        times: dict[str, list[float]] = {name: [] for name in entered}
        for calls in entered.values():
            calls(CALLS)
        for _ in range(ROUNDS):
            for name, calls in entered.items():
                times[name] += calls(CALLS)
    return _compared("Call: add(int) -> int", times, placement)


def _compared(title: str, times: dict[str, list[float]], placement: Placement) -> Table:
    floor = next(iter(times))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    rows = [
        Row(
            name,
            medians[name] * 1e6,
            sorted(taken)[len(taken) * 99 // 100] * 1e6,
            medians[name] / medians[floor],
            len(taken),
            {"calls/s": 1 / medians[name]},
        )
        for name, taken in times.items()
    ]
    return Table(title, floor, rows, placement)


def _timed(call: Call) -> Callable[[int], list[float]]:
    def calls(count: int) -> list[float]:
        clock = time.perf_counter
        times = []
        for number in range(count):
            begun = clock()
            result = call(number)
            times.append(clock() - begun)
            if result != number + 1:
                raise AssertionError(result)
        return times

    return calls


# -- the contestants ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _floor(placement: Placement) -> Iterator[tuple[Callable[[int], list[float]], int | None]]:
    program = harness.compile_c(Path(__file__).with_name("floor_socket.c"))
    cpus = ["-1", "-1"]
    if placement != "free":
        first, second = sorted(os.sched_getaffinity(0))[:2]
        cpus = [str(first), str(first if placement == "same" else second)]
    with subprocess.Popen([str(program), "16", *cpus], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def calls(count: int) -> list[float]:
            stdin.write(f"e {count}\n".encode())
            stdin.flush()
            return list(struct.unpack(f"{count}d", stdout.read(8 * count)))

        yield calls, None


@contextlib.contextmanager
def _cloister(_: Placement) -> Iterator[tuple[Callable[[int], list[float]], int | None]]:
    with cloister.Domain("bench") as domain:
        adder = domain.create(f"{__name__}:Adder")
        adder.add(1)
        yield _timed(adder.add), domain.pid


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
        methods = {"add": add}
        while True:
            try:
                number, name, argument = self.receive()
            except ValueError:
                return
            self.send([number, methods[name](argument)])


@contextlib.contextmanager
def _bare_lane(_: Placement) -> Iterator[tuple[Callable[[int], list[float]], int | None]]:
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
        yield _timed(call), process.pid
    finally:
        os.close(down_writer)
        process.wait(10)
        os.close(up_reader)


class _Manager(BaseManager):
    pass


_Manager.register("Adder", Adder)


@contextlib.contextmanager
def _manager(_: Placement) -> Iterator[tuple[Callable[[int], list[float]], int | None]]:
    with _Manager(ctx=multiprocessing.get_context("spawn")) as manager:
        adder = manager.Adder()  # type: ignore[attr-defined]  # made by register
        process = manager._process  # type: ignore[attr-defined]  # there is no public way to its pid
        yield _timed(adder.add), process.pid


RPYC = """
import sys, rpyc
from rpyc.utils.server import ThreadedServer
class Service(rpyc.Service):
    def exposed_add(self, number): return number + 1
server = ThreadedServer(Service, socket_path=sys.argv[1])
server._listen()  # so that it can be told when a client may come
print(flush=True)
server.start()
"""

PYRO = """
import sys, Pyro5.api
@Pyro5.api.expose
class Adder:
    def add(self, number): return number + 1
daemon = Pyro5.api.Daemon(unixsocket=sys.argv[1])
print(daemon.register(Adder(), "adder"), flush=True)
daemon.requestLoop()
"""


@contextlib.contextmanager
def _server(program: str) -> Iterator[tuple[str, str, int]]:
    """Run a server at a socket; give the socket's path, what the server printed, and its pid."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield path, process.stdout.readline().strip(), process.pid
            finally:
                process.terminate()


@contextlib.contextmanager
def _rpyc(_: Placement) -> Iterator[tuple[Callable[[int], list[float]], int | None]]:
    try:
        from rpyc.utils.factory import unix_connect
    except ImportError:
        raise NotHere("RPyC is not installed; it is in the group `bench`") from None
    with _server(RPYC) as (path, _line, pid), contextlib.closing(unix_connect(path)) as connection:
        yield _timed(connection.root.add), pid


@contextlib.contextmanager
def _pyro(_: Placement) -> Iterator[tuple[Callable[[int], list[float]], int | None]]:
    try:
        from Pyro5.api import Proxy
    except ImportError:
        raise NotHere("Pyro5 is not installed; it is in the group `bench`") from None
    with _server(PYRO) as (_path, uri, pid), Proxy(uri) as adder:
        yield _timed(adder.add), pid


# -- many at once ------------------------------------------------------------------------------------------------------


def _many() -> Table:
    """The time per call where very many are open at once, and per item of a map."""
    target = f"{__name__}:add"
    with cloister.Domain("bench") as domain, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        domain.submit(target, 1).result()
        pool.submit(add, 1).result()

        def submitted(submit: Callable[..., Any], what: Any) -> float:
            begun = time.perf_counter()
            futures = [submit(what, number) for number in range(MANY)]
            for future in futures:
                future.result()
            return (time.perf_counter() - begun) / MANY

        def mapped(function: Callable[..., Any], what: Any) -> float:
            begun = time.perf_counter()
            for _ in function(what, range(10 * MANY), chunksize=512):
                pass
            return (time.perf_counter() - begun) / (10 * MANY)

        contestants: dict[str, Callable[[], float]] = {
            "ProcessPoolExecutor.submit": lambda: submitted(pool.submit, add),
            "cloister, submit": lambda: submitted(domain.submit, target),
            "ProcessPoolExecutor.map": lambda: mapped(pool.map, add),
            "cloister, map": lambda: mapped(domain.map, target),
        }
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(ROUNDS // 2):
            for name, contestant in contestants.items():
                times[name].append(contestant())
    return _compared("Many calls: one of them, or one item of a map in chunks of 512", times, "free")
