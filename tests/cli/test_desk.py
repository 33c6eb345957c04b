"""A desk has an outcome for each file, whatever its module does, and a domain that works for the next one."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister import DomainUnloaded, Reason
from cloister.cli.demo.desk import Desk
from cloister.cli.demo.kinds import KINDS, Kind
from cloister.cli.demo.outcomes import Outcome, Verdict

GOOD_GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0"  # nothing, packed
RUNAWAY = f'192.0.2.1 [2026-03-01] "{"a" * 60} 200'


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A desk for the kind that the test names."""
    kind = request.param if isinstance(request.param, Kind) else next(k for k in KINDS if k.name == request.param)
    desk = Desk(kind, tmp_path, time.monotonic)
    yield desk
    desk.close()


def read(desk: Desk, path: Path, content: bytes | str) -> Outcome:
    """Have a file of this content read."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return desk.read(path)


@pytest.mark.parametrize("desk", ["backups"], indirect=True)
def test_a_module_that_exits_is_there_again_for_the_next_file(desk: Desk, tmp_path: Path) -> None:
    """S08: the exit is told with its code, and the next file is read in another process."""
    first, bad, next_one = (read(desk, tmp_path / "a.gz", content) for content in (GOOD_GZIP, b"rubbish", GOOD_GZIP))
    assert [each.verdict for each in (first, bad, next_one)] == [Verdict.ANSWERED, Verdict.DIED, Verdict.ANSWERED]
    assert bad.report is not None
    assert (bad.report.reason, bad.report.exit_code) == (Reason.EXITED, 3)
    assert first.pid == bad.pid != next_one.pid
    assert [life.was_wanted for life in desk.lives] == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("desk", ["logs"], indirect=True)
def test_a_module_that_is_interrupted_keeps_its_process(desk: Desk, tmp_path: Path) -> None:
    """A runaway pattern is stopped at the time-out, and the same process reads the next file."""
    bad, next_one = (read(desk, tmp_path / "a.log", content) for content in (RUNAWAY, ""))
    assert (bad.verdict, bad.why) == (Verdict.TIMED_OUT, "interrupted; the domain goes on")
    assert (next_one.verdict, next_one.pid) == (Verdict.ANSWERED, bad.pid)


@pytest.mark.parametrize("desk", [Kind("missing", (".x",), "nothing")], indirect=True)
def test_a_module_that_cant_be_imported_is_told_for_each_of_its_files(desk: Desk, tmp_path: Path) -> None:
    """A domain that never starts is an outcome too, and a new one is tried for the next file."""
    outcomes = [read(desk, tmp_path / "a.x", "") for _ in range(2)]
    assert [each.verdict for each in outcomes] == [Verdict.NOT_STARTED, Verdict.NOT_STARTED]
    assert "cloister.cli.demo.modules.missing" in outcomes[0].why
    assert outcomes[0].pid != outcomes[1].pid


@pytest.mark.parametrize("desk", ["logs"], indirect=True)
def test_a_desk_that_is_closed_lets_go_of_the_file_in_hand(desk: Desk, tmp_path: Path) -> None:
    """`close` from another thread ends a read that runs with DomainUnloaded, and no domain is made after it."""
    read(desk, tmp_path / "first.log", "")
    path = tmp_path / "a.log"
    path.write_text(RUNAWAY)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            desk.read(path)
        except DomainUnloaded as error:
            raised.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    deadline = time.monotonic() + 10
    while not (desk.domain and desk.domain.status().calls) and time.monotonic() < deadline:
        time.sleep(0.001)
    desk.close(now=True)
    worker.join(10)
    assert not worker.is_alive()
    assert len(raised) == 1
    with pytest.raises(DomainUnloaded):
        desk.read(path)
    assert len(desk.lives) == 1


def test_every_kind_has_suffixes_of_its_own_and_a_module_that_is_there() -> None:
    """No suffix belongs to two kinds, and each module lies beside the others."""
    folder = Path(__file__).parents[2] / "src" / "cloister" / "cli" / "demo" / "modules"
    suffixes = list(itertools.chain.from_iterable(kind.suffixes for kind in KINDS))
    assert len(suffixes) == len(set(suffixes))
    assert {f"{kind.name}.py" for kind in KINDS} == {path.name for path in folder.glob("[a-z]*.py")}
