"""Open files and sockets on their way from a host to its guest: the descriptor itself travels.

Here a file is taken apart and put together again; how its descriptor gets there is the control channel's business. The
two files share one position and one set of flags, because they share what the kernel has opened. What the host's file
had buffered is given back to the kernel before (a pipe can't take it back: what was read ahead from one stays). The
descriptor is a grant of that file alone, and of what its mode allows.

A guest's descriptors never travel up: a host that reads one would wait, or fault, whenever the guest likes.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
from typing import Any, Final

from cloister.errors import MarshalError

__all__ = ["Arrivals", "pack", "unpack"]

PATIENCE_S: Final = 30.0
"""How long a frame may be ahead of the descriptor that it needs. They go different ways, and it comes first."""

_BUFFERED: Final[dict[type, str]] = {
    io.BufferedReader: "reader",
    io.BufferedWriter: "writer",
    io.BufferedRandom: "random",
}
_KINDS: Final[dict[str, Any]] = {"raw": lambda raw: raw, **{name: kind for kind, name in _BUFFERED.items()}}


class Arrivals:
    """The descriptors that have arrived and whose frames have not; in a guest. Any thread may enter."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._here: dict[int, int | None] = {}

    def take_in(self, token: int, fd: int | None) -> None:
        """Keep a descriptor until it is taken or forgotten; None for one that the system did not let in."""
        with self._changed:
            self._here[token] = fd
            self._changed.notify_all()

    def forget(self, tokens: list[int]) -> None:
        """Close those that nobody will take any more."""
        with self._changed:
            for token in tokens:
                fd = self._here.pop(token, None)
                if fd is not None:
                    os.close(fd)

    def take(self, token: int) -> int:
        """The descriptor of a token, for the caller to close. Raises MarshalError where it does not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: token in self._here, PATIENCE_S):
                raise MarshalError("the descriptor of a file did not arrive")
            fd = self._here.pop(token)
        if fd is None:
            raise MarshalError("the descriptor of a file was lost: this process may open no more of them")
        return fd


def pack(value: Any) -> tuple[int, list[Any]] | None:
    """The descriptor of a file or socket, still its own, and what else its twin is made of; None for anything else.

    Raises MarshalError where it is closed, or its position can't be told.
    """
    cls = type(value)
    temporary = sys.modules.get("tempfile")
    if temporary is not None and cls is temporary._TemporaryFileWrapper:
        value, cls = value.file, type(value.file)
    try:
        if cls is socket.socket:
            return value.fileno(), ["socket", int(value.family), int(value.type), value.proto, value.gettimeout()]
        if cls is io.FileIO:
            return value.fileno(), ["raw", _mode(value), _name(value)]
        if cls in _BUFFERED and type(value.raw) is io.FileIO:
            _give_back(value)
            return value.fileno(), [_BUFFERED[cls], _mode(value.raw), _name(value)]
        if cls is io.TextIOWrapper and type(value.buffer) in _BUFFERED and type(value.buffer.raw) is io.FileIO:
            if value.seekable() and value.readable():
                value.seek(value.tell())  # before any flush: after one it no longer knows that it can't tell
            value.flush()
            _give_back(value.buffer)
            below = [_BUFFERED[type(value.buffer)], _mode(value.buffer.raw), _name(value)]
            text = [value.encoding, value.errors, value.line_buffering, value.write_through]
            return value.fileno(), ["text", *below, getattr(value, "mode", "r"), *text]
    except (OSError, ValueError) as error:
        raise MarshalError(f"{value!r} can't be handed over: {error}") from error
    return None


def _give_back(file: Any) -> None:
    """Let the kernel know the position: write what waits, and forget what was read ahead."""
    if not isinstance(file, io.BufferedReader):
        file.flush()
    if file.seekable() and file.readable():
        position = file.tell()
        file.seek(0, io.SEEK_END)  # out of what it holds, so that it forgets that
        file.seek(position)


def _mode(raw: io.FileIO) -> str:
    return raw.mode.replace("x", "w")


def _name(file: Any) -> str | int:
    name = getattr(file, "name", "")
    return name if type(name) in (str, int) else os.fsdecode(name)


def unpack(fd: int, parts: list[Any]) -> Any:
    """Make the twin of a file or socket. It owns the descriptor, which is closed where none can be made."""
    owner: Any = None
    try:
        kind, *rest = parts
        if kind == "socket":
            family, type_, protocol, timeout = rest
            owner = socket.socket(family, type_, protocol, fileno=fd)
            owner.settimeout(timeout)
            return owner
        below, mode, name, *text = parts if kind != "text" else rest
        made = _KINDS[below]
        owner = io.FileIO(fd, mode)
        owner.name = name
        owner = made(owner)
        if kind != "text":
            return owner
        mode, encoding, errors, line_buffering, write_through = text
        owner = io.TextIOWrapper(owner, encoding, errors, None, line_buffering, write_through)
        owner.mode = mode
        return owner
    except Exception as error:
        if owner is None:
            os.close(fd)
        else:
            owner.close()
        raise MarshalError(f"the file can't be had here: {type(error).__name__}: {error}") from error
