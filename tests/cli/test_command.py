"""The command line: what it refuses, and that it refuses before it works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.cli.command import main
from cloister.cli.demo import command
from cloister.release import VERSION
from tests.cli.conftest import COMMAND


def test_the_command_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """``cloister --version`` prints the release and ends with 0."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"cloister {VERSION}\n"


@pytest.mark.parametrize("words", [[], ["dance"], ["demo", "--fast"]], ids=["nothing", "unknown", "option"])
def test_the_command_refuses_words_that_make_no_sense(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No word, an unknown command and an unknown option end with 2 and the usage."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: cloister" in capsys.readouterr().err


def test_the_command_loads_no_module_of_the_demo_and_no_extra() -> None:
    """To offer the demo costs neither Pillow nor polars nor pypdf nor rich: they are for its domains and screens."""
    program = (
        "import sys, cloister.cli.command\n"
        "found = {'PIL', 'polars', 'pypdf', 'rich'} & set(sys.modules)\n"
        "assert not found, found\n"
        "assert not [name for name in sys.modules if name.startswith('cloister.cli.demo.modules')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


@pytest.mark.parametrize("place", ["missing/report.html", "."], ids=["no-such-folder", "a-folder"])
def test_a_report_that_cant_be_written_is_told_before_the_work(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo ends with 1 and a line that says why, and has made and started nothing."""
    assert main(["demo", "--report", str(tmp_path / place)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"cloister demo: can't write the report to {tmp_path / place}: ")
    assert said.err.endswith("; nothing was done\n")
    assert list(tmp_path.iterdir()) == []


def test_the_test_of_the_report_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the demo can't begin for another reason, no report lies there, and an older one is as it was."""
    monkeypatch.setattr(command, "_NEEDS", {"no_such_library": "No-such-library"})
    new, old = tmp_path / "new.html", tmp_path / "old.html"
    old.write_text("of yesterday")
    assert main(["demo", "--report", str(new)]) == 1
    assert main(["demo", "--report", str(old)]) == 1
    assert not new.exists()
    assert old.read_text() == "of yesterday"


def test_the_demo_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the extra's libraries the demo names them and how to have them."""
    monkeypatch.setattr(command, "_NEEDS", {"no_such_library": "No-such-library"})
    assert main(["demo"]) == 1
    assert "it needs No-such-library, not installed here: pip install" in capsys.readouterr().err


@pytest.mark.parametrize(("folder", "why"), [("missing", "can't read the folder"), (".", "there is no file in")])
def test_a_folder_without_files_is_told(
    folder: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, and one that is empty, end with 1 and a line that says so."""
    assert main(["demo", "--folder", str(tmp_path / folder)]) == 1
    assert f"cloister demo: {why} {tmp_path / folder}" in capsys.readouterr().err


def test_the_demo_ends_quietly_when_nobody_reads_its_lines(tmp_path: Path) -> None:
    """``cloister demo | head -1``: the domains are ended, the exit code is 1, and there is no traceback."""
    (tmp_path / "orders.json").write_text("[]")
    reader, writer = os.pipe()
    os.close(reader)
    command_line = [*COMMAND, "--folder", str(tmp_path)]
    done = subprocess.run(command_line, stdout=writer, stderr=subprocess.PIPE, timeout=28, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_demo_reads_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Own files are read by the kinds of their names, good or bad, and a kind that nobody reads is told."""
    (tmp_path / "prices.json").write_text('[{"order": 1, "lines": [{"item": "ink", "count": 2, "price": 1.5}]}]')
    (tmp_path / "empty.ZIP").write_bytes(b"")
    (tmp_path / "README").write_text("nothing to read")
    command_line = [*COMMAND, "--folder", str(tmp_path)]
    done = subprocess.run(command_line, capture_output=True, encoding="utf-8", timeout=28, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {
        line.split()[0]: " ".join(line.split()[1:]) for line in done.stdout.partition("\nfile ")[2].splitlines() if line
    }
    assert rows["prices.json"].endswith("1 order(s), 3.0 in all")
    assert rows["empty.ZIP"].endswith("BadZipFile: File is not a zip file")
    assert rows["README"].endswith("no module reads a file without a suffix")
    assert "one process got through all of 3 files" in done.stdout
    assert "left over: nothing: no process of 2 domains" in " ".join(done.stdout.split())
