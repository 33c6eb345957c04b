"""What the demo remembers: what became of each file, and the life of each domain. Plain data and words; no state."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from enum import Enum
from html import escape

from cloister import Reason, Report

__all__ = ["Life", "Outcome", "Verdict", "counted", "markup", "printable", "where_it_died"]


class Verdict(Enum):
    """What became of a file. The value is a word for people, and the name of a colour in the page."""

    ANSWERED = "answered"
    """The module read it."""
    RAISED = "raised"
    """The module raised an exception; its domain goes on."""
    TIMED_OUT = "timed out"
    """The module did not return in time. It was interrupted and its domain goes on, or the server killed it."""
    DIED = "died"
    """The domain ended by itself."""
    NOT_STARTED = "not started"
    """The domain could not be made: what the module needs is missing."""
    UNKNOWN = "unknown"
    """No module reads this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one file."""

    file: str
    module: str
    """The name of the module, empty where there is none for it."""
    verdict: Verdict
    what: str
    """The module's answer; the type of its exception; or what happened to it in a few words."""
    why: str = ""
    """The reason, as exactly as it is known; empty for an answer."""
    begun: float = 0.0
    """When reading began, in seconds since the start of the server."""
    seconds: float = 0.0
    """How long it took, without the start of the domain."""
    pid: int | None = None
    """The process that read it."""
    report: Report | None = None
    """What is known about the end of the domain, where that ended."""

    @property
    def words(self) -> str:
        """What and why, on one line."""
        return " ".join(": ".join(part for part in (self.what, self.why) if part).split())


@dataclass(slots=True, kw_only=True)
class Life:
    """One domain from its start to its end. Times are seconds since the start of the server; None: not yet."""

    module: str
    domain: int
    """Its number in this process."""
    pid: int
    started: float
    ready: float | None = None
    ended: float | None = None
    report: Report | None = None

    @property
    def was_wanted(self) -> bool:
        """Whether it ended before the server had done with it."""
        return self.report is not None and self.report.reason is not Reason.UNLOADED


# A control character of a guest would move the cursor of the reader's terminal, or be no XML.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """The same text with control characters shown as ``\\x1b``; line ends and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def markup(text: str) -> str:
    """Text for a page: printable, and nothing in it is a tag, an entity or an end of a quotation."""
    return escape(printable(text))


def counted(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>\S+)$', re.MULTILINE)


def where_it_died(report: Report, module: str) -> str:
    """The innermost frame of a module in the stacks of a report, such as ``in _copy(), bitmaps.py line 28``.

    Empty where the module is in none of them: the report of an exit has no stacks.
    """
    for frame in _FRAME.finditer(report.stacks):
        name = os.path.basename(frame["file"])
        if name == f"{module}.py":
            return f"in {frame['function']}(), {name} line {frame['line']}"
    return ""
