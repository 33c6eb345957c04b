"""Templates as the kernel sees them: what makes domains alike, how many there are, and how they end."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import socket
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from cloister.domain import start
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup, Watchdog
from cloister.levels import template
from cloister.wire.values import Codec
from tests.domain.journal import is_running
from tests.guests import TEMPLATES
from tests.patience import wait_until

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="no templates here")


if sys.platform == "linux":
    from cloister.guest import template_linux as guest_template
    from cloister.levels import template_endings_linux, template_linux, template_process_linux


def like(**options: Any) -> template.Likeness:
    """What a domain of this set-up has in common with others."""
    setup = Setup(template=True, **options)
    begin = start.plan("subject", setup)
    message = start.setup_message("subject", 1, setup, Watchdog(), begin)
    assert begin.template is not None
    found = template.likeness(begin.template, begin.environment, message, setup.preload)
    assert found is not None
    return found


def test_what_makes_domains_alike() -> None:
    """The same set-up is alike; variables and preloads make a difference, a temporary folder makes none."""
    assert like().key == like().key == like(extra_env={"TMPDIR": "/elsewhere"}).key
    kinds: list[dict[str, Any]] = [
        {},
        {"extra_env": {"A": "1"}},
        {"preload": ["json"]},
        {"preload": ["json"], "path": ["/tmp"]},
    ]
    assert len({like(**kind).key for kind in kinds}) == len(kinds)
    assert like(path=["/tmp"]).key == like().key  # nothing is imported, so each finds its own


def test_limits_of_this_process_make_a_difference() -> None:
    """A host with other resource limits than its template's does not fork from it."""
    before = like().key
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else min(1, hard) if hard >= 0 else 1, hard))
    try:
        assert like().key != before
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def children() -> set[int]:
    """The processes that this one has made."""
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}


def test_there_are_only_so_many_templates() -> None:
    """The template that was not used for the longest time ends when there are too many; `close_all` ends all."""
    before = children()
    for number in range(5):
        assert template.ready(like(extra_env={"NUMBER": str(number)}), 30) == ""
    made = children() - before
    wait_until(lambda: sum(is_running(pid) for pid in made) == 4)
    template.close_all()
    assert not any(is_running(pid) for pid in made)


def test_program_that_is_no_template_is_given_up(tmp_path: Any) -> None:
    """A program that does not answer is killed when the time is up, and so said."""
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    before = children()
    assert template.ready(like(python=program), 0.1) == "the time was up"
    template.close_all()
    assert children() <= before


def test_template_that_nobody_needs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template without guests ends by itself when nobody has asked for its time; the next start makes another."""
    monkeypatch.setattr(template_linux, "IDLE_S", 0.0)
    before = children()
    assert template.ready(like(preload=["colorsys"]), 30) == ""
    made = children() - before
    assert made
    wait_until(lambda: not any(is_running(pid) for pid in made))
    monkeypatch.undo()
    assert template.fork(like(preload=["colorsys"]), 0) is None
    assert template.ready(like(preload=["colorsys"]), 30) == ""
    assert children() - before - made
    template.close_all()


def test_fork_of_the_host_leaves_a_template_alone_that_is_not_ready() -> None:
    """A forked child of the host closes what it has inherited, and ends nothing of its parent's."""
    subject = like(extra_env={"FORKED": "1"})
    begun = template_linux._template(subject, keen=True)
    assert begun is not None
    assert not begun.is_ready
    child = os.fork()
    if child == 0:
        os._exit(0 if begun.requests.fileno() < 0 and not template_linux._templates else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert template.ready(subject, 30) == ""
    template.close_all()


def test_others_do_not_wait_for_a_template_that_one_waits_for(tmp_path: Path) -> None:
    """While one thread waits for a long import, starts of others ask the template for nothing, and go on."""
    free = tmp_path / "free"
    (tmp_path / "imports_long.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(free)!r}):\n    time.sleep(0.01)\n"
    )
    subject = like(preload=["imports_long"], path=[str(tmp_path)])
    said: list[str] = []
    waiting = threading.Thread(target=lambda: said.append(template.ready(subject, 10)))
    waiting.start()
    wait_until(lambda: subject.key in template_linux._templates)
    for _ in range(20):
        assert template.fork(subject, None) is None
        template.refill()
    free.touch()
    waiting.join()
    assert said == [""]
    template.close_all()


def made() -> tuple[Any, Any, Any]:
    """A template without a process, and the other ends of its two sockets."""
    (requests, asked), (reports, told) = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
    return template_process_linux.Template(0, -1, requests, template_endings_linux.Endings(reports)), asked, told


RUBBISH: list[Any] = [7, [], ["born"], ["born", [1], 2], ["unborn", 1], ["ended", 1], ["ended", 1, "x", 2, 3], "x"]


@pytest.mark.parametrize("rubbish", RUBBISH, ids=repr)
def test_rubbish_from_a_template_is_the_end_of_it_only(rubbish: Any) -> None:
    """What is no message ends the template; how a guest ended is not known then, and nothing is raised."""
    subject, asked, told = made()
    with asked, told:
        asked.send(Codec().encode(rubbish))
        told.send(Codec().encode(rubbish))
        assert not subject.wait_ready(None)
        assert subject.gone
        assert subject.endings.ending(1) is None
        assert subject.endings.ending(1) is None  # its sockets are closed by now
    subject.disown()


def test_guest_that_was_told_to_begin_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where whoever waits for a fork is interrupted, the guest is let go, and does not become a spare when it comes."""
    subject, asked, told = made()
    subject.is_ready = True
    birth = template_process_linux.Birth({})

    def interrupted(self: Any, seconds: float) -> bool:
        if not seconds:
            return False
        raise KeyboardInterrupt

    with asked, told:
        with monkeypatch.context() as patch:
            patch.setattr(template_process_linux.Template, "_receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                subject.take(None, birth)
        birth.close()
        assert not subject.coming
        socket.send_fds(asked, [Codec().encode(["born", 1, 1])], [0])
        assert subject._receive(30)
        assert not subject.spares
    subject.disown()


def test_guest_is_let_go_where_its_start_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption after the fork leaves no descriptor open and no guest that nobody has."""
    subject = like(extra_env={"INTERRUPTED": "1"})
    assert template.ready(subject, 30) == ""
    pids: list[int] = []
    before = set(os.listdir("/proc/self/fd"))

    def interrupted(pid: int, *_: Any) -> Any:
        pids.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(template_linux, "Process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        template.fork(subject, 0)
    assert set(os.listdir("/proc/self/fd")) == before
    wait_until(lambda: not is_running(pids[0]))
    template.close_all()


def test_no_ending_is_lost_where_the_host_is_slow() -> None:
    """More guests than the socket takes messages end at once: the rest is told when there is room."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    subject = object.__new__(guest_template._Template)
    subject._reports = theirs
    subject._endings = deque(["ended", number, 0, 0.0, 0] for number in range(2000))
    poll = select.poll()
    subject._tell_endings(poll)
    assert subject._endings
    heard: list[int] = []
    with ours, theirs:
        while len(heard) < 2000:
            heard.append(Codec().decode(ours.recv(1000))[1])
            if poll.poll(0):
                subject._tell_endings(poll)
    assert heard == list(range(2000))


def test_namespaces_make_a_difference() -> None:
    """A host that has gone to another namespace does not fork from a template that has stayed."""
    keys: list[Any] = []

    def run() -> None:  # on a thread of its own, which alone goes there
        keys.append(like().key)
        if ctypes.CDLL(None).unshare(0x04000000) == 0:  # CLONE_NEWUTS
            keys.append(like().key)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if len(keys) < 2:
        pytest.skip("this user may not")
    assert keys[0] != keys[1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_all_threads_of_a_guest_run_where_the_host_may() -> None:
    """The processors that the host may use at a start hold for the guest's threads that were there before, too."""
    setup = Setup(template=True)
    assert start.warm_up(setup, 30)
    before = os.sched_getaffinity(0)
    one = {min(before)}
    os.sched_setaffinity(0, one)
    try:
        with Domain("subject", setup=setup) as domain:
            domain.exec("import os")
            found = domain.eval("[os.sched_getaffinity(int(thread)) for thread in os.listdir('/proc/self/task')]")
    finally:
        os.sched_setaffinity(0, before)
    assert len(found) > 1
    assert all(each == one for each in found)
