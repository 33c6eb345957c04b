"""Starting guests from templates, on whatever platform this is: `template_linux`, or not at all.

Elsewhere a fork is not sound (macOS) or not there (Windows): every domain is started by exec.
"""

from __future__ import annotations

import sys

__all__ = ["MAX_SPARES", "Likeness", "close_all", "fork", "likeness", "ready", "refill"]

if sys.platform == "linux":
    from cloister.levels.template_linux import MAX_SPARES as MAX_SPARES
    from cloister.levels.template_linux import Likeness as Likeness
    from cloister.levels.template_linux import close_all as close_all
    from cloister.levels.template_linux import fork as fork
    from cloister.levels.template_linux import likeness as likeness
    from cloister.levels.template_linux import ready as ready
    from cloister.levels.template_linux import refill as refill
else:  # another platform
    from typing import Any, TypeAlias

    MAX_SPARES = 0
    Likeness: TypeAlias = Any

    def likeness(*_: object) -> Likeness | None:
        """No two domains are alike here."""
        return None

    def fork(*_: object) -> Any:
        """Never reached: no two domains are alike."""
        raise NotImplementedError

    def ready(*_: object) -> str:
        """Never reached, as `fork`."""
        raise NotImplementedError

    def refill() -> None:
        """There are none."""

    def close_all() -> None:
        """There are none."""
