"""The intake server: a desk for each kind of file, a thread for each desk, and one queue on which the news arrive.

The main thread is the only one that draws and decides. An interrupt from the keyboard is news like any other: the
signal handler only puts it into the queue, so that it never tears through the middle of a call.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from cloister import DomainUnloaded
from cloister.cli.demo.desk import Desk
from cloister.cli.demo.kinds import KINDS, Kind, kind_of
from cloister.cli.demo.outcomes import Life, Outcome, Verdict

__all__ = ["Intake"]

_TICK = 0.1
"""Seconds between two looks at the desks, for a picture that moves."""


class Intake:
    """The server. ``with``, on the main thread, starts its domains and ends them, however it is left."""

    def __init__(self, files: Iterable[Path], work: Path) -> None:
        """Take files. `work` is where the domains leave theirs."""
        self._work = work
        self._began = time.monotonic()
        self._files: dict[Kind, list[Path]] = {}
        self._unknown: list[Path] = []
        for path in files:
            kind = kind_of(path)
            if kind is None:
                self._unknown.append(path)
            else:
                self._files.setdefault(kind, []).append(path)
        self._news: SimpleQueue[Outcome | BaseException] = SimpleQueue()
        self._threads = ThreadPoolExecutor(max(1, len(self._files)), thread_name_prefix="cloister-demo-desk")
        self._before: Any = None
        self.desks: list[Desk] = []

    def __enter__(self) -> Intake:
        """Start a domain for each kind of file that is there. Raises StartFailed where there can be none at all."""
        self._before = signal.signal(signal.SIGINT, lambda *_: self._news.put(KeyboardInterrupt()))
        try:
            for kind in KINDS:
                if kind in self._files:
                    self.desks.append(Desk(kind, self._work, self.clock))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._close(now=error is not None)
        self._threads.shutdown()
        signal.signal(signal.SIGINT, self._before or signal.default_int_handler)
        while error is None and not self._news.empty():
            if isinstance(news := self._news.get(), BaseException):
                raise news  # Ctrl-C, while all was being ended anyway

    def clock(self) -> float:
        """Seconds since the start of the server."""
        return time.monotonic() - self._began

    @property
    def lives(self) -> list[Life]:
        """The lives of all domains so far, by module and age."""
        return [life for desk in self.desks for life in desk.lives]

    def count(self, kind: Kind) -> int:
        """How many files of a kind there are."""
        return len(self._files[kind])

    def read_all(self) -> Iterator[Outcome | None]:
        """Read all files; give each outcome as it comes, and None every tenth of a second.

        Raises KeyboardInterrupt after Ctrl-C, at a place where nothing is half done.
        """
        owed = sum(map(len, self._files.values()))
        for path in self._unknown:
            what = f"no module reads {path.suffix or 'a file without a suffix'}"
            yield Outcome(file=path.name, module="", verdict=Verdict.UNKNOWN, what=what, begun=self.clock())
        for desk in self.desks:
            self._threads.submit(self._serve, desk)
        while owed:
            try:
                news = self._news.get(timeout=_TICK)
            except Empty:
                yield None
                continue
            if isinstance(news, BaseException):
                raise news
            owed -= 1
            yield news

    def _serve(self, desk: Desk) -> None:
        try:
            for path in self._files[desk.kind]:
                self._news.put(desk.read(path))
        except DomainUnloaded:
            pass  # the server is closing, and nobody waits for the rest
        except BaseException as error:
            self._news.put(error)

    def _close(self, *, now: bool) -> None:
        closers = [threading.Thread(target=desk.close, kwargs={"now": now}) for desk in self.desks]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()
