"""Code of the user's that computes in Python is reached on every way on which a guest calls it: the frames are real.

By design not reached: a coroutine, which its loop cancels where it waits; a finalizer, in which an exception goes
nowhere; the handlers of `Unloading`, which the time for a stop bounds; what runs in the host.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cloister
from cloister.domain.domain import Domain
from cloister.guest.interrupts import Interrupted
from cloister.guest.tasks import Tasks
from cloister.objects import targets
from cloister.report import Reason
from tests.patience import wait_until

MODULES = Path(__file__).parent.parent / "modules"
JOIN_S = 30.0
LIMIT_S = 0.2

Way = Callable[[Domain, str], Any]


@pytest.fixture
def domain() -> Iterator[Domain]:
    """A domain that finds the modules of the tests."""
    with Domain("reached", setup=cloister.Setup(path=[MODULES]), echo=False) as made:
        made.wait_ready(JOIN_S)
        yield made


def _enter(domain: Domain, mark: str) -> None:
    with domain.create("spinning:Object", mark):
        pass


WAYS: dict[str, Way] = {
    "call": lambda domain, mark: domain.call("spinning:spin", mark),
    "map": lambda domain, mark: list(domain.map("spinning:spin", [mark])),
    "create": lambda domain, mark: domain.create("spinning:Made", mark),
    "handle": lambda domain, mark: domain.create_handle("spinning:Made", mark),
    "method": lambda domain, mark: domain.create("spinning:Object", mark).method(),
    "called": lambda domain, mark: domain.create("spinning:Object", mark)(),
    "property": lambda domain, mark: domain.create("spinning:Object", mark).value,
    "length": lambda domain, mark: len(domain.create("spinning:Object", mark)),
    "context": _enter,
    "generator": lambda domain, mark: list(domain.call("spinning:stream", mark)),
    "exec": lambda domain, mark: domain.exec(f"import spinning\nspinning.spin({mark!r})"),
    "eval": lambda domain, mark: domain.eval(f"__import__('spinning').spin({mark!r})"),
    "module": lambda domain, mark: domain.run_module("spinning", [mark]),
    "path": lambda domain, mark: domain.run_path(str(MODULES / "spinning.py"), [mark]),
    "nested": lambda domain, mark: domain.call("spinning:ask", lambda: domain.call("spinning:spin", mark)),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_code_is_reached(domain: Domain, way: str, tmp_path: Path) -> None:
    """A call whose caller waits no more ends, whichever way leads to the code."""
    mark = tmp_path / "mark"
    while not mark.exists():  # it may not have begun in time
        with pytest.raises(cloister.CallTimeout), cloister.timeout(LIMIT_S):
            WAYS[way](domain, str(mark))
    wait_until(Path(f"{mark}.over").exists, JOIN_S)


def test_a_submitted_call_is_reached(domain: Domain, tmp_path: Path) -> None:
    """So does one that is cancelled on a thread of the pool in a domain."""
    mark = tmp_path / "mark"
    future = domain.submit("spinning:spin", str(mark))
    wait_until(mark.exists, JOIN_S)
    future.cancel()
    wait_until(Path(f"{mark}.over").exists, JOIN_S)


@pytest.mark.parametrize("way", ["submit", "map"])
def test_a_task_of_a_pool_is_reached(way: str, tmp_path: Path) -> None:
    """So does a task, and a chunk of a map, of a pool that kills nobody; its worker does the next one."""
    mark = tmp_path / "mark"
    setup = cloister.Setup(path=[MODULES])
    with cloister.DomainPoolExecutor(1, kill_after=None, setup=setup, echo=False) as pool:
        worker = pool.submit(os.getpid).result(JOIN_S)
        if way == "submit":
            future = pool.submit("spinning:spin", str(mark))
            wait_until(mark.exists, JOIN_S)
            future.cancel()
        else:
            results = pool.map("spinning:spin", [str(mark)] * 2, [None] * 2, chunksize=2)
            wait_until(mark.exists, JOIN_S)
            results.close()  # type: ignore[attr-defined]  # as the iterators of `Executor.map`
        wait_until(Path(f"{mark}.over").exists, JOIN_S)
        assert pool.submit(os.getpid).result(JOIN_S) == worker


def test_a_chunk_ends_where_it_tells_its_results() -> None:
    """A chunk that is given up ends with its next results: whoever looks at its thread may see it wait there alone."""
    me = SimpleNamespace(number=7, unwanted=0)
    told: list[Any] = []

    def tell(part: Any, last: bool) -> None:
        told.append(part)
        me.unwanted = 7

    tasks = Tasks()
    tasks.peer = SimpleNamespace(  # type: ignore[assignment]  # all of it that is used
        page=None, serving_here=(0, 7), teller=lambda: tell, describe=repr, runs_here=lambda: me
    )
    with pytest.raises(Interrupted):
        tasks.chunk(targets.to_plain("math:sqrt"), [[4.0] * 1000])
    assert told == [[0, [2.0], {}]]


@pytest.mark.parametrize(("seconds", "timeout"), [(0.5, 30.0), (60.0, 2.0)])
def test_a_stop_in_a_finalizer_is_not_lost(seconds: float, timeout: float, tmp_path: Path) -> None:
    """A domain that is unloaded while its main thread runs a finalizer ends in order, when that is over or takes too
    long, and its exit hooks run."""
    mark, hook = tmp_path / "mark", tmp_path / "hook"

    def call() -> None:
        with pytest.raises(cloister.DomainUnloaded):
            slow.call("spinning:spin_after_finalizer", str(mark), seconds, str(hook))

    with Domain("slow", setup=cloister.Setup(path=[MODULES]), stop_timeout=timeout, echo=False) as slow:
        slow.wait_ready(JOIN_S)
        work = threading.Thread(target=call)
        work.start()
        wait_until(mark.exists, JOIN_S)
    work.join(JOIN_S)
    assert slow.report is not None
    assert (slow.report.reason, hook.exists()) == (Reason.UNLOADED, True)
