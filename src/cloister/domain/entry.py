"""What `Domain.run` runs: the entry point of a set-up, as the call of the guest's service that runs it. Any thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cloister.domain import configuration

if TYPE_CHECKING:
    from cloister.domain.setup import Setup

__all__ = ["entry_of"]


def entry_of(name: str, setup: Setup) -> tuple[str, str]:
    """The function of the service, and its target.

    A relative path is resolved against the application base. Raises ValueError where the set-up names no entry point,
    StartFailed where there is no such base.
    """
    entry = setup.entry_point
    if entry is None:
        raise ValueError(f"domain {name!r} has no program of its own: name one with Setup(entry_point=...)")
    place = os.fspath(entry)
    if not isinstance(entry, str) or place.endswith((".py", ".pyz", ".zip")) or os.sep in place:
        return "run_path", os.path.join(configuration.base_folder(name, setup.base), place)
    return ("run_function" if ":" in place else "run_module"), place
