"""A value whose ``__getstate__`` calls the host. The host imports this module too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloister


@cloister.by_value
class Asking:
    """Travels as the answer of the host to the question that it asks on its way."""

    ask: Callable[[], int] | None = None
    answer: int = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"answer": self.answer if self.ask is None else self.ask()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.answer = state["answer"]


def make(ask: Callable[[], int]) -> Asking:
    """A value that asks when it travels."""
    made = Asking()
    made.ask = ask
    return made
