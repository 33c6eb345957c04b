"""The nameless pipes between a host and a guest, on whatever platform this is: `duplex_posix`, or none.

There is no process level for Windows yet; there every function refuses. Any thread may enter.
"""

from __future__ import annotations

import socket
import sys
from typing import NoReturn

from cloister.errors import LevelUnavailable

__all__ = [
    "SHARED_PIPE_BYTES",
    "LaneEnd",
    "close_quietly",
    "control_pair",
    "lane_pair",
    "receive_with_descriptors",
    "receive_without_descriptors",
    "send_with_descriptors",
    "wake",
]

if sys.platform != "win32":
    from cloister.pipes.duplex_posix import SHARED_PIPE_BYTES as SHARED_PIPE_BYTES
    from cloister.pipes.duplex_posix import LaneEnd as LaneEnd
    from cloister.pipes.duplex_posix import close_quietly as close_quietly
    from cloister.pipes.duplex_posix import control_pair as control_pair
    from cloister.pipes.duplex_posix import lane_pair as lane_pair
    from cloister.pipes.duplex_posix import receive_with_descriptors as receive_with_descriptors
    from cloister.pipes.duplex_posix import receive_without_descriptors as receive_without_descriptors
    from cloister.pipes.duplex_posix import send_with_descriptors as send_with_descriptors
    from cloister.pipes.duplex_posix import wake as wake
else:  # another platform
    from typing import NamedTuple

    class LaneEnd(NamedTuple):
        """The two descriptors of one end of a lane; nobody makes one here."""

        reader: int
        writer: int

        def close(self) -> None:
            """Refuse."""
            _refuse()

    def _refuse() -> NoReturn:
        raise LevelUnavailable("the process level is not there on Windows yet; the named pipes of cloister.pipes are")

    def close_quietly(*descriptors: int) -> None:
        """Refuse."""
        _refuse()

    SHARED_PIPE_BYTES = 0

    def lane_pair(size: int = 0) -> tuple[LaneEnd, LaneEnd]:
        """Refuse."""
        _refuse()

    def control_pair() -> tuple[socket.socket, socket.socket]:
        """Refuse."""
        _refuse()

    def send_with_descriptors(channel: socket.socket, data: bytes, descriptors: tuple[int, ...]) -> int:
        """Refuse."""
        _refuse()

    def receive_with_descriptors(channel: socket.socket, size: int) -> tuple[bytes, list[int]]:
        """Refuse."""
        _refuse()

    def receive_without_descriptors(channel: socket.socket, size: int) -> tuple[bytes, bool]:
        """Refuse."""
        _refuse()

    def wake(reader: int) -> None:
        """Refuse."""
        _refuse()
