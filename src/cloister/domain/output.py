"""What a guest prints and logs, on its way into the host.

stdout and stderr are captured at the descriptor, so that native code and children are heard as well. Each line goes to
the host's `sys.stdout` or `sys.stderr`, to the `Output` event, and into a tail that the report shows. A line
that is too long is cut into several, and lines that come faster than they can be shown are dropped from view and
counted. What is shown does a terminal no harm: control characters are made visible, but for those that choose colours.

All methods belong to the watcher's thread; lines and records are shown on the threads of handlers.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from cloister.domain import events
from cloister.report import visible

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["Output"]

TAIL_LINES = 50
"""Lines that the report shows."""
MAX_LINE = 8192
"""Bytes of one line; longer ones are cut."""
READ_BYTES = 64 * 1024
READS_AT_ONCE = 4
"""So that a guest that prints without end leaves the watcher time for the others."""
MAX_TEXT = 64 * 1024
"""Characters of a record's message and of its traceback; longer ones are cut, on the guest's side too."""
MAX_NAME = 200
MAX_LOGGERS = 1000
"""Names of loggers that one guest may bring into this program, where a logger lives for ever; further records go to the
logger ``cloister.guest``."""
_NAMES = ("stdout", "stderr")


class Output:
    """The output of one domain."""

    def __init__(self, life: Life, echo: bool) -> None:
        self._life = life
        self._echo = echo
        self._rest = [b"", b""]
        self._hidden = 0
        self._loggers: set[str] = set()
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """The last lines of both, oldest first."""

    def read(self, index: int, fd: int) -> bool:
        """Take what has arrived on stdout (0) or stderr (1); False at the end."""
        for _ in range(READS_AT_ONCE):
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._take(index, data)
        return True

    def finish(self, index: int, fd: int) -> None:
        """Take what is left after the guest has ended. What its children still write is not waited for."""
        for _ in range(1024 * 1024 // READ_BYTES):
            if not self.read(index, fd):
                break
        if self._rest[index]:
            self._line(index, self._rest[index])
            self._rest[index] = b""

    def _take(self, index: int, data: bytes) -> None:
        *lines, rest = (self._rest[index] + data).split(b"\n")
        for line in lines:
            self._cut(index, line)
        whole = len(rest) // MAX_LINE * MAX_LINE
        if whole:
            self._cut(index, rest[:whole])
        self._rest[index] = rest[whole:]

    def _cut(self, index: int, line: bytes) -> None:
        for begin in range(0, max(len(line), 1), MAX_LINE):
            self._line(index, line[begin : begin + MAX_LINE])

    def _line(self, index: int, data: bytes) -> None:
        line = data.decode("utf-8", "backslashreplace").rstrip("\r")
        self.tail.append(line)
        life = self._life
        size = 256 + len(line)
        if self._echo and not life.queue.put(lambda: self._show(index, line), size):
            self._hidden += 1
        life.tell(events.Output(life.name, life.process.pid, _NAMES[index], line), size)

    def _show(self, index: int, line: str) -> None:
        stream = sys.stdout if index == 0 else sys.stderr
        if stream is None:
            return
        line = visible(line, colours=True)
        if self._hidden:
            hidden, self._hidden = self._hidden, 0
            line = f"[cloister: {hidden} lines of domain {self._life.name!r} not shown]\n{line}"
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            pass  # the host has closed its stream

    def log(self, body: Any) -> None:
        """Give a record of the guest to the host's logging. Raises TypeError or ValueError where it is none."""
        name, level, message, created, path, line, function, thread, error = body
        if type(level) is not int or type(line) is not int:
            raise TypeError("the level and the line of a log record are integers")
        name, path, function, thread = (str(word)[:MAX_NAME] for word in (name, path, function, thread))
        if name not in self._loggers:
            if len(self._loggers) < MAX_LOGGERS:
                self._loggers.add(name)
            else:
                name = "cloister.guest"
        record = logging.LogRecord(name, level, path, line, str(message)[:MAX_TEXT], None, None, function)
        record.created = float(created)
        record.threadName = thread
        record.process = self._life.process.pid
        record.processName = self._life.name
        record.exc_text = None if error is None else str(error)[:MAX_TEXT]
        size = 1024 + len(record.msg) + len(record.exc_text or "")
        self._life.queue.put(lambda: _handle(record), size)


def _handle(record: logging.LogRecord) -> None:
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
