"""Domains in this process: what they can't be asked for, what they leave alone, how they end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister import events
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup, Watchdog
from cloister.errors import CannotUnload, LevelUnavailable, StartFailed
from cloister.levels import interpreter
from tests.levels.conftest import AT_EVERY_LEVEL, MODULES, Make
from tests.patience import wait_until

pytestmark = pytest.mark.parametrize("level", AT_EVERY_LEVEL[:2], indirect=True)


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"setup": Setup(python="3.12")}, "python"),
        ({"setup": Setup(venv="/nowhere")}, "venv"),
        ({"setup": Setup(requirements=["numpy"])}, "requirements"),
        ({"setup": Setup(env={})}, "env"),
        ({"setup": Setup(extra_env={"A": "b"})}, "extra_env"),
        ({"setup": Setup(cwd="/")}, "cwd"),
        ({"setup": Setup(temp=True)}, "temp"),
        ({"setup": Setup(main_loop="asyncio")}, "main_loop"),
        ({"watchdog": Watchdog(policy="kill")}, "Watchdog"),
        ({"echo": False}, "echo"),
        ({"on": {events.Output: print}}, "Output"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_a_process_is_refused(level: str, option: dict[str, Any], word: str) -> None:
    """Asking a level for what it can't enforce is an error at creation that names the option; nothing is left."""
    with pytest.raises(LevelUnavailable, match=word):
        Domain("greedy", level=level, **option)


def test_what_needs_own_modules(level: str, tmp_path: Path) -> None:
    """Search paths, shadow copies and answers to imports are had from the level interpreter on."""
    for setup in (Setup(path=[tmp_path]), Setup(path=[tmp_path], shadow_copy=True), Setup(resolve={"module": print})):
        if level == "thread":
            with pytest.raises(LevelUnavailable, match="Setup"):
                Domain("greedy", level=level, setup=setup)
        else:
            Domain("modest", level=level, setup=setup).unload()


def test_what_is_asked_for_later_is_refused(make: Make) -> None:
    """Options of calls, `kill`, `suspend` and events too: each says what the level can't give."""
    domain = make()
    with pytest.raises(LevelUnavailable, match="kill_after"):
        domain.with_options(kill_after=1)
    with pytest.raises(LevelUnavailable, match="kill"):
        domain.kill()
    with pytest.raises(LevelUnavailable, match="allocated"):
        domain.allocated()
    with pytest.raises(LevelUnavailable, match="Output"):
        domain.on(events.Output, print)
    domain.wait_ready()
    with pytest.raises(LevelUnavailable, match="suspend"):
        domain.suspend()
    status = domain.status()
    assert (status.pid, status.memory, status.cpu_seconds) == (os.getpid(), None, None)


def test_the_host_is_left_alone(make: Make) -> None:
    """Its logging, its hooks, its `sys.path` and its signals are as before, while the domain lives and after it."""

    def look() -> list[object]:
        root = logging.getLogger()
        hooks = (threading.excepthook, sys.excepthook, sys.stdout, sys.stderr, logging.raiseExceptions)
        return [root.handlers[:], root.level, *hooks, list(sys.path), list(sys.meta_path), os.getcwd()]

    domain_modules = {"__cloister__"}
    before = look()
    domain = make(setup=Setup(preload=["conformance"]))
    domain.exec("x = 1")
    assert look() == before
    domain.unload()
    assert look() == before
    assert not {name for name in sys.modules if name.startswith("__cloister__")} - domain_modules


def test_its_unloading_is_told_inside(make: Make, tmp_path: Path) -> None:
    """O06: a handler in the domain runs while the domain works, and knows where it is; a domain can unload itself."""
    domain = make("parting")
    said = tmp_path / "said"
    domain.exec(
        f"""
import cloister, pathlib
def tell(event):
    pathlib.Path({str(said)!r}).write_text(event.domain)
cloister.current_domain().on(cloister.events.Unloading, tell)
"""
    )
    with pytest.raises(cloister.DomainUnloaded):
        domain.call("cloister:current_domain").unload()
    wait_until(lambda: domain.state.value == "ended")
    assert said.read_text() == "parting"


def test_a_start_that_hangs(make: Make, tmp_path: Path, level: str) -> None:
    """A start time-out is told in time, though the code can't be stopped; the domain ends when its code does."""
    told, free = tmp_path / "told", tmp_path / "free"
    domain = make(
        start_timeout=0.3 if level == "thread" else 4,  # an interpreter takes a while until it runs the code
        stop_timeout=0.1,
        setup=Setup(initializer="conformance:stubborn", initargs=[str(told), str(free)]),
    )
    wait_until(told.exists)
    with pytest.raises(StartFailed, match="not ready"):
        domain.wait_ready()
    with pytest.raises(CannotUnload):
        domain._life.unload()
    free.touch()
    assert domain._life.wait_ended(20)


_AT_EXIT = """\
import sys, threading
sys.path.insert(0, {modules!r})
import cloister
domain = cloister.Domain("left", level={level!r}, stop_timeout=0.3)
threading.Thread(target=lambda: domain.call("conformance:spin_and_say", {told!r}), daemon=True).start()
import os, time
while not os.path.exists({told!r}):
    time.sleep(0.01)
print("leaving", flush=True)
"""


def test_the_exit_of_the_program_does_not_hang(level: str, tmp_path: Path) -> None:
    """A program that ends with a domain in the middle of a call ends it, and then itself."""
    program = tmp_path / "program.py"
    program.write_text(_AT_EXIT.format(modules=MODULES, level=level, told=str(tmp_path / "told")))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr


_STUCK = """\
import atexit, sys, threading
sys.path.insert(0, {modules!r})
import cloister
domain = cloister.Domain("mule", level={level!r}, stop_timeout=0.1)
threading.Thread(target=lambda: domain.call("conformance:stubborn", {told!r}, "/nowhere"), daemon=True).start()
import os, time
while not os.path.exists({told!r}):
    time.sleep(0.01)
threading.excepthook = lambda args: None
atexit.register(print, "exit hook", flush=True)
sys.exit(5)
"""


def test_the_exit_of_the_program_is_bounded(level: str, tmp_path: Path) -> None:
    """Code that refuses to end does not hold up the end of the program; an interpreter costs it its exit code."""
    program = tmp_path / "program.py"
    program.write_text(_STUCK.format(modules=MODULES, level=level, told=str(tmp_path / "told")))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "exit hook\n"
    assert done.returncode == (5 if level == "thread" else 1), done.stderr
    if level == "interpreter":
        assert "code of 'mule' goes on in an interpreter of its own" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_is_warned_of(level: str, tmp_path: Path) -> None:
    """While there is another interpreter, whose existence makes a forked child crash, a fork is a RuntimeWarning."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, cloister\nwith cloister.Domain('apart', level={level!r}) as domain:\n    domain.wait_ready()\n"
        "    child = os.fork()\n    if not child:\n        os._exit(0)\n    os.waitpid(child, 0)\n"
        "    print(domain.call('math:sqrt', 16))\n"
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "4.0\n"), done.stderr
    assert ("RuntimeWarning: this program forks while 'apart'" in done.stderr) == (level == "interpreter")


def test_a_library_that_refuses_is_named(level: str, modules: None) -> None:
    """Where a native module can't be loaded in such an interpreter, the error that arrives names it."""
    if level == "thread":
        pytest.skip("a thread loads what the program loads")
    with Domain("picky", level=level) as domain, pytest.raises(ImportError, match="_tracemalloc"):
        domain.load("tracemalloc")


def test_the_level_interpreter_needs_its_python(level: str) -> None:
    """Before 3.14 it is refused with the reason; there is no level by another name."""
    with pytest.raises(LevelUnavailable, match="'thread'"):
        Domain("odd", level="fibre")
    if not interpreter.available:
        with pytest.raises(LevelUnavailable, match=r"3\.14"):
            Domain("early", level="interpreter")


def test_finalizer_that_calls_at_the_end_holds_up_nothing(make: Make) -> None:
    """What a domain lets go of last may call its host, which waits for it no more: the domain ends all the same."""
    domain = make(stop_timeout=10.0)
    held = domain.create("errands:Clinging", threading.Event().set)
    domain.unload()  # else a CannotUnload
    with pytest.raises(cloister.DomainUnloaded):
        held.function()
