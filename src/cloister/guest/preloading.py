"""Importing the modules of `Setup.preload`: one by one, so that the one which fails is named.

A module that leaves a thread of Python's running is refused where guests may be forked: a fork takes one thread with
it, and the others are missing in every guest, with their locks held for ever. Whether a template is there at this
moment makes no difference, so that a set-up works always or never. Threads of native pools are not looked at: those of
OpenBLAS and its like take part in a fork. Runs on the main thread.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time

from cloister.guest.threads import unseen

__all__ = ["preload"]

PATIENCE_S = 0.5
"""How long a thread that was needed for the import may take to end."""
_OURS = "cloister-"


def preload(name: str, alone: bool) -> None:
    """Import a module. `alone`: it may leave no thread running. Raises what the import raises, and RuntimeError."""
    before = set(sys._current_frames())
    try:
        importlib.import_module(name)
    except Exception as error:
        error.add_note(f"while {name!r} of Setup.preload was imported")
        raise
    if not alone:
        return
    give_up = time.monotonic() + PATIENCE_S
    while (left := _begun_since(before)) and time.monotonic() < give_up:
        time.sleep(0.005)
    if left:
        raise RuntimeError(
            f"{name!r} of Setup.preload left {left[0]} running, which no fork would take along: import it in the"
            " initializer, or start this domain by itself with Setup(template=False)"
        )


def _begun_since(before: set[int]) -> list[str]:
    """The threads of Python's that were not there before, but for our own."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    begun = [names.get(ident) for ident in sys._current_frames() if ident not in before | unseen]
    return sorted(
        "a thread without a name" if name is None else f"the thread {name!r}"
        for name in begun
        if name is None or not name.startswith(_OURS)
    )
