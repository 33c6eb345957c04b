"""What comes in the middle of an end: a failure of the stop itself, and jobs that outlive a domain that was dropped."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

import cloister
from cloister.domain import default, living
from cloister.domain.domain import Domain
from cloister.domain.guest_peer import GuestPeer
from cloister.domain.life import Life
from cloister.domain.setup import Setup
from cloister.levels.watcher import watcher
from cloister.report import Reason
from tests.domain.journal import MODULES
from tests.patience import wait_until

Make = Callable[..., Domain]

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")


def test_a_domain_that_could_not_be_asked_to_stop_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C in the middle of the steps of a stop is raised, and the domain is killed; nothing is left to stop."""
    domain = make(on={})
    domain.wait_ready()

    def fail(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(GuestPeer, "end", fail)
    with pytest.raises(KeyboardInterrupt):
        domain.unload()
    assert domain._life.wait_ended(30)
    assert domain.report is not None
    assert domain.report.reason is Reason.STOP_TIMEOUT
    assert domain not in cloister.domains()


def test_handlers_of_unloading_that_could_not_be_told_do_not_hold_up_the_end(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the last moments could not begin."""
    domain = make(on={cloister.events.Unloading: lambda event: None})
    domain.wait_ready()

    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(Life, "tell", fail)
    domain.unload()
    assert domain.report is not None
    assert domain.report.reason is Reason.STOP_TIMEOUT


def _dropped(life: Life) -> None:
    """Let the process of a life end, whose domain nobody holds."""
    assert life.process.pid is not None
    os.kill(life.process.pid, signal.SIGKILL)
    assert life.wait_ended(30)
    wait_until(lambda: life._finished)


@posix_only
def test_the_end_of_the_interpreter_stands_a_domain_that_goes_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A domain that was dropped and ends between the stop and the wait keeps nobody from waiting for the others."""
    first, second = Domain("first"), Domain("second")
    for domain in (first, second):
        domain.wait_ready()
    lives = [first._life, second._life]
    del domain
    with pytest.warns(ResourceWarning):
        del first
    wait_until(lambda: lives[0]._finished)
    living._stop(lives)
    assert second.report is not None
    assert second.report.reason is Reason.UNLOADED


@posix_only
def test_the_parts_of_a_life_stay_while_somebody_uses_them() -> None:
    """What nobody holds is given up by the last one that uses it, at once, and nobody begins to use it after that."""
    domain = Domain("brief")
    domain.wait_ready()
    life = domain._life
    with life.using() as there:
        assert there
        with pytest.warns(ResourceWarning):
            del domain
        _dropped(life)
        assert life.peer is not None
        with life.using() as late:
            assert not late
        assert life.peer is not None
    assert not hasattr(life, "peer")
    with life.using() as late:
        assert not late
    life.stop()
    assert default._domain_of(life) is None  # as where it ends while `domains()` looks
    assert watcher.wait_ended(30)


@posix_only
def test_a_call_back_that_outlives_its_dropped_domain_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A call of a loop of the guest's ends here long after the guest and its domain: no error is logged for it, and its
    life is gone then."""
    began, release = threading.Event(), threading.Event()

    def slow(step: int) -> None:
        began.set()
        assert release.wait(30)

    domain = Domain("brief", setup=Setup(path=[MODULES]))
    life, future = domain._life, domain.submit("coroutines:progress", slow, 1)
    assert began.wait(30)
    with pytest.warns(ResourceWarning):
        del domain
    _dropped(life)
    assert isinstance(future.exception(30), cloister.DomainError)
    del future
    with caplog.at_level(logging.ERROR):
        release.set()
        wait_until(lambda: not life._users)
    assert not caplog.records
    assert not hasattr(life, "peer")
    assert watcher.wait_ended(30)


@posix_only
def test_jobs_that_outlive_a_dropped_domain_say_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Releases and set-ups that wait for a thread when the domain goes are no errors, and not why it has ended."""
    domain = Domain("brief")
    domain.wait_ready()
    life, release = domain._life, threading.Event()
    listener = life.listener
    watcher.soon(lambda: listener._work(lambda: release.wait(30)))
    watcher.soon(lambda: listener._work(lambda: listener._release([])))
    watcher.soon(lambda: listener._work(listener._send_setup))
    watcher.soon(lambda: listener._work(lambda: life.peer.segments._make_up(1, 4096)))
    wait_until(lambda: len(life._users) == 4)
    with pytest.warns(ResourceWarning):
        del domain
    _dropped(life)
    with caplog.at_level(logging.ERROR):
        release.set()
        wait_until(lambda: not life._users)
    assert not caplog.records
    assert life._failure is None
    assert not hasattr(life, "peer")
    assert watcher.wait_ended(30)
