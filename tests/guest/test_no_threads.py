"""A guest whose system has no thread left: what needs one waits or fails by name, and the guest serves on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import cloister
from cloister.domain.domain import Domain
from tests.patience import wait_until

Make = Callable[..., Domain]

NONE_LEFT = """
import threading
start = threading._start_new_thread if hasattr(threading, "_start_new_thread") else threading._start_joinable_thread
def refuse(*_, **__):
    raise RuntimeError("can't start new thread")
def take(name="_start_new_thread" if hasattr(threading, "_start_new_thread") else "_start_joinable_thread"):
    setattr(threading, name, refuse)
def give(name="_start_new_thread" if hasattr(threading, "_start_new_thread") else "_start_joinable_thread"):
    setattr(threading, name, start)
take()
"""


def test_a_call_waits_for_a_thread(make: Make) -> None:
    """A call from a second thread of the host waits until the guest has a thread for it, and an event says so; the
    guest goes on to hear its host, and its main thread to serve."""
    domain = make()
    told: list[cloister.events.UnhandledException] = []
    domain.on(cloister.events.UnhandledException, told.append)
    domain.exec(NONE_LEFT)
    answers: list[object] = []
    caller = threading.Thread(target=lambda: answers.append(domain.call("math:sqrt", 4)))
    caller.start()
    wait_until(lambda: told)
    assert "no thread left" in str(told[0].error)
    assert domain.call("math:sqrt", 9) == 3
    assert not answers
    domain.exec("give()")
    caller.join(30)
    assert answers == [2]


def test_a_coroutine_without_a_thread_fails_and_the_next_one_runs(make: Make) -> None:
    """The loop of a domain needs a thread: where there is none its call fails by name, and the next one tries again."""
    domain = make()
    domain.exec(NONE_LEFT)
    domain.exec("async def one():\n    return 1")
    with pytest.raises(cloister.CallCancelled, match="can't start new thread"):
        domain.call("__cloister__:one")
    domain.exec("give()")
    assert domain.call("__cloister__:one") == 1


def test_a_domain_without_a_thread_for_its_farewell_ends(make: Make) -> None:
    """Handlers of `Unloading` in a guest without a thread do not run, and its end comes in its time all the same."""
    domain = make(stop_timeout=1)
    domain.exec("import cloister\ncloister.current_domain().on(cloister.events.Unloading, print)")
    domain.exec(NONE_LEFT)
    domain.unload()
    assert domain.report is not None
