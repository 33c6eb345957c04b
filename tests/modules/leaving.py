"""What code in a domain leaves open when the domain ends."""

from __future__ import annotations

import atexit
import gzip
import os
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


def exit_with_open_files(path: str, code: int) -> None:
    """End the program, and note at the very end of it how many of the files that it has opened are open no more."""
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(64)]

    def look() -> None:
        lost = 0
        for fd in files:
            try:
                os.fstat(fd)
            except OSError:
                lost += 1
        _append(path, f"{lost} lost")

    atexit.register(look)
    raise SystemExit(code)
