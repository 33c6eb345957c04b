"""How the guests of one template have ended, as the template tells it: heard, kept, and given to who asks.

A template reaps its guests, and says on a socket of its own how each of them ended. What nobody asks for yet is kept,
and bounded. All belongs to the watcher's thread, but for `expect`, `forget` of a guest that has never begun, `leave`
and `disown`.
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

assert sys.platform == "linux"

from cloister.errors import CloisterError
from cloister.guest.template_linux import MAX_PACKET
from cloister.levels.ending_posix import Ending, ending_of
from cloister.levels.watcher import watcher
from cloister.wire.values import decode_once

__all__ = ["Endings", "Guest"]

MAX_UNASKED: Final = 256
"""Ends that are kept though nobody has asked for them: those of spares, and of guests that are just beginning."""


class Endings:
    """The ends of one template's guests, by their numbers."""

    def __init__(self, reports: socket.socket) -> None:
        """The socket belongs to this object from here on."""
        self._reports = reports
        self._guests: set[int] = set()
        """Those that have begun to serve, and of whose ends nobody has asked yet."""
        self._told: dict[int, Ending] = {}
        """What was told and not asked for yet."""
        self._asking: dict[int, Callable[[], object]] = {}
        """Who is to be called when it was told."""
        self._deaf = self._left = False
        """Nothing more comes; the template is no more."""

    def expect(self, number: int) -> None:
        """Somebody will ask how this guest ended, or `forget` it."""
        self._guests.add(number)

    def ending(self, number: int) -> Ending | None:
        """How a guest that has ended did so; None where the template has not told yet. Waits for nothing."""
        if number not in self._told:
            self._hear()
        return self._told.pop(number, None)

    def when_told(self, number: int, tell: Callable[[], object]) -> bool:
        """Call `tell` once, when the template has told how the guest ended, or will not; False where it will not."""
        if self._deaf:
            return False
        if not self._asking:
            watcher.watch(self._reports.fileno(), selectors.EVENT_READ, self._on_report)
        self._asking[number] = tell
        return True

    def forget(self, number: int) -> None:
        """Nobody asks any more how this guest ended."""
        self._guests.discard(number)
        self._told.pop(number, None)
        if self._asking.pop(number, None) is not None:
            self._ask_no_more()
        self._close_if_over()

    def leave(self) -> None:
        """The template is no more: when nobody will ask for its last guests, the socket is closed."""
        self._left = True
        self._close_if_over()

    def disown(self) -> None:
        """This is a forked child: close the socket, and hear nothing."""
        self._reports.close()

    def _on_report(self) -> None:
        self._hear()
        heard = [number for number in self._asking if self._deaf or number in self._told]
        tells = [self._asking.pop(number) for number in heard]
        self._ask_no_more()
        for tell in tells:
            tell()

    def _ask_no_more(self) -> None:
        if not self._asking and self._reports.fileno() >= 0:
            watcher.unwatch(self._reports.fileno())

    def _hear(self) -> None:
        """Take in what the template has told."""
        while not self._deaf:
            try:
                data = self._reports.recv(MAX_PACKET, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:  # there is no socket any more
                data = b""
            try:
                _, ended, status, seconds, peak = decode_once(data)
                self._told[ended] = ending_of(status, seconds, peak)
            except (CloisterError, TypeError, ValueError):
                self._deaf = True  # it has ended, or no template says that
        if len(self._told) > MAX_UNASKED + len(self._guests):
            for number in self._told.keys() - self._guests:
                del self._told[number]

    def _close_if_over(self) -> None:
        if self._left and not self._guests:
            self._reports.close()


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest's parent, as its process knows it: the ends that a template tells, and the guest's number there."""

    endings: Endings
    number: int

    def ending(self) -> Ending | None:
        """As `Endings.ending`."""
        return self.endings.ending(self.number)

    def when_told(self, tell: Callable[[], object]) -> bool:
        """As `Endings.when_told`."""
        return self.endings.when_told(self.number, tell)

    def forget(self) -> None:
        """As `Endings.forget`."""
        self.endings.forget(self.number)
