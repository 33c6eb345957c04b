"""cloister for asyncio: the same names, awaited."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cloister.pipes.asynchronous import Pipe, PipeServer, connect, from_fd, pair

if TYPE_CHECKING:
    from cloister.aio.domain import Domain
    from cloister.aio.functions import ask, one_way, submit

__all__ = ["Domain", "Pipe", "PipeServer", "ask", "connect", "from_fd", "one_way", "pair", "submit"]

_HOMES = {
    "Domain": "cloister.aio.domain",
    "ask": "cloister.aio.functions",
    "one_way": "cloister.aio.functions",
    "submit": "cloister.aio.functions",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: who only wants pipes loads nothing of domains."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
