"""Calls that are given up in the middle of being a host: no lock of the program is left behind."""

from __future__ import annotations

import random
import sys
import threading

import cloister
from cloister.domain.domain import Domain
from tests.levels.conftest import Make

JOIN_S = 60.0


def test_an_interrupted_guest_that_is_a_host_leaves_no_lock(make: Make, level: str) -> None:
    """O05: calls that make domains in this very domain are stopped at random moments; it ends, and others begin."""
    outer = make("outer", stop_timeout=30)
    outer.wait_ready()
    inner, rounds = ("process", 4) if level == "process" else ("thread", 12)
    outcomes: list[BaseException] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(rounds):
            try:
                with cloister.timeout(draw.uniform(0.005, 0.03)):
                    outer.call("hosting:be_a_host", inner)
            except BaseException as error:
                outcomes.append(error)

    interval = sys.getswitchinterval()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    try:
        sys.setswitchinterval(0.001)  # more moments at which threads change places
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(JOIN_S)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    assert [type(error) for error in outcomes] == [cloister.CallTimeout] * 3 * rounds
    outer.unload()
    assert outer.report is not None
    assert outer.report.reason.value == "unloaded"
    with Domain("after", level=level) as after:
        assert after.call("math:sqrt", 4) == 2
