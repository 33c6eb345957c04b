"""The words of outcomes and records: what is safe to print, and where a domain died."""

from __future__ import annotations

from cloister import Reason, Report
from cloister.cli.demo.outcomes import Life, Outcome, Verdict, printable, where_it_died
from cloister.cli.demo.record import Record

STACKS = """\
Current thread 0x00007f (most recent call first):
  File "/lib/python3/ctypes/__init__.py", line 519 in string_at
  File "/here/modules/bitmaps.py", line 26 in _copy
  File "/here/modules/bitmaps.py", line 20 in read
"""


def test_control_characters_are_shown_and_not_obeyed() -> None:
    """An escape sequence, a NUL and a lone surrogate become text; line ends, tabs and letters stay."""
    assert printable("a\x1b[2Jb\x00\ud800\tc\nü한") == "a\\x1b[2Jb\\x00\\ud800\tc\nü한"


def test_the_place_of_a_death_is_the_innermost_frame_of_the_module() -> None:
    """Frames of libraries inside of it are passed over; without a frame of the module there is no place."""
    report = Report(domain="bitmaps", reason=Reason.SIGNAL, signal=11, stacks=STACKS)
    assert where_it_died(report, "bitmaps") == "in _copy(), bitmaps.py line 26"
    assert where_it_died(report, "faxes") == ""


def test_an_outcome_is_one_line_whatever_its_message() -> None:
    """Line ends in an exception's message do not tear a table."""
    outcome = Outcome(file="a.csv", module="tables", verdict=Verdict.RAISED, what="ComputeError", why="one\n  two")
    assert outcome.words == "ComputeError: one two"


def test_a_record_tells_what_is_left_over() -> None:
    """Leftovers are listed; without any the line says what was looked for."""
    life = Life(module="logs", domain=1, pid=7, started=0.0, report=Report(domain="logs", reason=Reason.UNLOADED))
    record = Record(lives=[life])
    assert record.left_line().startswith("nothing: no process of 1 domain,")
    assert record.domains_line() == "1 module in 1 domain; none ended before its time"
    record.left = ["process 7", "folder /x"]
    assert record.left_line() == "process 7; folder /x"
