"""What `Domain.run` runs: the entry point of a set-up, as the call of the guest's service that runs it. Any thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cloister.domain import configuration
from cloister.objects import targets

if TYPE_CHECKING:
    from cloister.domain.setup import Setup

__all__ = ["entry_of", "way_to_run"]


def entry_of(name: str, setup: Setup) -> tuple[str, str]:
    """The function of the service, and its target.

    A relative path is resolved against the application base. Raises ValueError where the set-up names no entry point,
    StartFailed where there is no such base.
    """
    entry = setup.entry_point
    if entry is None:
        raise ValueError(f"domain {name!r} has no program of its own: name one with Setup(entry_point=...)")
    way, place = way_to_run(entry), os.fspath(entry)
    if way == "run_path":
        return way, os.path.join(configuration.base_folder(name, setup.base), place)
    if way == "run_function" and targets.is_file(targets.split(place)[0]):
        return way, targets.absolute(place, configuration.base_folder(name, setup.base))
    return way, place


def way_to_run(entry: str | os.PathLike[str]) -> str:
    """The function of the service that runs an entry point. Raises ValueError for a text that can be none."""
    if not isinstance(entry, str):
        return "run_path"
    module, colon, qualname = entry.rpartition(":")
    if targets.is_file(qualname) or (not colon and entry.endswith((".pyz", ".zip"))):
        return "run_path"  # a colon before that is one of a path
    try:
        targets.split(entry if colon else f"{entry}:main")
    except ValueError:
        raise ValueError(
            f"Setup.entry_point: {entry!r} names no program: write 'package.module', 'package.module:function',"
            " 'path/to/file.py' or 'path/to/file.py:function'"
        ) from None
    if module.endswith((".pyz", ".zip")):
        raise ValueError(f"Setup.entry_point: {entry!r}: an archive is run as a whole; write {module!r}")
    return "run_function" if colon else "run_module"
