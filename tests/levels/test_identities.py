"""The identities of logical threads: no two of them are the same, wherever their threads run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister import calling
from cloister.domain.domain import Domain

Make = Callable[..., Domain]

THREADS = 5
OWN_THREADS = f"""
import threading, cloister
def identities():
    found = []
    for _ in range({THREADS}):
        thread = threading.Thread(target=lambda: found.append(cloister.logical_thread()))
        thread.start()
        thread.join()
    return found
"""


def test_no_two_threads_are_the_same_logical_thread(make: Make, level: str) -> None:
    """O03, S37: threads of the host and of two domains have identities of their own: what is exclusive is theirs."""
    here: dict[str, Any] = {}
    exec(OWN_THREADS, here)
    found: list[int] = [cloister.logical_thread(), *here["identities"]()]
    for name in ("first", "second"):
        domain = make(name)
        domain.exec(OWN_THREADS)
        found += domain.eval("identities()")
    assert len(set(found)) == len(found) == 1 + 3 * THREADS
    processes = {calling.place_of(identity)[0] for identity in found}
    interpreters = {calling.place_of(identity)[1] for identity in found}
    assert len(processes) == (3 if level == "process" else 1)
    assert len(interpreters) == (3 if level == "interpreter" else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_is_another_logical_thread() -> None:
    """The thread that goes on in a forked child is not that of the parent."""
    mine = cloister.logical_thread()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(cloister.logical_thread()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        theirs = int(answer.read())
    os.waitpid(child, 0)
    assert theirs != mine
    assert calling.place_of(theirs)[0] == child


def test_each_identity_says_where_it_has_begun() -> None:
    """Process, interpreter and number come out of an identity again."""
    run = threading.Thread(target=lambda: seen.append(calling.logical_thread()))
    seen: list[int] = []
    run.start()
    run.join()
    process, interpreter, number = calling.place_of(seen[0])
    assert (process, interpreter) == (os.getpid(), 0)
    assert number > 0
