"""pdb over a named pipe. In a domain, `breakpoint()` waits for you; run this in another terminal, and you are there."""

from __future__ import annotations

import atexit
import functools
import io
import pdb
import sys

from cloister.errors import PipeClosed
from cloister.pipes import Pipe, PipeServer, connect


class Terminal(io.TextIOBase):
    """A file for pdb that is a pipe."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # typeshed knows two forms
        try:
            return self._pipe.read_string() + "\n"
        except PipeClosed:
            return ""  # pdb takes it for "quit"

    def write(self, text: str, /) -> int:
        self._pipe.write_string(text)
        return len(text)


@functools.cache
def terminal() -> Terminal:
    """Wait for who debugs. It stays connected until the domain ends."""
    with PipeServer("pdb") as server:
        pipe = server.accept()
    atexit.register(pipe.close)
    return Terminal(pipe)


def set_trace() -> None:
    """What `breakpoint()` does where PYTHONBREAKPOINT=pipe_pdb.set_trace."""
    file = terminal()
    pdb.Pdb(stdin=file, stdout=file).set_trace(sys._getframe(1))  # type: ignore[arg-type]  # enough of a file for pdb


if __name__ == "__main__":
    with connect("pdb", timeout=60) as pipe:
        try:
            while True:
                text = pipe.read_string()
                print(text, end="", flush=True)
                if text == "(Pdb) ":
                    pipe.write_string(input())
        except (PipeClosed, EOFError):
            print()
