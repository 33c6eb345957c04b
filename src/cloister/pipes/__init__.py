"""Named and nameless pipes: a duplex channel between two processes on one machine, without a port.

``PipeServer(name)`` serves, ``connect(name)`` meets it, ``pair()`` makes two ends without a name. The same for asyncio
is in `cloister.aio`. Start reading at `pipe`; the files from the top down:

``pipe``, ``server``, ``asynchronous``   what users hold
``channel``, ``outbox``, ``framing``     messages, without input and output
``names``, ``deadline``                  rules for names and for time
``transport``, ``native``                what a platform must provide, and which one this is
``*_posix``, ``*_windows``, ``*_memory`` the platforms
"""

from __future__ import annotations

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
