"""cloister for asyncio: the same names, awaited."""

from __future__ import annotations

from cloister.pipes.asynchronous import Pipe, PipeServer, connect, from_fd, pair

__all__ = ["Pipe", "PipeServer", "connect", "from_fd", "pair"]
