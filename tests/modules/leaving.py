"""What code in a domain leaves open when the domain ends."""

from __future__ import annotations

import atexit
import gzip
import threading
import time
from typing import Any

_open: list[Any] = []


def keep_open(path: str, text: str) -> None:
    """Write to a file and keep it open: nothing of it is on the disk yet."""
    file = open(path, "w")  # noqa: SIM115 - that is the point
    file.write(text)
    _open.append(file)


def keep_open_compressed(path: str, text: str) -> None:
    """The same with a compressed file, whose end is written when it is closed."""
    file = gzip.open(path, "wt")  # noqa: SIM115 - as above
    file.write(text)
    _open.append(file)


def trace_at_exit(path: str, word: str) -> None:
    """Add a word to a file in an exit hook."""
    atexit.register(_append, path, word)


def trace_later(path: str, word: str, seconds: float) -> None:
    """Add a word to a file on a thread that the interpreter waits for."""

    def run() -> None:
        time.sleep(seconds)
        _append(path, word)

    threading.Thread(target=run).start()


def _append(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(word)
