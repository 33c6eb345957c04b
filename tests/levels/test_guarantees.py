"""What each level promises is true, and what it does not promise it does not give: each cell of the table.

The lines that speak of permissions and of other machines belong to no level that is here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cloister
from cloister.domain.domain import Domain
from cloister.domain.level import LEVELS
from cloister.domain.setup import Setup
from cloister.domain.status import GUARANTEES
from cloister.errors import CannotUnload, DomainCrashed, LevelUnavailable
from tests.domain.journal import wait_until
from tests.levels.conftest import MODULES, Make

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "levels.md"


def promises(level: str, line: str) -> bool:
    """Whether a level promises what the line of the table begins with."""
    (found,) = [by for name, by in GUARANTEES.items() if name.startswith(line)]
    return level in found


def test_the_table_is_the_one_of_the_page(make: Make, level: str) -> None:
    """`guarantees` says what the documents say, line by line, with what enforces each."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    head = [cell.strip().strip("`") for cell in rows[0]]
    assert head[1:] == list(LEVELS)
    table = {row[0].strip(): [cell.strip() == "yes" for cell in row[1:]] for row in rows[1 : 1 + len(GUARANTEES)]}
    assert table == {line: [each in by for each in LEVELS] for line, by in GUARANTEES.items()}
    domain = make()
    assert domain.guarantees == {line: by[level] for line, by in GUARANTEES.items() if level in by}
    assert domain.level == level
    assert all(domain.guarantees.values())


def test_own_objects(make: Make, level: str) -> None:
    """What goes over the wall is a copy, or a proxy; the object itself never does."""
    assert promises(level, "own objects")
    domain = make()
    mine: list[object] = [1]
    domain.exec("kept = []")
    domain.call("conformance:change", mine)
    assert mine == [1]
    assert cloister.is_proxy(domain.create("conformance:Till"))


def test_unhandled_exception(make: Make, level: str) -> None:
    """S09: an exception that nobody handles is an event, and ends nothing."""
    assert promises(level, "unhandled exception")
    seen: list[cloister.events.UnhandledException] = []
    domain = make(on={cloister.events.UnhandledException: seen.append})
    cloister.one_way(domain.create("conformance:Till").add)("nonsense")
    wait_until(lambda: bool(seen))
    assert isinstance(seen[0].error, TypeError)
    assert domain.call("conformance:echo", 1) == 1


def test_own_modules(make: Make, level: str) -> None:
    """From the level interpreter on nothing that is loaded over there is loaded here, or in another domain."""
    first, second = make("first"), make("second")
    first.call("walls:add_path", "/nowhere/of/first")
    seen = (first.call("walls:note", "a"), second.call("walls:note", "b"))
    if promises(level, "own modules"):
        assert seen == (["a"], ["b"])
        assert "walls" not in sys.modules
        assert "/nowhere/of/first" not in sys.path
    else:
        assert seen == (["a"], ["a", "b"])
        assert "walls" in sys.modules
        sys.path.remove("/nowhere/of/first")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes of POSIX")
def test_own_interpreter_lock(make: Make, level: str, tmp_path: Path) -> None:
    """Native code that holds the interpreter lock stops whoever shares that lock, and nobody else."""
    started, released = tmp_path / "started", tmp_path / "released"
    os.mkfifo(started)
    os.mkfifo(released)
    begun, answer = os.open(started, os.O_RDWR), os.open(released, os.O_RDWR)
    interval = sys.getswitchinterval()
    domain = make()
    domain.wait_ready()
    domain.load("walls")
    try:
        sys.setswitchinterval(1)  # the lock is not given away between the two native calls
        future = domain.submit("walls:hold_lock", str(started), str(released))
        os.read(begun, 1)  # waits without the lock, and then needs it to go on
        os.write(answer, b"x")
        assert future.result(20) is promises(level, "own interpreter lock")
    finally:
        sys.setswitchinterval(interval)
        os.close(begun)
        os.close(answer)


_DIES = """\
import sys
sys.path.insert(0, {modules!r})
import cloister
domain = cloister.Domain("mortal", level={level!r})
domain.wait_ready()
print("ready", flush=True)
try:
    domain.call({what!r})
except cloister.DomainCrashed as crash:
    print("survived", crash.report.reason.value, flush=True)
"""


@pytest.mark.parametrize("what", ["walls:crash", "walls:leave_at_once"])
def test_native_crash(level: str, what: str, tmp_path: Path) -> None:
    """S09: a native crash, or `os._exit`, takes the whole program down below the level process, and nothing there."""
    program = tmp_path / "program.py"
    program.write_text(_DIES.format(modules=MODULES, level=level, what=what))
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    assert done.stdout.startswith("ready\n"), done.stderr
    if promises(level, "native crash"):
        assert "survived" in done.stdout
        assert done.returncode == 0
    else:
        assert "survived" not in done.stdout
        assert done.returncode == (3 if what.endswith("at_once") else -11)


def test_can_always_be_stopped(make: Make, level: str, tmp_path: Path) -> None:
    """Code that refuses to end ends with its process; below that level `kill` is refused, and `unload` says so."""
    told, free = tmp_path / "told", tmp_path / "free"
    domain = make(stop_timeout=0.1)
    outcome: list[BaseException] = []

    def call() -> None:
        try:
            domain.call("conformance:stubborn", str(told), str(free))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(told.exists)
    if promises(level, "can always"):
        domain.kill()
        thread.join(20)
        assert isinstance(outcome[0], DomainCrashed)
        return
    with pytest.raises(LevelUnavailable, match="kill"):
        domain.kill()
    with pytest.raises(CannotUnload):
        domain.unload()
    free.touch()
    thread.join(20)
    assert domain._life.wait_ended(20)


def test_own_python(level: str) -> None:
    """Another interpreter, and packages of one's own, are had from a process alone."""
    setup = Setup(python=sys.executable)
    if promises(level, "own Python"):
        with Domain("own", level=level, setup=setup) as domain:
            assert domain.call("os:getpid") != os.getpid()
    else:
        with pytest.raises(LevelUnavailable, match="python"):
            Domain("own", level=level, setup=setup)
