"""`threading.Thread.start` while domains share an interpreter: it is ours for a time, and others may change it too."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cloister.guest import local, own_threads


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` and what is known of it are put back after each test."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(own_threads, "_start", own_threads._start)


def runs() -> bool:
    """Whether a thread can be started and does its work."""
    done: list[int] = []
    thread = threading.Thread(target=done.append, args=(1,))
    thread.start()
    thread.join()
    return done == [1]


def test_whoever_wraps_the_start_of_threads_while_a_domain_lives_goes_on() -> None:
    """A wrapper that was made around ours stays when the domain goes; the next domain does not make a ring of them."""
    before = threading.Thread.start
    own_threads.follow()
    ours = threading.Thread.start

    def wrapper(self: threading.Thread) -> None:
        ours(self)

    threading.Thread.start = wrapper  # type: ignore[method-assign]  # as a library that watches threads
    own_threads.leave()
    assert runs()
    own_threads.follow()
    assert runs()
    own_threads.leave()
    threading.Thread.start = ours  # type: ignore[method-assign]  # it is taken away again
    own_threads.follow()
    own_threads.leave()
    assert threading.Thread.start is before


def test_start_that_failed_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread to give, nothing is left of the attempt, and the next one runs the target."""
    monkeypatch.setattr(local, "shared", lambda: local.Place("subject", 1))
    own_threads.follow()
    done: list[int] = []
    thread = threading.Thread(target=done.append, args=(1,))

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(own_threads, "_start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                thread.start()
    assert not own_threads.is_followed(thread)
    thread.start()
    thread.join()
    assert done == [1]
    own_threads.leave()
