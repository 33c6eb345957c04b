"""``cloister demo`` reads its folder to the end, and says of each planted fault exactly what it did."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run

# File and row, as a regular expression. Messages of other people's libraries change; their exceptions' names do not.
FAULTS = {
    "11-half.png": r"images raised \S+ s OSError: image file is truncated",
    "12-notes.txt": r"- unknown 0.00 s no module reads .txt",
    "13-banner.bmp": r"bitmaps died \S+ s SIGSEGV \(Segmentation fault\): in _copy\(\), bitmaps.py line \d+",
    "16-access-tuesday.log": r"logs timed out 2\S+ s no answer in 2 s: interrupted; the domain goes on",
    "19-signed.tif": r"faxes timed out 3\S+ s no answer in 2 s: deaf to the interrupt for 1 s more, and killed",
    "21-bomb.zip": r"archives raised \S+ s MemoryError: .*[Aa]llocat.*",
    "23-tuesday.gz": r"backups died \S+ s exited with code 3: its last line was “gave up .*\\x1b]0;\\x07\\xff\\xfe”",
    "25-orders-1004.json": r"records raised \S+ s OrderRefused: order 1005: -5 × pencil",
    "27-poster.png": r"images raised \S+ s DecompressionBombError: .*",
    "29-half.pdf": r"documents raised \S+ s Pdf\w+Error: .*",
    "31-mixed.csv": r"tables raised \S+ s ComputeError: .*",
    "33-scratched.jpg": r"images raised \S+ s \w*Error: .*",
    "35-half.zip": r"archives raised \S+ s BadZipFile: File is not a zip file",
    "36-deep.json": r"records raised \S+ s RecursionError: .*",
    "38-half.gz": r"backups raised \S+ s EOFError: the file ends in the middle of its data, after \d+ bytes",
    "39-photo.gif": r"images raised \S+ s \w+: .*",
}


@pytest.mark.parametrize("file", FAULTS)
def test_the_demo_tells_the_exact_reason_of_a_planted_fault(run: Run, file: str) -> None:
    """S08: a crash, an exit, a deadlock, a runaway pattern, a bomb, an exception without pickle: each by its name."""
    assert re.fullmatch(f"{file} {FAULTS[file]}", run.row(file)), run.row(file)


def test_every_other_file_is_answered(run: Run, tmp_path: Path) -> None:
    """No fault reaches another file: what is good is read, also by the module that has just died."""
    from cloister.cli.demo.material.arrivals import write

    planted = write(tmp_path)
    assert {name for name, fault in planted.items() if fault} == set(FAULTS)
    unread = [row for name in planted if name not in FAULTS and " answered " not in (row := run.row(name))]
    assert len(planted) == 44
    assert not unread


def test_the_demo_ends_well_and_in_time_with_nothing_left_over(run: Run) -> None:
    """Exit code 0, nothing on stderr, less than 15 s, and no process, thread, descriptor or file is left over."""
    assert (run.code, run.stderr) == (0, "")
    assert run.seconds < 15
    assert "left over:        nothing: no process of 12 domains, no thread, no descriptor, no file\n" in run.stdout
    assert (
        "9 modules in 12 domains; 3 ended before their time (backups: exited with code 3, "
        "bitmaps: SIGSEGV (Segmentation fault), faxes: killed)\n"
    ) in run.stdout


def test_one_process_without_domains_dies_of_the_first_crash(run: Run) -> None:
    """S09: the same files in one process end at the bitmap that crashes, and 32 are not read."""
    assert "one process did 12 of 44 files, then died of SIGSEGV at 13-banner.bmp; 32 not read\n" in run.stdout


def test_the_demo_writes_plain_lines_where_there_is_no_terminal(run: Run) -> None:
    """No escape sequence of ours and no byte of a module's rubbish reaches a pipe."""
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", run.stdout)
    assert re.search(r"^ +\d+\.\d\d s  bitmaps +13-banner.bmp +died: SIGSEGV", run.stdout, re.MULTILINE)


def test_the_same_files_are_made_each_time(tmp_path: Path) -> None:
    """The material is deterministic: two makings have the same names and bytes, and less than a megabyte."""
    pytest.importorskip("PIL", reason="Pillow computes the pictures")
    from cloister.cli.demo.material.arrivals import write

    contents = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        write(folder)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert sum(map(len, contents[0].values())) < 2**20
