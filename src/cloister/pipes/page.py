"""The page that a host and its guest share, on whatever platform this is: `page_linux`, or one that holds nothing.

Without a page nothing fails: lanes wait without probing, calls are cancelled by message alone, and a report has no
stacks.
"""

from __future__ import annotations

import sys

__all__ = ["Page", "rewind"]

if sys.platform == "linux":
    from cloister.pipes.page_linux import Page as Page
    from cloister.pipes.page_linux import rewind as rewind
else:  # another platform

    class Page:
        """A page without any slot."""

        slots = 0

        def __init__(self, fd: int) -> None:
            self.cpus = memoryview(bytearray()).cast("H")
            self.cancels = self.begun = memoryview(bytearray()).cast("Q")

        @classmethod
        def create(cls) -> tuple[Page, int]:
            """Make one; the descriptor for the guest is -1, for none."""
            return cls(-1), -1

        @staticmethod
        def current_cpu() -> int:
            """Unknown: -1."""
            return -1

        def note_beat(self, number: int, cpu_ns: int) -> bool:
            """There is no place for it."""
            return False

        def beat(self) -> tuple[int, int, int]:
            """None was left here."""
            return 0, 0, 0

        def take_stacks(self) -> str:
            """Nobody writes any."""
            return ""

    def rewind(fd: int) -> None:
        """Nobody writes any stacks."""
