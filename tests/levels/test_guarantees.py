"""What each level promises is true, and what it does not promise it does not give: each cell of the table.

Each test says which words of the table it `proves`, and asks `promises` what is to be seen at its level. The lines that
speak of permissions and of other machines belong to no level that is here.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

import cloister
from cloister.domain.domain import Domain
from cloister.domain.level import LEVELS
from cloister.domain.setup import Setup
from cloister.domain.status import GUARANTEES
from cloister.errors import CannotUnload, DomainCrashed, DomainUnloaded, LevelUnavailable
from cloister.report import Reason
from tests.levels.conftest import MODULES, Make
from tests.patience import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "levels.md"


LIMIT_S = 30.0
"""Within this everything here has an end, however loaded the machine is."""

T = TypeVar("T", bound=Callable[..., Any])
_proved: dict[str, list[Callable[..., Any]]] = {}
"""The tests of each promise, by its words in the table."""


def proves(*words: str) -> Callable[[T], T]:
    """This test shows at each level whether the promise holds that begins with these words."""

    def note(test: T) -> T:
        for each in words:
            _proved.setdefault(each, []).append(test)
        return test

    return note


def test_each_cell_has_a_test() -> None:
    """Each promise of each line has a test that runs at every level, and no test is of a line that is not there."""
    promised = [promise for line in GUARANTEES for promise in line.removesuffix(" stay inside").split(", ")]
    found = {promise: [words for words in _proved if promise.startswith(words)] for promise in promised}
    assert {promise: len(words) for promise, words in found.items()} == dict.fromkeys(promised, 1)
    assert {words for each in found.values() for words in each} == set(_proved)
    for tests in _proved.values():
        for test in tests:
            assert "level" in inspect.signature(test).parameters
            assert "promises(level" in inspect.getsource(test)


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


@proves("own objects", "values copied")
def test_own_objects(make: Make, level: str) -> None:
    """What goes over the wall is a copy, or a proxy; the object itself never does."""
    assert promises(level, "own objects")
    domain = make()
    mine: list[object] = [1]
    domain.exec("kept = []")
    domain.call("conformance:change", mine)
    assert mine == [1]
    assert cloister.is_proxy(domain.create("conformance:Till"))


@proves("unhandled exception")
def test_unhandled_exception(make: Make, level: str) -> None:
    """S09: an exception that nobody handles is an event, and ends nothing."""
    assert promises(level, "unhandled exception")
    seen: list[cloister.events.UnhandledException] = []
    domain = make(on={cloister.events.UnhandledException: seen.append})
    cloister.one_way(domain.create("conformance:Till").add)("nonsense")
    wait_until(lambda: bool(seen))
    assert isinstance(seen[0].error, TypeError)
    assert domain.call("conformance:echo", 1) == 1


@proves("own modules", "own sys.path")
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


@proves("own interpreter lock")
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


@proves("native crash", "os._exit")
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


_TAKES_ALL = """\
import sys
sys.path.insert(0, {modules!r})
import cloister
domain = cloister.Domain("greedy", level={level!r})
domain.call("walls:use_up_memory", 64 * 2**20)
try:
    held = bytearray(256 * 2**20)
    print("room")
except MemoryError:
    print("no room")
"""


@proves("out of memory")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_out_of_memory(level: str, tmp_path: Path) -> None:
    """A domain that has used up what its process may have takes it from its host below the level process."""
    program = tmp_path / "program.py"
    program.write_text(_TAKES_ALL.format(modules=MODULES, level=level))
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    assert done.stdout == ("room\n" if promises(level, "native crash, os._exit, out") else "no room\n"), done.stderr


@proves("can always be stopped")
@pytest.mark.parametrize("how", ["unload", "kill"])
def test_can_always_be_stopped(make: Make, level: str, how: str, tmp_path: Path) -> None:
    """Code that refuses to end ends with its process; below that level `kill` is refused, and `unload` says so.

    Each in time: never before the time that the domain has to end, and not long after it.
    """
    told, free = tmp_path / "told", tmp_path / "free"
    domain = make(stop_timeout=0.5)
    outcome: list[BaseException] = []

    def call() -> None:
        try:
            domain.call("conformance:stubborn", str(told), str(free))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(told.exists, LIMIT_S)
    begin = time.monotonic()
    if promises(level, "can always"):
        domain.kill() if how == "kill" else domain.unload()
        assert (0 if how == "kill" else 0.5) <= time.monotonic() - begin < LIMIT_S
        thread.join(LIMIT_S)
        assert isinstance(outcome[0], DomainCrashed if how == "kill" else DomainUnloaded)
        assert domain.report is not None
        assert domain.report.reason is (Reason.KILLED if how == "kill" else Reason.STOP_TIMEOUT)
        return
    if how == "kill":
        with pytest.raises(LevelUnavailable, match="kill"):
            domain.kill()
    else:
        with pytest.raises(CannotUnload):
            domain.unload()
        assert 0.5 <= time.monotonic() - begin < LIMIT_S
    free.touch()
    thread.join(LIMIT_S)
    domain._life.stop()
    assert domain._life.wait_ended(LIMIT_S)


@proves("own Python")
@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_own_python(level: str, tmp_path: Path) -> None:
    """Another interpreter is had from a process alone: there it is the one that the set-up names."""
    link = tmp_path / "another python"
    link.symlink_to(os.path.realpath(sys.executable))
    setup = Setup(python=str(link))
    if promises(level, "own Python"):
        with Domain("own", level=level, setup=setup) as domain:
            assert domain.eval("__import__('sys').executable") == str(link)
    else:
        with pytest.raises(LevelUnavailable, match="python"):
            Domain("own", level=level, setup=setup)


@proves("own dependencies")
@pytest.mark.skipif(sys.platform == "win32", reason="the folders of POSIX")
def test_own_dependencies(level: str, tmp_path: Path) -> None:
    """Packages of an environment of its own are found in a process alone; all ways to ask for them are refused."""
    venv.create(tmp_path / "own", symlinks=True)
    version = ".".join(map(str, sys.version_info[:2]))
    packages = tmp_path / "own" / "lib" / f"python{version}" / "site-packages"
    (packages / "only_there.py").write_text("def here():\n    return 'found'\n")
    if promises(level, "own Python, own dependencies"):
        with Domain("own", level=level, setup=Setup(venv=tmp_path / "own")) as domain:
            assert domain.call("only_there:here") == "found"
        with Domain("plain", level=level) as domain, pytest.raises(ImportError):
            domain.call("only_there:here")
        return
    for option in ({"venv": tmp_path / "own"}, {"requirements": ["numpy<2"]}):
        with pytest.raises(LevelUnavailable, match=next(iter(option))):
            Domain("own", level=level, setup=Setup(**option))
