"""The harness of the benchmarks: contestants take turns, and what is printed can be compared."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import harness


@pytest.fixture
def allowed() -> Iterator[set[int]]:
    """The CPUs of this process, which must be the same after the test."""
    if sys.platform != "linux":
        pytest.skip("only Linux places processes")
    before = os.sched_getaffinity(0)
    yield before
    assert os.sched_getaffinity(0) == before


def test_contestants_take_turns() -> None:
    """Each round runs every contestant once, in the given order, so that a drift of the machine meets all of them."""
    order: list[str] = []
    contestants = {"first": lambda: order.append("first"), "second": lambda: order.append("second")}
    harness.compare("turns", contestants, rounds=3, round_s=0)
    # Three calls each to warm up and one to find the length of a sample, then a round each.
    assert order[8:] == ["first", "second"] * 3


def test_the_floor_is_one_and_the_others_are_ratios() -> None:
    """The ratio of the named floor is 1; what does the same work a hundred times over has a larger one."""
    contestants = {"much": lambda: sum(range(20000)), "little": lambda: sum(range(20))}
    much, little = harness.compare("work", contestants, floor="little", rounds=3, round_s=0.002).rows
    assert little.ratio == 1
    assert much.ratio > 10
    assert much.median_us <= much.p99_us


def test_short_operations_are_repeated_within_a_sample() -> None:
    """With `sample_us` the clock is not read around every call of an operation of nanoseconds."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    (row,) = harness.compare("short", {"count": count}, rounds=1, round_s=0.002, sample_us=50).rows
    assert row.samples < calls / 10


def test_a_table_prints_all_its_columns() -> None:
    """The Markdown has a line per contestant, names placement and floor, and further columns behind the fixed ones."""
    rows = [
        harness.Row("socket", 4.5, 7.25, 1.0, 10, {"MB/s": 1234.5}),
        harness.Row("ours", 45.0, 800.0, 10.0, 10, {"MB/s": "-"}),
    ]
    assert harness.Table("64 B", "socket", rows, "same").to_markdown().splitlines() == [
        "### 64 B (same)",
        "",
        "|  | median µs | p99 µs | × socket | MB/s |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| socket | 4.5 | 7.25 | 1.00 | 1,234 |",
        "| ours | 45 | 800 | 10.00 | - |",
    ]


def test_throughput_counts_messages_and_bytes() -> None:
    """Ten messages of 1 MB in half a second are 20 messages/s and 20 MB/s."""
    assert harness.throughput(1_000_000, 10)("ours", 0.5) == {"messages/s": 20, "MB/s": 20}


def test_a_place_holds_inside_its_block_only(allowed: set[int]) -> None:
    """`same` keeps this process on the first CPU, `free` changes nothing, and afterwards all is as before."""
    with harness.place("free"):
        assert os.sched_getaffinity(0) == allowed
    if "same" not in harness.placements():
        pytest.skip("one CPU has one placement")
    with harness.place("same"):
        assert os.sched_getaffinity(0) == {min(allowed)}


def test_a_result_names_machine_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The saved file can be read without the run that made it."""
    monkeypatch.setattr(harness, "_RESULTS", tmp_path / "results")
    path = harness.save([harness.Table("64 B", "socket", [harness.Row("socket", 4.5, 7.25, 1.0, 10)])])
    record = json.loads(path.read_text(encoding="utf-8"))
    assert "Python" in record["machine"]
    assert "cloister" in record["versions"]
    assert record["tables"][0]["rows"][0]["median_us"] == 4.5


def test_without_a_compiler_the_floor_is_left_out_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a C compiler gets a reason that says what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(harness.NotHere, match=r"no C compiler for floor\.c.*apt-get install gcc"):
        harness.compile_c(Path("floor.c"))
