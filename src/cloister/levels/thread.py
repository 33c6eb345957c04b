"""The thread level: a guest on threads of this program, among the modules that are loaded here.

It gives objects of one's own and an orderly end; it holds back no crash and no code that does not want to end.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cloister.guest import inside
from cloister.levels.inside import Inside, leave

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd

__all__ = ["begin"]


def begin(name: str, control: tuple[socket.socket, socket.socket], lane: LaneEnd) -> Inside:
    """Start a guest and return at once. `control` is (host's end, guest's end), `lane` the guest's end of the first.

    Raises RuntimeError where no thread can be started; the guest's ends are closed then.
    """
    place = Inside(control[0], visible=True)
    try:
        place.start(lambda: inside.serve(control[1], lane, "thread"), name)
    except BaseException:
        leave(control[1], lane)
        raise
    return place
