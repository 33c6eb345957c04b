"""The least that many calls take from Python: a child, two pipes, MessagePack, and nothing around them.

Here are a row of submitted calls, with a future of the standard library for each and a thread that reads the answers,
and a map in chunks. Neither has errors, time-outs, cancellation, objects or an end; both write many messages at once,
as cloister does. What cloister takes more is what these cost.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from importlib import import_module
from typing import Any

import msgpack

from benchmarks.harness import Entered

__all__ = ["mapped", "submitted"]

ROW = 128
"""Calls in one write."""
AHEAD = 16
"""Chunks of a map that are on their way."""
PIPE_BYTES = 1024 * 1024
"""What a pipe holds; Linux gives anybody as much."""
_head = struct.Struct("<I")


def serve(reader: int, writer: int, name: str) -> None:
    """The other side: a message is a list of numbered arguments, or a number and the items of a chunk."""
    module, _, function = name.partition(":")
    call = getattr(import_module(module), function)
    pack, data = msgpack.Packer().pack, bytearray()
    while received := os.read(reader, 65536):
        data += received
        answers = []
        for message in _messages(data):
            if type(message[0]) is int:
                answers.append(pack([message[0], list(map(call, message[1]))]))
            else:
                answers.append(pack([[number, call(*args)] for number, _, args, _ in message]))
        _write(writer, b"".join(_head.pack(len(answer)) + answer for answer in answers))


def _messages(data: bytearray) -> Iterator[Any]:
    """Take the whole messages out of `data`."""
    at = 0
    while len(data) - at >= 4:
        end = at + 4 + _head.unpack_from(data, at)[0]
        if end > len(data):
            break
        yield msgpack.unpackb(bytes(memoryview(data)[at + 4 : end]))
        at = end
    del data[:at]


def _write(writer: int, data: bytes) -> None:
    while data:
        data = data[os.write(writer, data) :]


@contextlib.contextmanager
def _child(name: str) -> Iterator[tuple[int, int, int]]:
    """A child that calls this function: where to read, where to write, its pid."""
    (their_reader, writer), (reader, their_writer) = os.pipe(), os.pipe()
    for end in (writer, their_writer):  # what is on its way fits, so neither waits to write while the other one does
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    code = f"from {__name__} import serve; serve({their_reader}, {their_writer}, {name!r})"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[their_reader, their_writer])
    os.close(their_reader)
    os.close(their_writer)
    try:
        yield reader, writer, process.pid
    finally:
        os.close(writer)
        process.wait(10)
        os.close(reader)


@contextlib.contextmanager
def submitted(name: str, calls: int) -> Iterator[Entered]:
    """A contestant that submits so many calls, waits for all of them, and gives the time of one."""
    with _child(name) as (reader, writer, pid):
        waiting: dict[int, Future[Any]] = {}

        def read() -> None:
            data = bytearray()
            while received := os.read(reader, 65536):
                data += received
                for message in _messages(data):
                    for number, result in message:
                        waiting.pop(number).set_result(result)

        def measure() -> list[float]:
            pack, row, futures = msgpack.Packer().pack, [], []
            begun = time.perf_counter()
            for number in range(calls):
                future: Future[Any] = Future()
                waiting[number] = future
                futures.append(future)
                row.append(pack([number, "add", [number], {}]))
                if len(row) == ROW or number == calls - 1:
                    body = b"".join((b"\xdc", struct.pack(">H", len(row)), *row))
                    _write(writer, _head.pack(len(body)) + body)
                    row = []
            results = [future.result() for future in futures]
            took = time.perf_counter() - begun
            assert results[-1] == calls
            return [took / calls]

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield measure, [pid]
    thread.join(10)


@contextlib.contextmanager
def mapped(name: str, items: list[Any], size: int) -> Iterator[Entered]:
    """A contestant that maps a function over items, and gives the time of one."""
    with _child(name) as (reader, writer, pid):
        pack = msgpack.Packer().pack

        def send(rest: Iterator[Any]) -> int:
            chunk = list(itertools.islice(rest, size))
            if chunk:
                body = pack([0, chunk])
                _write(writer, _head.pack(len(body)) + body)
            return bool(chunk)

        def measure() -> list[float]:
            begun = time.perf_counter()
            rest, data, results = iter(items), bytearray(), []
            away = sum(send(rest) for _ in range(AHEAD))
            while away:
                data += os.read(reader, 65536)
                for _, part in _messages(data):
                    results += part
                    away += send(rest) - 1
            took = time.perf_counter() - begun
            assert len(results) == len(items)
            return [took / len(items)]

        yield measure, [pid]
