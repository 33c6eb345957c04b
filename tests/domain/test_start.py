"""How a domain starts: at once, with an identity of its own, set up as asked; and how a start fails."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.domain import events, start
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup, Watchdog
from cloister.domain.state import State
from cloister.errors import CallTimeout, DomainCrashed, LevelUnavailable, StartFailed
from cloister.levels import lifeline
from cloister.report import Reason
from tests.domain.journal import MODULES, Journal
from tests.patience import wait_until

Make = Callable[..., Domain]


@pytest.mark.skipif(os.environ.get("CLOISTER_TEMPLATE") == "first", reason="the first domain waits for its template")
def test_start_returns_before_the_guest_has_connected(make: Make, journal: Journal) -> None:
    """S01: making a domain does not wait for it: nothing of the guest has been heard by then, and the call waits."""
    begin = time.monotonic()
    domain = make()
    took = time.monotonic() - begin
    assert domain.status().state == "starting"
    assert journal.events == []
    domain.wait_ready(10)
    assert took < (time.monotonic() - begin) / 2
    assert domain.state is State.READY


def test_two_guests_get_identities_and_channels_of_their_own(make: Make) -> None:
    """S02: each child knows its own name and number from its parent, and hears and is heard as nobody else."""
    journals = [Journal(), Journal()]
    domains = [make(f"child{i}", on=journals[i].all) for i in range(2)]
    for index, domain in enumerate(domains):
        assert domain.eval("__import__('cloister').current_domain().name") == f"child{index}"
        assert domain.eval("__import__('cloister').current_domain().id") == domain.id
        domain.call("builtins:print", f"for {index}")
        domain.unload()
    for index, domain in enumerate(domains):
        assert {event.domain for event in journals[index].events} == {f"child{index}"}
        assert {event.pid for event in journals[index].events} == {domain.pid}
        assert journals[index].lines() == [f"for {index}"]
    assert domains[0].pid != domains[1].pid
    assert domains[0].id != domains[1].id


def test_connected_names_the_python_of_the_guest(make: Make, journal: Journal) -> None:
    """S03: the connected event comes once, with name, pid and Python version."""
    domain = make("first")
    domain.wait_ready(10)
    journal.wait_for(events.Connected)
    (event,) = journal.of(events.Connected)
    assert (event.domain, event.pid) == ("first", domain.pid)
    assert event.python == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.slow
def test_many_domains_need_one_thread(make: Make) -> None:
    """S01: eight domains are watched by one thread."""
    before = threading.active_count()
    for number in range(8):
        make(f"d{number}", on={}).wait_ready(20)
    wait_until(lambda: threading.active_count() <= before + 1)


def test_guest_has_no_descriptor_beyond_its_own(make: Make) -> None:
    """S02: what the host has open, inheritable or not, does not reach a guest."""
    reader, writer = os.pipe()
    try:
        os.set_inheritable(reader, True)
        opened, again = (_descriptors_of(make(name, on={})) for name in ("first", "second"))
    finally:
        os.close(reader)
        os.close(writer)
    assert len(opened) == len(again)  # two threads may take their numbers in either order
    assert max(opened) < 16


def _descriptors_of(domain: Domain) -> set[int]:
    """What a guest has open, once its control thread has what finalizers ring it by."""
    domain.wait_ready(30)
    folder = Path(f"/proc/{domain.pid}/fd")
    wait_until(lambda: any(_link_of(path) == "anon_inode:[eventfd]" for path in folder.iterdir()), 30)
    return set(domain.call("troubles:descriptors"))


def _link_of(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # it was closed at this moment
        return ""


# -- what a set-up sets up -------------------------------------------------------------------------------------------


def test_setup_gives_path_folder_environment_and_configuration(make: Make, tmp_path: Path) -> None:
    """The modules of `path` come first, `cwd`, `env`, `extra_env` and `config` are what the guest finds."""
    (tmp_path / "json.py").write_text("WHO = 'mine'")
    setup = Setup(
        path=[tmp_path, MODULES],
        cwd=tmp_path,
        env={"ONLY": "this", "BOTH": "old"},
        extra_env={"BOTH": "new"},
        config={"depth": 3, "names": ("a", "b")},
    )
    domain = make(setup=setup)
    assert domain.eval("__import__('json').WHO") == "mine"
    assert domain.call("troubles:folder") == str(tmp_path)
    found = [domain.call("troubles:environment", name) for name in ("ONLY", "BOTH", "HOME")]
    assert found == ["this", "new", None]
    assert dict(domain.eval("__import__('cloister').current_domain().config")) == {"depth": 3, "names": ("a", "b")}


def test_environment_of_the_host_is_inherited_unless_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `env` a guest has the host's environment, and `extra_env` beside it."""
    monkeypatch.setenv("CLOISTER_TEST_OF_ENV", "inherited")
    domain = make(setup=Setup(path=[MODULES], extra_env={"MORE": "1"}))
    assert domain.call("troubles:environment", "CLOISTER_TEST_OF_ENV") == "inherited"
    assert domain.call("troubles:environment", "MORE") == "1"


def test_module_in_the_working_directory_is_not_picked_up(make: Make, tmp_path: Path) -> None:
    """The working directory of the host is no place where a guest's interpreter or ours looks for modules."""
    (tmp_path / "importlib.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "socket.py").write_text("raise SystemExit('hijacked')")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        domain = make()
        assert domain.call("troubles:add", 1, 1) == 2
    finally:
        os.chdir(before)


def test_initializer_runs_before_ready_on_the_main_thread(make: Make) -> None:
    """An initializer, a function or a name, has run with its arguments when the first call is served."""
    domain = make(setup=Setup(path=[MODULES], initializer="os:putenv", initargs=("A", "b")))
    domain.wait_ready(10)

    def initialize(text: str) -> None:
        import builtins
        import threading

        builtins.SET_BY_INITIALIZER = (text, threading.current_thread() is threading.main_thread())  # type: ignore[attr-defined]  # that is the point

    domain = make("second", setup=Setup(initializer=initialize, initargs=("hello",)), on={})
    assert domain.eval("SET_BY_INITIALIZER") == ("hello", True)


# -- how a start fails -----------------------------------------------------------------------------------------------


def test_interpreter_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    """No executable at `python`: StartFailed at the creation, with the path and what to do."""
    with pytest.raises(StartFailed, match=r"no Python interpreter at .*nowhere"):
        Domain(setup=Setup(python=tmp_path / "nowhere"))
    with pytest.raises(StartFailed, match="no Python interpreter"):
        Domain(setup=Setup(python=tmp_path))


def test_executable_that_can_not_be_run_fails_the_start(tmp_path: Path) -> None:
    """A file that is executable and no program is StartFailed at the creation, and leaves nothing behind."""
    program = tmp_path / "text"
    program.write_text("not a program")
    program.chmod(0o755)
    with pytest.raises(StartFailed, match=r"could not be started: .*Exec format error"):
        Domain(setup=Setup(python=program))


def test_folder_without_an_environment_and_program_without_a_python_are_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad input: both are told at once, with the domain, and with what to write instead."""
    with pytest.raises(
        StartFailed, match=rf"'subject': there is no virtual environment in '{tmp_path}' \(Setup.venv\)"
    ):
        make(setup=Setup(venv=tmp_path))
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(StartFailed, match=r"name one with Setup\(python=...\)"):
        make()


def test_program_that_is_no_python_fails_the_start(make: Make) -> None:
    """A program that ends without a word of ours is StartFailed with its report."""
    domain = make(setup=Setup(python="/bin/true"))
    with pytest.raises(StartFailed, match="ended before it was ready") as caught:
        domain.call("troubles:pid")
    assert caught.value.report is not None
    assert (caught.value.report.reason, caught.value.report.exit_code) == (Reason.EXITED, 0)


def test_program_that_says_nothing_is_a_start_time_out(make: Make, tmp_path: Path) -> None:
    """A guest that is not ready in time is killed, with the reason `start time-out`."""
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    domain = make(setup=Setup(python=program), start_timeout=0.3)
    with pytest.raises(StartFailed, match=r"not ready within 0\.3 s") as caught:
        domain.wait_ready(10)
    assert caught.value.report is not None
    assert caught.value.report.reason is Reason.START_TIMEOUT


def test_initializer_that_hangs_is_a_start_time_out_with_stacks(make: Make) -> None:
    """An initializer that does not return is killed in time, and the report shows where it hung."""
    domain = make(setup=Setup(path=[MODULES], initializer="troubles:sleep", initargs=(60.0,)), start_timeout=4.0)
    with pytest.raises(StartFailed) as caught:
        domain.wait_ready(30)
    assert caught.value.report is not None
    assert caught.value.report.reason is Reason.START_TIMEOUT
    assert "in sleep" in caught.value.report.stacks


def test_initializer_that_raises_fails_the_start_with_its_exception(make: Make, journal: Journal) -> None:
    """What the initializer raises is the cause of StartFailed, and in the report; there is no ready event."""
    domain = make(setup=Setup(initializer="operator:floordiv", initargs=(1, 0)))
    with pytest.raises(StartFailed, match="ZeroDivisionError") as caught:
        domain.wait_ready(10)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.report is not None
    assert caught.value.report.reason is Reason.START_FAILED
    journal.wait_for(events.Exited)
    assert journal.kinds() == ["Connected", "Exited"]


def test_initializer_that_ends_the_process_fails_the_start(make: Make) -> None:
    """A guest that ends in its initializer is StartFailed with the exact reason, not a crash of a ready domain."""
    domain = make(setup=Setup(path=[MODULES], initializer="troubles:exit_at_once", initargs=(3,)))
    with pytest.raises(StartFailed) as caught:
        domain.call("troubles:pid")
    assert caught.value.report is not None
    assert (caught.value.report.reason, caught.value.report.exit_code) == (Reason.EXITED, 3)


def test_initializer_whose_module_is_missing_fails_the_start(make: Make) -> None:
    """A module that can't be imported is named as the cause."""
    domain = make(setup=Setup(initializer="acme_that_is_not_there:start"))
    with pytest.raises(StartFailed, match="acme_that_is_not_there") as caught:
        domain.wait_ready(10)
    assert isinstance(caught.value.__cause__, ImportError)


def test_initializer_that_can_not_travel_fails_the_start(make: Make) -> None:
    """An initializer that holds what can't be pickled fails the start, with what is wrong."""
    lock = threading.Lock()
    domain = make(setup=Setup(initializer=lambda: lock))
    with pytest.raises(StartFailed, match="lock"):
        domain.wait_ready(10)


@pytest.mark.parametrize("setup", [Setup(path=["/nowhere/at/all"]), Setup(cwd="/nowhere/at/all")], ids=["path", "cwd"])
def test_folder_that_is_not_there_is_refused_at_once(setup: Setup) -> None:
    """A folder of the set-up that does not exist is StartFailed at the creation, and names the folder."""
    with pytest.raises(StartFailed, match="/nowhere/at/all"):
        Domain(setup=setup)


def test_options_out_of_range_and_unknown_levels_are_refused() -> None:
    """What can't be meant is an error at the creation."""
    with pytest.raises(LevelUnavailable, match="'elsewhere'"):
        Domain(level="elsewhere")
    with pytest.raises(ValueError, match="max_concurrency"):
        Domain(max_concurrency=0)
    with pytest.raises(ValueError, match="stop_timeout"):
        Domain(stop_timeout=-1)


def test_wait_for_ready_ends_at_its_time(make: Make) -> None:
    """`wait_ready` with a limit raises CallTimeout; the domain goes on starting and is ready later."""
    domain = make()
    with pytest.raises(CallTimeout, match="before domain 'subject' was ready"):
        domain.wait_ready(0.001)
    assert domain.call("troubles:add", 1, 1) == 2


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[int], None]]:
    """Lets a test leave this process so many free descriptors and no more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []

    def leave(count: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        try:
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            for _ in range(count):
                os.close(fillers.pop())

    yield leave
    for fd in fillers:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif("CLOISTER_TEMPLATE" in os.environ, reason="a template has descriptors too")
def test_full_descriptor_table_fails_the_start_and_nothing_is_left(
    make: Make, few_descriptors: Callable[[int], None]
) -> None:
    """Whatever number of descriptors is left, a start that needs one more is StartFailed, and the next one works."""
    lifeline.reader()  # made once, and kept
    threads = threading.active_count()
    domain, count = None, 0
    for count in range(40):
        few_descriptors(count)
        words = ""
        try:
            domain = make("tight")
            break
        except StartFailed as error:
            words = str(error)
        assert "Too many open files" in words
        assert "each takes about 7 descriptors" in words
        assert "RLIMIT_NOFILE" in words
        wait_until(lambda: threading.active_count() == threads)
        free = [os.dup(1) for _ in range(count)]
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(1)
        for fd in free:
            os.close(fd)
    assert 5 < count < 39
    assert domain is not None
    assert domain.call("troubles:add", 1, 1) == 2


def test_version_of_the_host_package_is_that_of_the_guest(make: Make) -> None:
    """The guest runs the host's own cloister."""
    assert make().eval("__import__('cloister').__file__") == cloister.__file__


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"path": "/tmp"}, TypeError),
        ({"extra_env": {"A": 1}}, TypeError),
        ({"env": {"A=B": "x"}}, ValueError),
        ({"extra_env": {"A": "x\0y"}}, ValueError),
    ],
)
def test_malformed_setup_is_refused_by_the_name_of_the_option(options: dict[str, Any], error: type[Exception]) -> None:
    """A path that is one text, and variables that no process can have, are refused where they are written."""
    with pytest.raises(error, match=r"Setup\.(path|env|extra_env)"):
        Setup(**options)


def test_endless_stop_and_beat_are_refused() -> None:
    """A stop is bounded and a beat comes: neither may be longer than the system can wait."""
    for endless in (float("inf"), 1e12):
        with pytest.raises(ValueError, match="stop_timeout is at most"):
            Domain("endless", stop_timeout=endless)
        with pytest.raises(ValueError, match="beat is the seconds"):
            Watchdog(beat=endless)


def test_guest_without_descriptors_says_why_it_serves_no_further_lane(make: Make, journal: Journal) -> None:
    """A lane whose descriptors a guest can't take is an error by name; its control thread goes on."""
    domain = make(setup=Setup(path=[MODULES]))
    domain.call("papers:allow_descriptors", False)
    with ThreadPoolExecutor(1) as other, pytest.raises(DomainCrashed):
        other.submit(domain.call, "operator:neg", 1).result(30)
    journal.wait_for(events.UnhandledException)
    (event,) = journal.of(events.UnhandledException)
    assert "no descriptor left for a lane" in str(event.error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, LookupError])
def test_no_folder_is_left_where_a_start_is_torn(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Whatever a start ends with, it is raised as it is, and the temporary folder goes."""

    def torn(*_: object) -> None:
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(start, "spawn_guest", torn)
    with pytest.raises(error):
        make(setup=Setup(temp=True))
    assert not list(tmp_path.iterdir())
