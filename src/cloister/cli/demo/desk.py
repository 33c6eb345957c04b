"""A desk of the intake server: one kind of file, one domain at a time, and a new domain when that has died.

This is what there is to learn from the demo: a call into code that may do anything, and what its caller knows then.
`read` belongs to one thread; `close` may come from another at any time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from cloister import CallTimeout, Domain, DomainCrashed, DomainUnloaded, RemoteError, StartFailed
from cloister.cli.demo.kinds import Kind
from cloister.cli.demo.outcomes import Life, Outcome, Verdict, printable, where_it_died

__all__ = ["TIMEOUT", "Desk"]

TIMEOUT = 2.0
"""Seconds that a module has for a file."""
SIGN_OF_LIFE = 1.0
"""Seconds that a module has to answer anything at all, after it did not answer in time."""


class Desk:
    """Where the files of one kind are read."""

    def __init__(self, kind: Kind, work: Path, clock: Callable[[], float]) -> None:
        """Start the first domain, without waiting for it. `clock` tells the seconds since the start of the server."""
        self.kind = kind
        self.lives: list[Life] = []
        """All its domains, oldest first."""
        self.reading = ""
        """The file that it has in hand, or empty."""
        self.done = 0
        """How many files it has done with."""
        self._work = work
        self._clock = clock
        self._lock = threading.Lock()  # between `close` and the making of a domain
        self._closed = False
        self._domain: Domain | None = None
        self._start()

    @property
    def domain(self) -> Domain | None:
        """The domain that is there now; None while there is none."""
        return self._domain

    def read(self, path: Path) -> Outcome:
        """Have one file read. Whatever the module does, there is an outcome, and the next file finds a working domain.

        Raises DomainUnloaded after `close`.
        """
        self.reading = path.name
        try:
            return self._read(path)
        finally:
            self.reading = ""
            self.done += 1

    def _read(self, path: Path) -> Outcome:
        domain = self._domain or self._start()
        begun = self._clock()

        def outcome(verdict: Verdict, what: str, why: str = "") -> Outcome:
            return Outcome(
                file=path.name,
                module=self.kind.name,
                verdict=verdict,
                what=printable(what),
                why=printable(why),
                begun=begun,
                seconds=self._clock() - begun,
                pid=domain.pid,
                report=domain.report,
            )

        try:
            domain.wait_ready()
            begun = self._clock()
            self.lives[-1].ready = self.lives[-1].ready or begun
            answer = domain.with_options(timeout=TIMEOUT).call(self.kind.target, path)
        except StartFailed as failure:
            self._bury(domain)
            return outcome(Verdict.NOT_STARTED, "its domain did not start", str(failure.args[0]))
        except DomainCrashed as crash:
            self._bury(domain)
            if self._closed:
                raise DomainUnloaded(f"the desk of {self.kind.name} was closed meanwhile") from crash
            return outcome(Verdict.DIED, *_last_words(crash, self.kind.name))
        except DomainUnloaded:
            raise
        except CallTimeout:
            what = f"no answer in {TIMEOUT:g} s"
            if _answers(domain):
                return outcome(Verdict.TIMED_OUT, what, "interrupted; the domain goes on")
            domain.kill()
            self._bury(domain)
            return outcome(Verdict.TIMED_OUT, what, f"deaf to the interrupt for {SIGN_OF_LIFE:g} s more, and killed")
        except RemoteError as error:
            # Its type is unknown here, and stays so: nothing of the module is imported on this side.
            return outcome(Verdict.RAISED, error.type_name.rpartition(".")[2], error.message)
        except Exception as error:
            return outcome(Verdict.RAISED, type(error).__name__, str(error) or _meaning(error))
        return outcome(Verdict.ANSWERED, str(answer))

    def close(self, *, now: bool = False) -> None:
        """Unload its domain, or with `now` kill it. A `read` that runs ends with DomainUnloaded. Idempotent."""
        with self._lock:
            self._closed = True
            domain, self._domain = self._domain, None
        if domain is not None:
            with domain:  # unloads at the end; in silence where it is dead already
                if now:
                    domain.kill()
            self._bury(domain)

    def _start(self) -> Domain:
        with self._lock:
            if self._closed:
                raise DomainUnloaded(f"the desk of {self.kind.name} is closed")
            started = self._clock()
            self._domain = domain = Domain(self.kind.name, setup=self.kind.setup(self._work), echo=False)
            self.lives.append(Life(module=self.kind.name, domain=domain.id, pid=domain.pid, started=started))
            return domain

    def _bury(self, domain: Domain) -> None:
        """Write down the end of a domain; the next file gets another one."""
        self._domain = None
        life = next(life for life in self.lives if life.domain == domain.id)
        life.ended, life.report = self._clock(), domain.report


def _answers(domain: Domain) -> bool:
    """Whether a domain that overslept a call has come to itself: it is asked for the time."""
    try:
        domain.with_options(timeout=SIGN_OF_LIFE).call(time.monotonic)
    except (CallTimeout, DomainCrashed):
        return False
    return True


def _last_words(crash: DomainCrashed, module: str) -> tuple[str, str]:
    """What a report says, in two columns of a table."""
    report = crash.report
    if report is None:
        return "its domain died", str(crash)
    parts = [where_it_died(report, module), report.detail]
    if report.output:
        parts.append(f"its last line was “{report.output[-1]}”")
    return report.cause, "; ".join(part for part in parts if part)


def _meaning(error: Exception) -> str:
    """Words for an exception that has none of its own."""
    return "an allocation met the limit of its memory" if isinstance(error, MemoryError) else ""
