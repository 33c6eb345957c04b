"""Kill domains at random moments, many in a row: each is reported with the exact reason, and the host stays as it was.

``python -m tests.soak.kills 1000`` runs as a program of its own; the suite runs a hundred (tests/domain/test_kills.py).
What varies: the moment (idle, before ready, in a call, with large arguments under way in either direction, in a nested
call, while stopping) and a delay of up to a few milliseconds.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.errors import CloisterError, DomainCrashed, DomainUnloaded, StartFailed
from cloister.levels import template
from cloister.objects.marks import share
from cloister.report import Reason

__all__ = ["MOMENTS", "Tally", "kill_one", "main"]

MODULES = str(Path(__file__).parent.parent / "modules")
LARGE = b"x" * 300_000


def _idle(domain: Domain) -> None:
    domain.wait_ready(20)


def _before_ready(_: Domain) -> None:
    pass


def _in_call(domain: Domain) -> None:
    domain.call("troubles:sleep", 20.0)


def _sending(domain: Domain) -> None:
    while True:
        domain.call("builtins:len", LARGE)


def _receiving(domain: Domain) -> None:
    while True:
        domain.call("builtins:bytes", len(LARGE))


def _nested(domain: Domain) -> None:
    def deeper(depth: int) -> object:
        return domain.call("troubles:call_back", share(deeper), depth - 1) if depth else None

    while True:
        domain.call("troubles:call_back", share(deeper), 3)


def _submitting(domain: Domain) -> None:
    while True:
        for future in [domain.submit("troubles:add", 1, 1) for _ in range(50)]:
            future.result(20)


def _stopping(domain: Domain) -> None:
    domain.call("troubles:hang_at_exit", 20)
    domain.unload()


MOMENTS: dict[str, Callable[[Domain], None]] = {
    "idle": _idle,
    "before ready": _before_ready,
    "in a call": _in_call,
    "sending": _sending,
    "receiving": _receiving,
    "in a nested call": _nested,
    "submitting": _submitting,
    "stopping": _stopping,
}


@dataclass
class Tally:
    """What was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def kill_one(moment: str, delay: float, tally: Tally) -> None:
    """Make a domain, bring it to the moment, kill its process from outside after `delay` seconds, judge the report."""
    domain = Domain("victim", setup=Setup(path=[MODULES]), echo=False, stop_timeout=20)
    raised: list[BaseException] = []
    if moment not in ("idle", "before ready"):
        domain.wait_ready(20)

    def work() -> None:
        try:
            MOMENTS[moment](domain)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, name="soak")
    thread.start()
    if moment == "stopping":
        while domain.state.value != "stopping":
            time.sleep(0.0005)
    elif moment == "idle":
        thread.join(20)
    time.sleep(delay)
    os.kill(domain.pid, signal.SIGKILL)
    begin = time.monotonic()
    ended = domain._life.wait_ended(20)
    took = time.monotonic() - begin
    thread.join(20)
    tally.kills[moment] += 1
    for problem in _judge(domain, moment, raised, ended and not thread.is_alive(), took):
        tally.wrong.append(f"{moment}, {delay * 1000:.1f} ms: {problem}")


def _judge(domain: Domain, moment: str, raised: list[BaseException], ended: bool, took: float) -> list[str]:
    report = domain.report
    if not ended or report is None:
        return ["it did not end"]
    wrong = []
    expected = Reason.UNLOADED if moment == "stopping" else Reason.SIGNAL
    if report.reason is not expected or report.signal != signal.SIGKILL:
        wrong.append(f"{report.reason} with signal {report.signal}: {report.detail}")
    if took > 5:
        wrong.append(f"it took {took:.1f} s to be noticed")
    kind: type[CloisterError] = DomainUnloaded if moment == "stopping" else DomainCrashed
    for error in raised:
        if not isinstance(error, kind) or (isinstance(error, DomainCrashed) and error.report is not report):
            wrong.append(f"the caller got {error!r}")
    if moment not in ("idle", "before ready", "stopping") and not raised:
        wrong.append("the caller got no exception")
    try:
        domain.call("troubles:pid")
        wrong.append("a call after the end returned")
    except (DomainCrashed, DomainUnloaded, StartFailed):
        pass
    return wrong


@dataclass(frozen=True)
class Usage:
    """What this process uses."""

    descriptors: int
    threads: int
    blocks: int
    """Pieces of memory that Python has in use: what a leak makes more of."""
    memory: int
    """Resident memory in KiB, with what the C library keeps for later."""

    @classmethod
    def now(cls) -> Usage:
        """Look, when the threads that end by themselves have ended, and without templates, which stay on purpose."""
        template.close_all()
        deadline = time.monotonic() + 5
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * resource.getpagesize() // 1024
        return cls(len(os.listdir("/proc/self/fd")), threading.active_count(), sys.getallocatedblocks(), memory)

    def is_flat_since(self, before: Usage) -> bool:
        """Whether nothing has grown: 4 % of the blocks are noise, and 12 MiB are what a dozen threads' arenas keep."""
        return (
            self.descriptors <= before.descriptors
            and self.threads <= before.threads
            and self.blocks <= before.blocks * 1.04
            and self.memory <= before.memory + 12 * 1024
        )


def main(count: int, seed: int = 1) -> int:
    """Kill `count` domains; print what was seen; return 0 where all was exact and flat."""
    chance, tally = random.Random(seed), Tally()
    moments = list(MOMENTS)
    for moment in moments * 2:  # what is made once is made before the first look
        kill_one(moment, 0.001, tally)
    before = Usage.now()
    begin = time.monotonic()
    for _ in range(count - 2 * len(moments)):
        kill_one(chance.choice(moments), chance.random() ** 2 * 0.03, tally)
    after = Usage.now()
    print(f"{sum(tally.kills.values())} kills in {time.monotonic() - begin:.0f} s: {dict(tally.kills)}")
    print(f"before: {before}\nafter:  {after}")
    for line in tally.wrong:
        print("WRONG:", line)
    return 0 if after.is_flat_since(before) and not tally.wrong else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
