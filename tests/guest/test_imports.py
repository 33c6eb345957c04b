"""A call that is given up while it imports a module: the import is not torn, so the next call finds a whole module."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

import cloister
from cloister.errors import CallTimeout
from cloister.guest.coroutines import task_here

WAIT_S = 20.0

MODULE = """
import pathlib, time

log = pathlib.Path({log!r})
with log.open("a") as file:
    file.write("begun\\n")
end = time.monotonic() + 0.4
while time.monotonic() < end:
    pass
with log.open("a") as file:
    file.write("done\\n")

def answer():
    return 5

def loop():
    while True:
        pass
"""


@pytest.mark.parametrize("thread", ["main", "pool"])
def test_import_is_not_torn(thread: str, tmp_path: Path) -> None:
    """A cancel and a time-out in the middle of an import: the module is imported once, and the call stops after it."""
    log = tmp_path / "log"
    (tmp_path / "slow_to_import.py").write_text(MODULE.format(log=str(log)), encoding="utf-8")
    with cloister.Domain("importing", setup=cloister.Setup(path=[str(tmp_path)])) as domain:
        domain.wait_ready(WAIT_S)
        if thread == "main":
            with pytest.raises(CallTimeout):
                domain.with_options(timeout=0.2).call("slow_to_import:loop")
        else:
            future = domain.submit("slow_to_import:loop")
            end = time.monotonic() + WAIT_S
            while not log.exists() and time.monotonic() < end:
                time.sleep(0.002)
            assert future.cancel()
        assert domain.with_options(timeout=WAIT_S).call("slow_to_import:answer") == 5
        assert domain.submit("slow_to_import:answer").result(WAIT_S) == 5
        end = time.monotonic() + WAIT_S
        while domain.status().running and time.monotonic() < end:
            time.sleep(0.02)
        assert domain.status().running == 0
    assert log.read_text(encoding="utf-8").splitlines() == ["begun", "done"]


def test_asyncio_that_another_thread_imports_is_no_loop_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of the host's while another thread is in the middle of importing asyncio sees no loop, and no error."""
    monkeypatch.setitem(sys.modules, "asyncio.events", ModuleType("asyncio.events"))
    assert not task_here()
    monkeypatch.delitem(sys.modules, "asyncio.events")
    assert not task_here()
