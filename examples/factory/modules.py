"""The base class of all modules, and what the program does when one fails. It knows nothing of domains."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Module(ABC):
    """What each module of the program is."""

    @abstractmethod
    def handle(self, message: str) -> str:
        """Take a message, and say what was done."""
