"""What is made where no KeyboardInterrupt comes: it reaches its caller, or is dropped whole."""

from __future__ import annotations

import os
import signal
import threading
import weakref

import pytest

from cloister.domain.uninterrupted import uninterrupted

JOIN_S = 10.0


class Thing:
    """Something that can be seen to be dropped."""


def test_result_and_error_reach_the_caller() -> None:
    """What the function returns or raises comes back: from a thread of its own on the main thread, else from here."""
    assert uninterrupted(threading.get_ident) != threading.get_ident()
    with pytest.raises(LookupError, match="none"):
        uninterrupted(lambda: (_ for _ in ()).throw(LookupError("none")))
    seen: list[bool] = []
    other = threading.Thread(target=lambda: seen.append(uninterrupted(threading.get_ident) == threading.get_ident()))
    other.start()
    other.join(JOIN_S)
    assert seen == [True]


def test_result_of_an_interrupted_caller_is_dropped() -> None:
    """A KeyboardInterrupt goes on upwards; what is made after it is dropped when it is there."""
    made: list[weakref.ref[Thing]] = []
    go_on, done = threading.Event(), threading.Event()

    def make() -> Thing:
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait(JOIN_S)
        thing = Thing()
        made.append(weakref.ref(thing, lambda _: done.set()))
        return thing

    with pytest.raises(KeyboardInterrupt):
        uninterrupted(make)
    go_on.set()
    assert done.wait(JOIN_S)
    assert made[0]() is None


def test_without_a_thread_it_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, as at interpreter exit, it runs on the calling one."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert uninterrupted(threading.get_ident) == threading.get_ident()
