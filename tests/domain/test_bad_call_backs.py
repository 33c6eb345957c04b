"""Call-backs that raise, block, or end their domain, and proxies that outlive it: each concerns its own call only."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cloister
from cloister.errors import DomainCrashed, DomainUnloaded, MarshalError

JOIN_S = 20.0
Make = Callable[..., cloister.Domain]


def test_call_back_that_blocks_stops_nobody_else(make: Make) -> None:
    """While call-backs of every kind block, other threads call this domain and others, and it can be unloaded."""
    domain, other = make(), make("other")
    release = threading.Event()
    blocked = threading.Barrier(4, timeout=JOIN_S)

    def block() -> None:
        blocked.wait()
        release.wait(JOIN_S)

    def ignore(call: Callable[[], object]) -> None:
        with pytest.raises(DomainUnloaded):
            call()

    threads = [
        threading.Thread(target=ignore, args=(lambda: domain.call("errands:call", block),)),
        threading.Thread(target=ignore, args=(lambda: domain.call("errands:call_from_thread", block),)),
    ]
    for thread in threads:
        thread.start()
    future = domain.submit("errands:call", block)
    blocked.wait()
    for each in (domain, other):
        assert each.with_options(timeout=JOIN_S).call("operator:add", 1, 1) == 2
        assert each.submit("operator:add", 1, 1).result(JOIN_S) == 2
    begun = time.monotonic()
    domain.unload()
    assert time.monotonic() - begun < JOIN_S / 2
    with pytest.raises(DomainUnloaded):
        future.result(JOIN_S)
    assert other.call("operator:add", 1, 1) == 2
    release.set()
    for thread in threads:
        thread.join(JOIN_S)


def test_call_back_that_raises_leaves_all_lanes_usable(make: Make) -> None:
    """What a call-back raises goes through the guest and comes back; each kind of lane serves the next call."""
    domain = make()

    def fail() -> None:
        raise LookupError("not here")

    for _ in range(3):
        with pytest.raises(LookupError, match="not here"):
            domain.call("errands:call", fail)
        with pytest.raises(LookupError, match="not here"):
            domain.submit("errands:call", fail).result(JOIN_S)
        assert "not here" in domain.call("callers:error_from_thread", fail)
    assert domain.call("operator:add", 1, 1) == 2


@pytest.mark.parametrize("limit", [None, 1])
def test_call_back_that_unloads_or_kills_its_own_domain(make: Make, limit: int | None) -> None:
    """A call-back may end the domain that waits for it; the call around it is told so."""
    domain = make(max_concurrency=limit)
    with pytest.raises(DomainUnloaded):
        domain.call("errands:call", domain.unload)
    domain = make(max_concurrency=limit)
    with pytest.raises(DomainCrashed, match="killed"):
        domain.call("errands:call", domain.kill)


def test_proxy_that_outlives_its_domain(make: Make) -> None:
    """A proxy whose domain has ended raises the same error at each use, at once, and lets itself be dropped."""
    unloaded, killed = make(), make()
    for domain, error in ((unloaded, DomainUnloaded), (killed, DomainCrashed)):
        proxy = domain.create("errands:Touched")
        proxy.touch(1)
        domain.unload() if error is DomainUnloaded else domain.kill()
        for _ in range(3):
            with pytest.raises(error):
                proxy.all()
            with pytest.raises(error):
                cloister.one_way(proxy.touch)(2)
            with pytest.raises(error):
                cloister.submit(proxy.all)
        assert "Touched" in repr(proxy)
        del proxy


PROGRAM = """
import sys, threading, time
import cloister

domain = cloister.Domain("stuck", setup=cloister.Setup(path=[sys.argv[1]]), stop_timeout=0.5)
began = threading.Semaphore(0)

def block():
    began.release()
    time.sleep(600)

domain.submit("errands:call", block)
threading.Thread(target=lambda: domain.call("errands:call", block), daemon=True).start()
domain.submit("errands:call_from_thread", block)
for _ in range(3):
    began.acquire()
print("leaving", flush=True)
"""


@pytest.mark.slow
def test_call_backs_that_block_do_not_hold_up_the_exit() -> None:
    """A program whose call-backs block for minutes ends in the time that a stop takes."""
    modules = str(Path(__file__).parent.parent / "modules")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, modules],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert "leaving" in done.stdout, done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize(("function", "args"), [("errands:call", ()), ("coroutines:progress", (1,))])
def test_call_back_that_is_a_coroutine_function_is_told_who_awaits_it(
    make: Make, function: str, args: tuple[int, ...]
) -> None:
    """A host without a loop awaits nothing; the error names the domain that does, and the next call is served."""
    domain = make()

    async def ask(*steps: int) -> int:
        return len(steps)

    with pytest.raises(MarshalError, match=r"a coroutine is not copied\. .* awaited by cloister\.aio\.Domain"):
        domain.call(function, ask, *args)
    assert domain.call("operator:add", 1, 1) == 2
