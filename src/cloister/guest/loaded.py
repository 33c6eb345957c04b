"""What is loaded in this process: importing a module, and naming all that have been imported.

Nothing here travels but names and paths. Any thread may enter.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["load", "modules"]


def load(name: str) -> None:
    """Import a module; return nothing, so that nothing of it travels. Raises what the import raises."""
    importlib.import_module(name)


def modules() -> dict[str, str | None]:
    """The names of all modules that are loaded, with their files; None for one that has none."""
    found: dict[str, str | None] = {}
    for name, module in list(sys.modules.items()):
        file: Any = getattr(module, "__dict__", {}).get("__file__")  # not getattr: a lazy module would be imported
        if module is not None:
            found[str(name)] = file if isinstance(file, str) else None
    return found
