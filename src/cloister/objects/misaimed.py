"""The error of a peer that names or calls what it was never given. Apart, because several modules here raise it."""

from __future__ import annotations

from cloister.errors import ProtocolError

__all__ = ["Misaimed"]


class Misaimed(ProtocolError):
    """The peer named what it was never given. Kept apart from a `ProtocolError` that called code raises itself."""
