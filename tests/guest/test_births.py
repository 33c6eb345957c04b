"""Forked guests at the edges of their lives: what fails before they are ready is told, and what is not theirs stays."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.domain import start
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.errors import CloisterError, StartFailed
from cloister.guest.control import Control
from cloister.guest.work_lane import WorkServing
from cloister.levels import template
from cloister.wire import frames
from cloister.wire.messages import Kind
from cloister.wire.values import Codec
from tests.domain.journal import MODULES
from tests.guests import TEMPLATES

Make = Callable[..., Domain]

forks = pytest.mark.skipif(not TEMPLATES, reason="no templates here")


def warm(**options: Any) -> Setup:
    """A set-up whose template is ready."""
    setup = Setup(path=[MODULES], template=True, **options)
    assert cloister.warm_up(setup, 30)
    return setup


# -- what is told of a failure ---------------------------------------------------------------------------------------


@forks
@pytest.mark.parametrize("ahead", [False, True], ids=["waits", "calls ahead"])
def test_set_up_that_fails_after_the_fork_is_told(make: Make, monkeypatch: pytest.MonkeyPatch, ahead: bool) -> None:
    """A folder that goes while a forked domain starts is its cause, also where a call was written by then."""
    setup, message = warm(), start.setup_message
    monkeypatch.setattr(start, "setup_message", lambda *args: {**message(*args), "cwd": "/nowhere/at/all"})
    domain = make(setup=setup)
    with pytest.raises(StartFailed, match="/nowhere/at/all") as caught:
        domain.call("os:getpid") if ahead else domain.wait_ready(30)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@forks
def test_guest_that_is_killed_before_its_set_up_fails_one_start(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a guest dies between its birth and its session, its domain says so; the next one is not affected."""
    setup, fork = warm(), template.fork

    def killed(*args: Any) -> Any:
        born = fork(*args)
        assert born is not None
        os.kill(born[0].pid, signal.SIGKILL)
        return born

    with monkeypatch.context() as patch:
        patch.setattr(template, "fork", killed)
        with pytest.raises(CloisterError, match="SIGKILL"):
            make("killed", setup=setup).call("os:getpid")
    assert make("next", setup=setup).call("os:getpid") != os.getpid()


def channel() -> tuple[socket.socket, Control]:
    """A control channel: the host's end, and the guest's."""
    ours, theirs = socket.socketpair()
    return ours, Control(theirs)


def arrived(ours: socket.socket) -> list[int]:
    """The kinds of the messages that are there."""
    poll, decoder, kinds = select.poll(), frames.FrameDecoder(), []
    poll.register(ours, select.POLLIN)
    while poll.poll(0):
        decoder.feed(ours.recv(4096))
    while (frame := decoder.next_frame()) is not None:
        kinds.append(frame.kind)
    return kinds


def test_what_is_held_goes_out_when_it_is_let_go() -> None:
    """Messages that belong together leave together, in their order, and what comes later leaves at once."""
    ours, control = channel()
    with ours, control.channel:
        control.hold()
        control.greet()
        control.send(Kind.READY)
        assert arrived(ours) == []
        control.let_go()
        control.let_go()
        assert arrived(ours) == [Kind.HELLO, Kind.READY]
        control.send(Kind.READY)
        assert arrived(ours) == [Kind.READY]


def test_what_is_held_goes_out_before_the_set_up_is_waited_for() -> None:
    """A greeting is not kept while the host is waited for."""
    ours, control = channel()
    with ours, control.channel:
        control.hold()
        control.greet()

        def wait() -> None:
            with pytest.raises(EOFError):
                control.receive_setup()

        thread = threading.Thread(target=wait)
        thread.start()
        assert ours.recv(4096)
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()


# -- orders before the set-up ----------------------------------------------------------------------------------------


def order(kind: Kind, *body: Any) -> bytes:
    """A message of a host."""
    return b"".join(frames.serialize(kind, Codec().encode([*body])))


def test_orders_before_the_set_up_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel of a call that was sent ahead may be there before the set-up: it is obeyed after it, in its order."""
    ours, control = channel()
    obeyed: list[int] = []
    monkeypatch.setattr(control, "_obey", lambda frame: obeyed.append(frame.kind))
    with ours, control.channel:
        ours.sendall(order(Kind.CANCEL, 0, 1) + order(Kind.SETUP, {"a": 1}) + order(Kind.RELEASE, []))
        assert control.receive_setup() == {"a": 1}
        control._obey_all()
        control._obey_all()
    assert obeyed == [Kind.CANCEL, Kind.RELEASE]


def test_stop_before_the_set_up_is_the_end() -> None:
    """A host that does not want a guest any more need not send it a set-up."""
    ours, control = channel()
    with ours, control.channel:
        ours.sendall(order(Kind.CANCEL, 0, 1) + order(Kind.STOP))
        with pytest.raises(EOFError):
            control.receive_setup()


# -- the end of a forked guest ---------------------------------------------------------------------------------------


@forks
def test_forked_guest_that_exits_closes_no_file_of_the_users(make: Make, tmp_path: Path) -> None:
    """Whatever ends a forked guest, descriptors whose numbers were its template's are left alone."""
    path = tmp_path / "said"
    domain = make(setup=warm(initializer="leaving:exit_with_open_files", initargs=(str(path), 5)))
    with pytest.raises(StartFailed, match="5"):
        domain.wait_ready(30)
    domain.kill()
    assert path.read_text() == "0 lost"


# -- before the fork -------------------------------------------------------------------------------------------------

_FILL = """
from cloister.guest import filling
taken = filling.fill()
print(sum(len(one) for one in taken), all(id(one[-1]) % 16384 == 48 for one in taken))
"""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it is about this one's memory")
@pytest.mark.parametrize("allocator", ["pymalloc", "malloc", "debug"])
def test_pools_are_filled_where_there_are_pools(allocator: str) -> None:
    """A template takes what is free in the pools in use, and no memory where Python has none."""
    environment = {**os.environ, "PYTHONMALLOC": allocator}
    run = subprocess.run([sys.executable, "-c", _FILL], env=environment, capture_output=True, text=True, check=True)
    count, ends_at_a_pool = run.stdout.split()
    assert ends_at_a_pool == "True"
    assert int(count) == 0 if allocator != "pymalloc" else int(count) > 0


_REHEARSE = """
import gc, os, sys
from cloister.guest import local, rehearsal

def opened():
    return sorted(os.listdir("/proc/self/fd"))

def fail(*args):
    raise OSError(24, "no descriptor is left")

rehearsal.rehearse(1)
gc.collect()
before = opened()
for where, name in ((rehearsal.Page, "create"), (rehearsal.Guest, "take_up"), (rehearsal, "_setup")):
    kept = where.__dict__[name]
    setattr(where, name, fail)
    try:
        rehearsal.rehearse(1)
    except OSError:
        pass
    gc.collect()
    print(opened() == before, rehearsal._NAMESPACE in sys.modules, local.here().name == "")
    setattr(where, name, kept)
"""


@forks
def test_rehearsal_that_fails_leaves_nothing() -> None:
    """Where no descriptor is left in the middle of a rehearsal, what was opened is closed, and what was set is not."""
    run = subprocess.run([sys.executable, "-c", _REHEARSE], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["True False True"] * 3


@forks
def test_folder_that_is_made_after_the_preload_is_found(make: Make, tmp_path: Path) -> None:
    """What the import system of a template has not found is looked for again in each guest."""
    later = tmp_path / "later"
    (tmp_path / "looks.py").write_text(
        f"import sys\nsys.path.insert(0, {str(later)!r})\ntry:\n    import made_later\nexcept ImportError:\n    pass\n"
    )
    setup = Setup(path=[tmp_path], preload=["looks"], template=True)
    assert cloister.warm_up(setup, 30)
    later.mkdir()
    (later / "made_later.py").write_text("NUMBER = 7\n")
    domain = make(setup=setup)
    domain.exec(f"import sys; sys.path.insert(0, {str(later)!r})")
    assert domain.eval("__import__('made_later').NUMBER") == 7


# -- without a thread ------------------------------------------------------------------------------------------------


def test_lane_of_a_worker_goes_on_where_no_thread_is_left() -> None:
    """Who finds the pipe full, and no thread to wait for it, leaves that to the next answer, and may try again."""

    class NoThreads:
        def start(self, *_: object) -> None:
            raise RuntimeError("can't start new thread")

    class Peer:
        threads = NoThreads()

    class Other:
        thread = 0

    serving: Any = object.__new__(WorkServing)
    serving._peer, serving._lane, serving._running, serving._flushing = Peer(), 1, Other(), False
    serving._flush_beside()
    assert not serving._flushing
