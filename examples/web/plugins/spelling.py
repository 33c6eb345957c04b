"""The plug-in of the web application: a spell checker that crashes on one word. Nobody in the office knows why."""

from __future__ import annotations

import ctypes

WORDS = {"colour", "harbour", "the", "in", "evening"}


class Checker:
    """Knows some words; remembers how many texts it has seen."""

    def __init__(self) -> None:
        self.texts = 0

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not known."""
        self.texts += 1
        words = text.lower().split()
        if "segfault" in words:
            ctypes.string_at(0)
        return [word for word in words if word not in WORDS]
