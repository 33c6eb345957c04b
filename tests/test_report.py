"""What a report says to a person."""

from __future__ import annotations

import signal
from pathlib import Path

import cloister
from cloister.report import Reason, Report

OURS = Path(cloister.__file__).parent.as_posix()
STACKS = f"""\
Fatal Python error: Segmentation fault

Thread 0x00007f60 (most recent call first):
  File "{OURS}/guest/control.py", line 144 in _run
  File "/usr/lib/python3.11/threading.py", line 982 in run

Thread 0x00007f61 (most recent call first):
  File "/srv/acme/poll.py", line 3 in wait
  File "/usr/lib/python3.11/threading.py", line 982 in run

Current thread 0x00007f62 (most recent call first):
  File "/srv/acme/decoder.py", line 9 in decode
  File "{OURS}/guest/service.py", line 69 in call
  File "{OURS}/guest/boot.py", line 73 in main
  File "<string>", line 16 in <module>

Extension modules: msgpack._cmsgpack (total: 1)
"""


def crash(stacks: str) -> str:
    """The text of a report with these stacks."""
    return str(Report(domain="d", pid=7, reason=Reason.SIGNAL, signal=signal.SIGSEGV, calls=("decode",), stacks=stacks))


def test_the_text_of_a_report_shows_frames_of_the_user_alone() -> None:
    """Frames of cloister, threads without others, and words that were said already do not stand in the text."""
    assert crash(STACKS).splitlines()[1:-1] == [
        "  while it served: decode",
        "  its stacks:",
        "    Thread 0x00007f61 (most recent call first):",
        '      File "/srv/acme/poll.py", line 3 in wait',
        '      File "/usr/lib/python3.11/threading.py", line 982 in run',
        "    Current thread 0x00007f62 (most recent call first):",
        '      File "/srv/acme/decoder.py", line 9 in decode',
    ]


def test_the_text_of_a_report_keeps_what_python_says_of_a_fatal_error() -> None:
    """An error of the interpreter that is more than the signal's name stands in the text."""
    said = "Fatal Python error: none_dealloc: deallocating None"
    assert said in crash(STACKS.replace("Fatal Python error: Segmentation fault", said))


def test_the_text_of_a_report_shows_stacks_as_they_are_where_all_frames_are_ours() -> None:
    """Where only frames of cloister are known, they are better than none."""
    stacks = f'Thread 0x1 (most recent call first):\n  File "{OURS}/guest/boot.py", line 73 in main\n'
    assert "boot.py" in crash(stacks)
