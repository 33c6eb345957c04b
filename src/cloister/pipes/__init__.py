"""Named and nameless pipes: a duplex channel between two processes on one machine, without a port.

``PipeServer(name)`` serves, ``connect(name)`` meets it, ``pair()`` makes two ends without a name. The same for asyncio
is in `cloister.aio`. Start reading at `pipe`; the files from the top down:

``pipe``, ``server``, ``asynchronous``   what users hold
``claim``                                what servers have in common
``channel``, ``outbox``, ``framing``     messages, without input and output
``names``, ``deadline``                  rules for names and for time
``transport``, ``native``                what a platform must provide, and which one this is
``*_posix``, ``*_windows``               the platforms
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloister.pipes.framing import DEFAULT_MAX_MESSAGE, FramingName
    from cloister.pipes.names import Style
    from cloister.pipes.pipe import Pipe, connect, from_fd, pair
    from cloister.pipes.server import PipeServer
    from cloister.pipes.transport import Peer, Received

__all__ = [
    "DEFAULT_MAX_MESSAGE",
    "FramingName",
    "Peer",
    "Pipe",
    "PipeServer",
    "Received",
    "Style",
    "connect",
    "from_fd",
    "pair",
]

_HOMES = {
    "DEFAULT_MAX_MESSAGE": "framing",
    "FramingName": "framing",
    "Peer": "transport",
    "Pipe": "pipe",
    "PipeServer": "server",
    "Received": "transport",
    "Style": "names",
    "connect": "pipe",
    "from_fd": "pipe",
    "pair": "pipe",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: a guest, which has nameless pipes alone, loads nothing of the others."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
