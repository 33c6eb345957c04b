"""Files, opened here or handed over. Only guests import this."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from typing import Any

import cloister


def opened(path: str, mode: str = "rb", **options: Any) -> Any:
    """Open a file here."""
    return open(path, mode, **options)


def memory(content: bytes) -> io.BytesIO:
    """A file without a descriptor."""
    return io.BytesIO(content)


def facts(file: Any) -> list[object]:
    """What a file that came says of itself."""
    return [
        type(file).__name__,
        file.name,
        getattr(file, "mode", None),
        getattr(file, "encoding", None),
        file.readable(),
        file.writable(),
        cloister.is_proxy(file),
    ]


def read(file: Any, size: int = -1) -> Any:
    """Read from a file that came."""
    return file.read(size)


def lines(file: Any) -> list[Any]:
    """The lines of a file that came."""
    return list(file)


def write(file: Any, data: Any) -> int:
    """Write to a file that came, and close it."""
    with file:
        return int(file.write(data))


def wrapped(file: Any) -> str:
    """Read a binary file as text."""
    with io.TextIOWrapper(file, "utf-8") as text:
        return text.read()


def grasp(file: Any) -> list[str]:
    """What can be had of a file that is nobody's business."""
    found = []
    for name in ("getvalue", "getbuffer", "name", "raw"):
        try:
            thing = getattr(file, name)
            found.append(name if not callable(thing) else f"{name}() {thing()}")
        except AttributeError:
            pass
    return found


def say(sock: socket.socket, text: bytes) -> object:
    """Send on a socket that came."""
    with sock:
        sock.sendall(text)
        return [int(sock.family), int(sock.type), sock.gettimeout()]


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def ignore(*_: object) -> None:
    """Do nothing with what came."""


def allow_descriptors(more: bool) -> None:
    """Let this process open more descriptors, or not a single one."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 1024
    if not more:
        limit = os.dup(0)
        os.close(limit)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


async def read_awaited(file: Any) -> list[Any]:
    """Use a file of the host in a coroutine."""
    async with file:
        first = await asyncio.create_task(file.readline())
        lines = [line async for line in file]
        await file.seek(0)
        return [first, len(lines), len(await file.read())]
