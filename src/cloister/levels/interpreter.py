"""The interpreter level: a guest in an interpreter of its own, on a thread of this program (PEP 734).

It has its own modules, its own `sys.path` and its own interpreter lock; a crash of native code is a crash of the
program. It needs Python 3.14: on 3.12 and 3.13 each interpreter leaks 1.7 MiB, and destroying one can abort the
process.

Two things go wrong with CPython 3.14 while there is another interpreter. A child that is forked crashes, so a fork is
warned of. A program that ends waits for a thread in there, perhaps for ever, so such an end is bounded.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

from cloister.errors import LevelUnavailable
from cloister.levels.inside import Inside, leave
from cloister.pipes.duplex import close_quietly
from cloister.wire.packing import msgpack_directory

if TYPE_CHECKING:
    from cloister.pipes.duplex import LaneEnd

__all__ = ["available", "begin", "bound_exit", "require"]

EXIT_S = 2.0
"""How long a program that ends waits for an interpreter whose code goes on."""

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
from cloister import calling
calling.begin_interpreter(number)
import socket
from cloister.guest import inside
from cloister.pipes.duplex import LaneEnd
from cloister.pipes.page import Page
inside.serve(socket.socket(fileno=control), LaneEnd(reader, writer), "interpreter", Page(page))
"""


_log = logging.getLogger("cloister")
_lock = threading.Lock()
_living: list[str] = []
"""The domains with an interpreter of this process's, by name."""
_warns = False


def require() -> None:
    """Raise LevelUnavailable where this Python does not have the level."""
    if not available:
        version = ".".join(map(str, sys.version_info[:3]))
        raise LevelUnavailable(
            f"the level 'interpreter' needs Python 3.14 or later; this is {version}, where an interpreter leaks 1.7 MiB"
            " and destroying it can abort the process. Use level='process'"
        )


def begin(name: str, control: tuple[socket.socket, socket.socket], lane: LaneEnd, page: int) -> Inside:
    """Start a guest and return at once. `control` is (host's end, guest's end), `lane` the guest's end of the first.

    `page` is the descriptor of the shared page, which belongs to the guest from here on.

    Raises RuntimeError where no thread can be started; the guest's ends are closed then.
    """
    require()
    place = Inside(control[0], visible=False)
    _watch_forks()
    try:
        place.start(lambda: _run(name, control[1], lane, page), name)
    except BaseException:
        leave(control[1], lane)
        close_quietly(page)
        raise
    return place


def bound_exit(names: list[str]) -> None:
    """The program ends, and code of these domains goes on: end the process if they hold it up for too long.

    Then its exit code is 1. It is the last thing that is done in order; a thread without an interpreter does the rest.
    """
    import faulthandler  # not where this file is loaded: a sub-interpreter refuses it

    _log.error(
        "code of %s goes on in an interpreter of its own and holds up the end of the program, which is ended in %g s,"
        " with exit code 1",
        ", ".join(map(repr, names)),
        EXIT_S,
    )
    faulthandler.dump_traceback_later(EXIT_S, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115 - until the end


def _watch_forks() -> None:
    global _warns
    with _lock:
        if not _warns and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_warn_of_fork)
        _warns = True


def _warn_of_fork() -> None:
    if _living:
        warnings.warn(
            f"this program forks while {_living[0]!r} has an interpreter of its own, and with CPython 3.14 the child"
            " crashes; unload such domains before, use subprocess, or level='process'",
            RuntimeWarning,
            stacklevel=2,
        )


def _run(name: str, channel: socket.socket, lane: LaneEnd, page: int) -> None:
    """Run the guest in an interpreter, and close that."""
    from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]  # there from 3.14 on

    try:
        interpreter: Any = interpreters.create()
    except BaseException:
        leave(channel, lane)
        close_quietly(page)
        raise
    _living.append(name)
    try:
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        interpreter.prepare_main(
            folder=folder,
            number=interpreter.id,
            msgpack=msgpack_directory(),
            control=channel.detach(),
            reader=lane.reader,
            writer=lane.writer,
            page=page,
        )
        interpreter.exec(_BOOT)
    finally:
        close_quietly(page)
        interpreter.close()
        _living.remove(name)
