"""A conversation that a template has with itself before it forks, so that its guests need not begin with anything.

Python fills caches and rewrites its own bytecode while it runs for the first times. What was done before a fork need
not be done in each guest, and the pages on which it was done stay shared. Nothing of the user's runs, and nothing of it
is left but what is faster. Runs on the main thread.

To put the code of all functions that ran side by side, by making it anew, was tried: as many pages were copied.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from cloister import long_waits
from cloister.guest import local
from cloister.guest.boot import Guest
from cloister.guest.control import Control
from cloister.guest.interrupts import MainThread
from cloister.objects import commons, targets
from cloister.pipes.duplex import close_quietly, lane_pair
from cloister.pipes.page import Page
from cloister.wire import frames
from cloister.wire.messages import SERVICE, Kind
from cloister.wire.values import Codec

if TYPE_CHECKING:
    from cloister.guest.threads import Threads

__all__ = ["TIMES", "rehearse"]

TIMES: Final = 16
"""Python rewrites code that has run eight times, and looks for what suits it a few times more."""
CALLS: Final = 4
"""How often each call is made each time."""
_NAMESPACE: Final = "__cloister_rehearsal__"


def rehearse(times: int = TIMES) -> None:
    """Be a guest of nobody, from the fork to the end, so many times over."""
    after_fork = (getattr(threading, "_after_fork", None), getattr(logging, "_after_at_fork_child_reinit_locks", None))
    try:
        for _ in range(times):
            for hook in after_fork if times > 1 else ():
                if hook is not None:
                    hook()
            _come_up_once()
    finally:
        sys.modules.pop(_NAMESPACE, None)
        local.enter(local.Place("", -1))
        commons.take_from(None)
        long_waits.connect(None)


class _Control(Control):
    """A control channel without a thread."""

    def start_thread(self, threads: Threads) -> None:
        """Do what the thread begins with; the main thread ends when its lane does."""
        self._beat()
        self._stop()


class _Guest(Guest):
    """A guest that hears nothing of what is logged or raised."""

    def hear(self) -> None:
        """What is heard is heard for good."""


def _come_up_once() -> None:
    opened: list[int] = []
    host, channel = socket.socketpair()
    with host, channel:
        try:
            mine, its = lane_pair()
            opened += (*mine, *its)
            _, page = Page.create()
            opened.append(page)
            host.send(b"".join(frames.serialize(Kind.SETUP, Codec().encode([_setup()]))))
            control = _Control(channel)
            control.hold()
            control.greet()
            guest = _Guest(control, MainThread(), namespace=_NAMESPACE)
            guest.forked = True
            conversation = guest.converse()
            for _ in range(CALLS):
                for name, args in (("call", (targets.to_plain("os:getpid", targets.VERSION), [], {})), ("ping", ())):
                    for piece in conversation.ask(SERVICE, name, args, None):
                        os.write(mine.writer, piece)
            opened.remove(mine.writer)
            os.close(mine.writer)
            guest.come_up(its, page)  # until the end of what was written
            opened = [mine.reader, page]  # its end is closed
        finally:
            close_quietly(*opened)


def _setup() -> dict[str, Any]:
    """As a host sends it to a domain of which it wants nothing."""
    return {
        "name": "rehearsal",
        "id": 1,
        "path": list(sys.path),
        "search": [],
        "cwd": None,
        "config": {},
        "base": "",
        "main_loop": None,
        "preload": ["sys"],
        "shared": True,
        "in_use": None,
        "initializer": None,
        "beat": 1.0,
        "log_level": logging.getLogger().level,
        "cloudpickle": None,
        "watch": [],
    }
