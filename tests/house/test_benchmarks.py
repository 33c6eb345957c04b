"""The harness of the benchmarks: contestants take turns, and what is printed can be compared."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import comparison, harness, ray_peer, results, runner


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
    assert much.median <= much.p99


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
    monkeypatch.setattr(results, "_RESULTS", tmp_path / "results")
    path = results.save([harness.Table("64 B", "socket", [harness.Row("socket", 4.5, 7.25, 1.0, 10)])])
    record = json.loads(path.read_text(encoding="utf-8"))
    assert "Python" in record["machine"]
    assert "cloister" in record["versions"]
    assert record["tables"][0]["rows"][0]["median"] == 4.5
    assert results.load(path)[1][0].rows[0] == results.Row("socket", 4.5, 7.25, 1.0, 10)


@pytest.mark.parametrize(
    ("release", "shown"), [("6.18.44-of-ours", "Linux 6.18"), ("11", "Linux 11"), ("ours", "Linux")]
)
def test_a_result_keeps_the_name_of_a_kernel_to_itself(
    monkeypatch: pytest.MonkeyPatch, release: str, shown: str
) -> None:
    """Of the kernel's release only the leading numbers are recorded; who has built it is nobody's business."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "release", lambda: release)
    assert results.describe_machine().startswith(f"{shown}, ")


def test_without_a_compiler_the_floor_is_left_out_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a C compiler gets a reason that says what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(harness.NotHere, match=r"no C compiler for floor\.c.*apt-get install gcc"):
        harness.compile_c(Path("floor.c"))


def test_an_aim_stands_beside_its_ratio() -> None:
    """The table says of each contestant that has an aim whether it was reached, by the digits that are shown."""
    rows = [
        results.Row("floor", 1.0, 1.0, 1.0, 1),
        results.Row("near", 1.504, 2.0, 1.504, 1, aim=1.5),
        results.Row("far", 1.6, 2.0, 1.6, 1, aim=1.5),
    ]
    lines = results.Table("t", "floor", rows, unit="ms", missing={"zmq": "it is not installed"}).to_markdown()
    assert "| near | 1.5 | 2 | 1.50 | ≤ 1.5: reached |" in lines
    assert "| far | 1.6 | 2 | 1.60 | ≤ 1.5: missed |" in lines
    assert "median ms" in lines
    assert lines.endswith("Not measured: zmq (it is not installed).")


def test_a_contestant_that_is_not_here_is_named() -> None:
    """A peer that is not installed does not stop the others; the table has its name and the reason."""

    @contextlib.contextmanager
    def here() -> Iterator[harness.Entered]:
        yield lambda: [0.5], []

    @contextlib.contextmanager
    def away() -> Iterator[harness.Entered]:
        harness.need("a_peer_that_nobody_has")
        yield lambda: [0.5], []

    made = harness.contest("t", {"here": here, "away": away}, rounds=3, aims={"here": 2.0}, unit="ms")
    assert [(row.name, row.median, row.samples, row.aim) for row in made.rows] == [("here", 500.0, 3, 2.0)]
    assert made.missing == {"away": "a_peer_that_nobody_has is not installed; it is in the group `bench`"}


def run_of(path: Path, **ratios: float) -> Path:
    """A file of results with one table that has these ratios."""
    rows = [results.Row("floor", 2.0, 2.0, 1.0, 1)]
    rows += [results.Row(name, ratio * 2, ratio * 2, ratio, 1) for name, ratio in ratios.items()]
    table = asdict(results.Table("t", "floor", rows, "free"))
    path.write_text(json.dumps({"machine": "m", "quick": True, "load before": [1.0], "tables": [table]}))
    return path


def test_what_takes_longer_by_its_floor_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A comparison of two files fails above the limit, names what it is, and tells the worst first."""
    before = run_of(tmp_path / "before", ours=2.0, theirs=4.0, gone=1.0)
    after = run_of(tmp_path / "after", ours=3.2, theirs=2.0)
    assert command.main(["compare", str(before), str(after)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "SLOWER" in said[0]
    assert "t (free) / ours: 2.00 → 3.20 × floor" in said[0]
    assert "quicker" in said[1]
    assert said[2] == "only in one: t (free) / gone"
    assert command.main(["compare", str(before), str(after), "--fail-above", "1.7"]) == 0
    assert command.main(["compare", str(before), str(before)]) == 0


def test_files_that_can_not_be_compared_are_refused(tmp_path: Path) -> None:
    """No results, results of another form, nothing in common: a reason and a failure, never a success."""
    good = run_of(tmp_path / "good", ours=2.0)
    other = tmp_path / "other"
    for text in ("", "[]", "{}", '{"tables": [{"title": "t"}]}'):
        other.write_text(text)
        with pytest.raises(ValueError, match="holds no results"):
            comparison.compare_files(good, other, 1.5)
    with pytest.raises(ValueError, match="no row in common"):
        comparison.compare_files(good, run_of(tmp_path / "apart", theirs=1.0), 1.5)
    with pytest.raises(SystemExit) as refused:
        command.main(["compare", str(good), str(tmp_path / "nowhere")])
    assert refused.value.code == 2


@pytest.mark.slow
def test_a_run_is_published_as_plots_and_tables(tmp_path: Path) -> None:
    """Each subject has its plot, twice; the tables say where they were measured; the same run gives the same files."""
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    run = run_of(tmp_path / "run", ours=2.0)
    for folder in ("one", "two"):
        # Its own process: the library keeps the files of its fonts open.
        words = [sys.executable, "-m", "benchmarks", "publish", str(run), str(tmp_path / folder)]
        subprocess.run(words, check=True, timeout=50, cwd=Path(__file__).resolve().parents[2])
    made = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    assert set(made) == {"t.svg", "t.png", "tables.md", "results.json"}
    assert made == {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    assert "Measured on: m. The runs were short ones" in made["tables.md"].decode()


def test_the_documents_show_the_plots_that_there_are() -> None:
    """The page on performance shows every plot of the published run, and no other; another page has the tables."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    shown = set(re.findall(r"_static/benchmarks/(\w+)\.svg", (docs / "explanation" / "performance.md").read_text()))
    there = {file.stem for file in (docs / "_static" / "benchmarks").glob("*.svg")}
    assert shown == there
    assert there == {file.stem for file in (docs / "_static" / "benchmarks").glob("*.png")}
    assert "include} ../_static/benchmarks/tables.md" in (docs / "reference" / "benchmarks.md").read_text()


def benches(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Modules that are benchmarks, each with what it does after its first table."""
    head = "import os, time\nfrom benchmarks import harness, results\n"
    made = "    yield results.Table('t', 'floor', [results.Row('floor', 2.0, 2.0, 1.0, 1)])\n"
    for name, program in programs.items():
        (folder / f"{name}.py").write_text(f"{head}def run():\n{made}    {program}\n")
    checkout = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (folder, checkout, checkout / "src"))))


@pytest.mark.parametrize(
    ("program", "failed"),
    [
        ("raise ValueError('no')", "raised"),
        ("os.abort()", "ended by SIGABRT"),
        ("os._exit(1)", "ended with code 1"),
        ("raise harness.NotHere('no compiler')", ""),
    ],
)
def test_what_a_benchmark_measured_before_it_ended_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, failed: str
) -> None:
    """A benchmark that raises, or whose process ends, keeps its tables; what is missing is no failure."""
    benches(tmp_path, monkeypatch, ending=program)
    outcome = runner.measure_apart("ending", quick=True, limit=40)
    assert outcome.failed == failed
    assert [table.title for table in outcome.tables] == ["t"]


def test_a_benchmark_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Past its limit a benchmark is ended, its processes with it; its stacks are told, and its tables kept."""
    forks = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)"
    benches(tmp_path, monkeypatch, hanging=f"{forks}\n    time.sleep(1000)")
    outcome = runner.measure_apart("hanging", quick=True, limit=3)
    assert outcome.failed == "took more than 3 s"
    assert len(outcome.tables) == 1
    said = capfd.readouterr().err
    assert "hanging.py" in said
    assert "in run" in said


def test_one_that_fails_does_not_take_the_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of a run has what all measured until it ended, or was interrupted; the run fails by name."""
    made = results.Table("t", "floor", [results.Row("floor", 2.0, 2.0, 1.0, 1)])
    outcomes = iter([runner.Outcome([made], {"ray": "2"}), runner.Outcome([made], failed="raised")])

    def measure(module: str, **_: object) -> runner.Outcome:
        try:
            return next(outcomes)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(results, "_RESULTS", tmp_path)
    monkeypatch.setattr(results, "elsewhere", {})
    monkeypatch.setattr(runner, "measure_apart", measure)
    assert command.main(["--quick", "call", "map", "pool"]) == 1
    (file,) = tmp_path.iterdir()
    record, tables = results.load(file)
    assert len(tables) == 2
    assert record["versions"]["ray"] == "2"
    assert "failed: map (raised), interrupted" in capsys.readouterr().err


def test_a_peer_that_is_large_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Ray its tables are left out, with a line that says how to get it."""
    monkeypatch.setattr(ray_peer, "FOLDER", tmp_path / "none")
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is installed here")
    with pytest.raises(harness.NotHere, match="PEERS=ray"), ray_peer.started():
        pass


def test_a_program_of_a_peer_that_ends_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray can't begin, the benchmark fails with what it has said."""
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is installed here")
    monkeypatch.setattr(ray_peer, "_interpreter", lambda: sys.executable)
    with pytest.raises(EOFError, match="No module named 'ray'"), ray_peer.started():
        pass
