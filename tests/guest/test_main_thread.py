"""The main thread of a guest, as it leaves the loop in which it serves."""

from __future__ import annotations

from typing import Any

from cloister.guest import boot
from cloister.guest.interrupts import MainThread


class _Control:
    """A control channel on which the host says stop while the main thread ends a call."""

    def connect(self, peer: Any, main: MainThread, *_: object) -> None:
        main.stopping = True

    def send(self, *_: object) -> None:
        pass

    def let_go(self) -> None:
        pass

    def start_thread(self, *_: object) -> None:
        pass


class _Guest(boot.Guest):
    def _enter(self) -> None:
        pass

    def _prepare(self) -> None:
        pass


def test_exit_hooks_are_not_torn_by_a_signal_that_comes_late() -> None:
    """The main thread may see that it is to stop before the signal comes; after its loop, the signal does nothing."""
    main, control = MainThread(), _Control()
    guest = _Guest(control, main)  # type: ignore[arg-type]  # all of it that is used
    guest._setup = {"beat": None}
    guest.run()
    main.on_interrupt(0, None)  # raises StopRequested where that tears
