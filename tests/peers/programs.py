"""Programs in other languages at the other end of a pipe: start one, talk with it, see it end.

Here is `Program`, a running peer, and `exchange`, our side of the conversation. What the peers do is said in Peer.cs
and peer.js.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from types import TracebackType

from cloister.pipes import Pipe

__all__ = ["Program", "exchange", "text_at"]

LIMIT_S = 20


class Program:
    """A peer that runs. Leaving the `with` block kills it, if it still runs, and waits for its end."""

    def __init__(self, command: Sequence[str]) -> None:
        # Without the switch, .NET's runtime leaves the sockets of its debugger behind when it is killed.
        environment = {**os.environ, "COMPlus_EnableDiagnostics": "0"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )

    def wait_until_listening(self) -> None:
        """Return when the program has said that it listens; fail with its words when it ends without that."""
        assert self.process.stdout is not None
        guard = threading.Timer(LIMIT_S, self.process.kill)
        guard.start()
        try:
            line = self.process.stdout.readline()
        finally:
            guard.cancel()
            guard.join()
        assert line == b"listening\n", self._words(line)

    def finish(self) -> str:
        """Wait for a good end, and return what the program printed; fail with its words otherwise."""
        try:
            said, complaint = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            said, complaint = self.process.communicate()
        assert self.process.returncode == 0, self._words(said + complaint)
        return said.decode().strip()

    def kill(self) -> None:
        """End the program as a crash would, and wait for the end."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def _words(self, words: bytes) -> str:
        return f"{self.process.args!r} ended with {self.process.poll()}:\n{words.decode(errors='replace')}"

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def text_at(i: int) -> str:
    """The text number `i` of a conversation; both sides know the rule."""
    if i % 100 == 0:
        return ""
    return f"{i} 안녕하세요, 파이프 {'😀' if i % 3 == 0 else '🏰'}{'한' * (i % 97)}"


def exchange(pipe: Pipe, count: int) -> list[str]:
    """Send `count` texts and read as many at the same time; return what was read."""

    def write() -> None:
        for i in range(count):
            pipe.write_string(text_at(i), timeout=LIMIT_S)

    writer = threading.Thread(target=write, name="test-writer")
    writer.start()
    try:
        return [pipe.read_string(timeout=LIMIT_S) for _ in range(count)]
    finally:
        writer.join(LIMIT_S)
