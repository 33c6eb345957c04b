"""The example of application domains, at every level: one text is printed, but for what a level can't promise."""

from __future__ import annotations

import subprocess
import sys

from tests.examples.printed import difference
from tests.examples.test_examples import EXAMPLES

PROGRAM = EXAMPLES / "appdomain_walkthrough.py"


def test_the_walk_through_application_domains_prints_its_golden_text(level: str) -> None:
    """S33, S35, S36, S38, S39, S40, S41, S43, S44, S45, O05: the chapter's example; a thread shares its modules."""
    command = [sys.executable, "-W", "error", str(PROGRAM), "--level", level]
    done = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 0, done.stderr
    shown = PROGRAM.with_suffix(".txt").read_text(encoding="utf-8")
    if level == "thread":
        assert shown.count("Hotel is loaded here: False") == 1
        shown = shown.replace("Hotel is loaded here: False", "Hotel is loaded here: True")
    assert not (unlike := difference(shown, done.stdout)), unlike
