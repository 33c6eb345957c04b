"""A conversation that a template has with itself before it forks, so that its guests need not begin with anything.

Python fills caches and rewrites its own bytecode while it runs for the first times. What was done before a fork need
not be done in each guest, and the pages on which it was done stay shared. Nothing of the user's runs, and nothing of it
is left but what is faster. Runs on the main thread.

To put the code of all functions that ran side by side, by making it anew, was tried: as many pages were copied.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from cloister.objects import targets
from cloister.pipes.duplex import lane_pair
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from cloister.guest.host import HostPeer
    from cloister.guest.interrupts import MainThread

__all__ = ["rehearse"]

CALLS: Final = 24
"""Python rewrites code that has run eight times, and looks for what suits it a few times more."""


def rehearse(peer: HostPeer, main: MainThread) -> None:
    """Serve calls on a lane whose other end is held here."""
    host, guest = lane_pair()
    conversation = peer.converse()
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("call", (targets.to_plain("os:getpid", targets.VERSION), [], {})),
        ("ping", ()),
    ]
    for _ in range(CALLS):
        for name, args in calls:
            for piece in conversation.ask(SERVICE, name, args, None):
                os.write(host.writer, piece)
    os.close(host.writer)
    peer.expect(0)
    peer.serve_lane(0, guest, main)  # until the end of what was written
    os.close(host.reader)
