"""The interpreter level: a guest in an interpreter of its own, on a thread of this program (PEP 734).

It has its own modules, its own `sys.path` and its own interpreter lock; a crash of native code is a crash of the
program. It needs Python 3.14: on 3.12 and 3.13 each interpreter leaks 1.7 MiB, and destroying one can abort the
process.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from cloister.errors import LevelUnavailable
from cloister.levels.inside import Inside, leave
from cloister.wire.packing import msgpack_directory

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd

__all__ = ["available", "begin", "require"]

available = sys.version_info >= (3, 14)
"""Whether this Python has the level."""

_BOOT = """\
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("cloister", folder + "/__init__.py", submodule_search_locations=[folder])
module = sys.modules["cloister"] = module_from_spec(spec)
spec.loader.exec_module(module)
from cloister.wire.packing import load_msgpack
load_msgpack(directory=msgpack)
import socket
from cloister.guest import inside
from cloister.pipes.duplex import LaneEnd
inside.serve(socket.socket(fileno=control), LaneEnd(reader, writer), "interpreter")
"""


def require() -> None:
    """Raise LevelUnavailable where this Python does not have the level."""
    if not available:
        version = ".".join(map(str, sys.version_info[:3]))
        raise LevelUnavailable(
            f"the level 'interpreter' needs Python 3.14 or later; this is {version}, where an interpreter leaks 1.7 MiB"
            " and destroying it can abort the process. Use level='process'"
        )


def begin(name: str, control: tuple[socket.socket, socket.socket], lane: LaneEnd) -> Inside:
    """Start a guest and return at once. `control` is (host's end, guest's end), `lane` the guest's end of the first.

    Raises RuntimeError where no thread can be started; the guest's ends are closed then.
    """
    require()
    place = Inside(control[0], visible=False)
    try:
        place.start(lambda: _run(control[1], lane), name)
    except BaseException:
        leave(control[1], lane)
        raise
    return place


def _run(channel: socket.socket, lane: LaneEnd) -> None:
    """Run the guest in an interpreter, and close that."""
    from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]  # there from 3.14 on

    try:
        interpreter: Any = interpreters.create()
    except BaseException:
        leave(channel, lane)
        raise
    try:
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        interpreter.prepare_main(
            folder=folder, msgpack=msgpack_directory(), control=channel.detach(), reader=lane.reader, writer=lane.writer
        )
        interpreter.exec(_BOOT)
    finally:
        interpreter.close()
