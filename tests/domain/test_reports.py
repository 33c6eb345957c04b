"""The reason of an end, put together from what is known, and the report as a person reads it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cloister.domain import diagnosis
from cloister.domain.diagnosis import reason
from cloister.levels.ending_posix import Ending
from cloister.report import Reason, Report

KILLED = Ending(None, signal.SIGKILL)
CRASHED = Ending(None, signal.SIGSEGV)
LOST = Ending()
WORDS = (Reason.RAISED, 1, "ValueError: no")


@pytest.mark.parametrize(
    ("doom", "words", "ending", "oom", "expected"),
    [
        (None, None, Ending(3), False, (Reason.EXITED, 3, "")),
        (None, None, CRASHED, False, (Reason.SIGNAL, None, "")),
        (None, None, Ending(None, signal.SIGXCPU), False, (Reason.CPU_LIMIT, None, "")),
        (None, None, KILLED, False, (Reason.SIGNAL, None, "")),
        (None, WORDS, Ending(1), False, (Reason.RAISED, 1, "ValueError: no")),
        (None, WORDS, LOST, False, (Reason.RAISED, 1, "ValueError: no")),
        (None, WORDS, CRASHED, False, (Reason.SIGNAL, None, "")),
        ((Reason.UNLOADED, ""), None, Ending(0), False, (Reason.UNLOADED, 0, "")),
        ((Reason.UNLOADED, ""), None, LOST, False, (Reason.UNLOADED, None, "")),
        ((Reason.UNLOADED, ""), WORDS, Ending(1), False, (Reason.UNLOADED, 1, "its exit code was 1")),
        ((Reason.KILLED, ""), None, KILLED, True, (Reason.KILLED, None, "")),
        ((Reason.KILLED, ""), None, CRASHED, False, (Reason.SIGNAL, None, "")),
        ((Reason.KILLED, ""), None, LOST, False, (Reason.KILLED, None, "")),
        ((Reason.WATCHDOG, "silent"), None, KILLED, False, (Reason.WATCHDOG, None, "silent")),
        ((Reason.WATCHDOG, "silent"), None, Ending(0), False, (Reason.EXITED, 0, "")),
        ((Reason.STOP_TIMEOUT, "late"), None, KILLED, False, (Reason.STOP_TIMEOUT, None, "late")),
        ((Reason.STOP_TIMEOUT, "late"), None, Ending(0), False, (Reason.UNLOADED, 0, "")),
        ((Reason.BAD_MESSAGE, "rubbish"), None, CRASHED, False, (Reason.BAD_MESSAGE, None, "rubbish")),
    ],
)
def test_first_cause_wins(
    doom: tuple[Reason, str] | None,
    words: tuple[Reason, int | None, str] | None,
    ending: Ending,
    oom: bool,
    expected: tuple[Reason, int | None, str],
) -> None:
    """S08: our own deed, then the guest's last words, then the kernel's; a deed that came too late does not count."""
    assert reason(doom, words, ending, oom) == expected


def test_kill_for_memory_is_told_from_other_kills() -> None:
    """S08: SIGKILL while the kernel killed for memory is `out of memory`; another signal is itself even then."""
    assert reason(None, None, KILLED, True)[0] is Reason.OUT_OF_MEMORY
    assert reason(None, None, CRASHED, True)[0] is Reason.SIGNAL


@pytest.mark.skipif(not os.path.exists("/proc/vmstat"), reason="Linux counts there whom it has killed for memory")
def test_count_of_kills_is_found_wherever_the_line_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is that of the line, whether it stands where it stood before, near that, or anywhere."""
    text = Path("/proc/vmstat").read_text()
    if "\noom_kill " not in text:
        pytest.skip("this kernel does not count them")
    line = text.index("\noom_kill ")
    for place in (0, line, line - 5, line + 5, line - 255, line + 255, len(text), 10**6):
        monkeypatch.setattr(diagnosis, "_line_at", max(place, 0))
        assert diagnosis._oom_kills() >= int(text[line:].split()[1])
        assert abs(diagnosis._line_at - line) < 100


def test_status_that_is_lost_is_unknown_and_says_why() -> None:
    """S08: where the kernel has lost the status the reason is `unknown`, never a guess."""
    found, code, detail = reason(None, None, LOST, False)
    assert (found, code) == (Reason.UNKNOWN, None)
    assert "SIGCHLD" in detail


CRASH = Report(
    domain="thumbnails",
    pid=4711,
    reason=Reason.SIGNAL,
    signal=signal.SIGSEGV,
    calls=("acme.images:decode",),
    stacks='Fatal Python error: Segmentation fault\n\nCurrent thread:\n  File "images.py", line 7 in decode',
    output=("reading a.png", "reading b.png"),
    seconds=12.35,
    cpu_seconds=3.2,
    peak_memory=52 * 1024 * 1024,
)

TEXT = """\
domain 'thumbnails' (process 4711) ended: SIGSEGV (Segmentation fault)
  while it served: acme.images:decode
  its stacks:
    Current thread:
      File "images.py", line 7 in decode
  its last output:
    | reading a.png
    | reading b.png
  it lived 12.35 s, used 3.20 s of CPU, took at most 52.0 MiB"""


def test_report_reads_as_a_short_text() -> None:
    """The report of a crash says what ended, why, in what, with which stacks and last words, and what it used."""
    assert str(CRASH) == TEXT


def test_report_of_little_is_short() -> None:
    """What is not known is left out."""
    report = Report(domain="x", reason=Reason.START_FAILED, detail="no such folder")
    assert str(report) == "domain 'x' ended: start failed\n  no such folder\n  it lived 0.00 s"


def test_signal_without_a_name_is_shown_by_number() -> None:
    """A signal that the system has no name for is told by its number."""
    assert Report(domain="x", reason=Reason.SIGNAL, signal=41).cause == "signal 41"
