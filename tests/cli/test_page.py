"""The page that the demo writes: well-formed, whole by itself, and closed to what a module says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from cloister import Reason, Report
from cloister.cli.demo.one_process import Comparison
from cloister.cli.demo.outcomes import Life, Outcome, Verdict
from cloister.cli.demo.page import page
from cloister.cli.demo.record import Record
from tests.cli.conftest import Run

SPACE = "{http://www.w3.org/1999/xhtml}"


def test_the_page_is_well_formed_and_needs_nothing_else(run: Run) -> None:
    """An XML parser reads it; it has no script, and no address that a browser would fetch."""
    root = ElementTree.fromstring(run.page)
    assert not list(root.iter(f"{SPACE}script"))
    assert not list(root.iter(f"{SPACE}link"))
    fetched = [name for element in root.iter() for name in element.attrib if name in {"src", "href", "srcset", "data"}]
    assert not fetched
    assert set(re.findall(r"url\([^)]*\)", run.page)) == {"url(#starting)"}
    assert "@import" not in run.page
    assert "prefers-color-scheme: dark" in run.page


def test_the_timeline_has_a_lane_for_each_module_and_a_block_for_each_file(run: Run) -> None:
    """Nine lanes, a block for each file that a module read, a bar for each of twelve lives, a cross for three ends."""
    drawing = ElementTree.fromstring(run.page).find(f".//{SPACE}svg")
    assert drawing is not None
    classes = [element.get("class") for element in drawing.iter()]
    assert classes.count("lane") == 9
    blocks = sum(classes.count(verdict.name.lower()) for verdict in Verdict)
    assert blocks == 43
    assert len(list(drawing.iter(f"{SPACE}g"))) == 12
    assert [text.text for text in drawing.iter() if text.get("class") == "cause"] == [
        "exited with code 3",
        "SIGSEGV (Segmentation fault)",
        "killed",
    ]


def test_the_page_shows_the_report_of_the_crash(run: Run) -> None:
    """The native crash stands there with its stacks, from the C library's door up to the module."""
    reports = ["".join(each.itertext()) for each in ElementTree.fromstring(run.page).iter(f"{SPACE}details")]
    (crash,) = [text for text in reports if text.startswith("13-banner.bmp")]
    assert "ended: SIGSEGV (Segmentation fault)" in crash
    assert re.search(r"in string_at\n.*bitmaps.py\", line \d+ in _copy\n.*bitmaps.py\", line \d+ in read\n", crash)


def test_a_page_shows_hostile_names_and_words_as_text() -> None:
    """Markup and control characters in a file's name, an answer or a report stay text, and the page well-formed."""
    hostile = "</title><script>alert('1')</script>&\x1b[2J\x00\ud800\uffff"
    report = Report(domain=hostile, reason=Reason.EXITED, exit_code=3, output=(hostile,), detail=hostile)
    outcome = Outcome(file=hostile, module="logs", verdict=Verdict.DIED, what=hostile, why=hostile, report=report)
    life = Life(module="logs", domain=1, pid=7, started=0.0, ready=0.1, ended=0.3, report=report)
    record = Record(faults={hostile: hostile}, outcomes=[outcome], lives=[life], seconds=0.4, left=[hostile])
    record.comparison = Comparison(0, 1, hostile, "hung")
    text = page(record)
    root = ElementTree.fromstring(text)
    assert "<script" not in text
    assert not list(root.iter(f"{SPACE}script"))
    text.encode("utf-8")


def test_a_page_of_a_run_without_domains_and_files_is_a_page() -> None:
    """Nothing to draw is no error: files that no module reads make a page with an empty timeline."""
    outcome = Outcome(file="notes.txt", module="", verdict=Verdict.UNKNOWN, what="no module reads .txt")
    root = ElementTree.fromstring(page(Record(outcomes=[outcome])))
    assert "notes.txt" in "".join(root.itertext())
