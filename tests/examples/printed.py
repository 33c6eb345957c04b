"""What a program printed, compared with what its document shows.

A document shows what was printed once. What differs from run to run is made the same on both sides: numbers of
processes and lines, addresses, durations, sizes, the folders of files. A line that is only ``…`` stands for any number
of lines, none included.
"""

from __future__ import annotations

import difflib
import re

__all__ = ["difference", "normal"]

_SAME = [
    (r"process \d+", "process N"),
    (r"line \d+", "line N"),
    (r"0x[0-9a-f]+( \[[^]]*\])?", "0xN"),  # from 3.14 on with the name of the thread
    (r"\d+(\.\d+)? (s|ms|µs|MiB)\b", r"N \2"),
    (r'File "[^"]*/', 'File "'),
]

GAP = "…"


def normal(text: str) -> str:
    """Make the same what differs from run to run."""
    for pattern, replacement in _SAME:
        text = re.sub(pattern, replacement, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def difference(shown: str, printed: str) -> str:
    """Return how the two differ, for a person; empty where they agree."""
    wanted, got = normal(shown).splitlines(), normal(printed).splitlines()
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == GAP else re.escape(line) + "\n" for line in wanted)
    if re.fullmatch(pattern, "".join(line + "\n" for line in got)):
        return ""
    return "\n".join(difflib.unified_diff(wanted, got, "shown", "printed", lineterm=""))
