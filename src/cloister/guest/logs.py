"""Logging of a guest: each record goes to the host's `logging`, with its level, its name and its exception as text.

The handler sits on the root logger; the code in the guest may configure its own loggers as it likes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

__all__ = ["ForwardingHandler"]

MAX_TEXT = 64 * 1024
"""Characters of one message or traceback; longer ones are cut."""


class ForwardingHandler(logging.Handler):
    """Sends records to the host."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__()
        self._send = send
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record. What can't be formatted is reported the way `logging` does it."""
        try:
            error = None
            if record.exc_info:
                error = self._formatter.formatException(record.exc_info)[:MAX_TEXT]
            elif record.exc_text:
                error = record.exc_text[:MAX_TEXT]
            line: list[Any] = [record.name[:MAX_TEXT], record.levelno, record.getMessage()[:MAX_TEXT], record.created]
            self._send(*line, record.pathname, record.lineno, record.funcName, record.threadName, error)
        except Exception:
            self.handleError(record)
