"""Telling of each module that is loaded here, where somebody wants to know: the host, or code of this domain.

A finder at the front of `sys.meta_path` lets the others find, and has the loader tell when it has run the module. The
module itself sees its own loader, not ours. Any thread may enter.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["watch_loads"]


_tells: list[Callable[[str, str], None]] = []


def watch_loads(tell: Callable[[str, str], None]) -> None:
    """Call `tell` with the name and the file of each module that is loaded from now on, on the thread that loads it."""
    _tells.append(tell)
    if not any(isinstance(finder, _Front) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Front(_tell))


def _tell(name: str, file: str) -> None:
    for tell in list(_tells):
        tell(name, file)


class _Front(importlib.abc.MetaPathFinder):
    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = _Telling(spec.loader, self._tell)
                    return spec
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)  # they were asked; not twice

    def invalidate_caches(self) -> None:
        """Nothing is kept here."""


class _Telling(importlib.abc.Loader):
    """A loader that tells afterwards; for all else it is the one that it stands for."""

    def __init__(self, loader: Any, tell: Callable[[str, str], None]) -> None:
        self._loader, self._tell = loader, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        create = getattr(self._loader, "create_module", None)
        made: ModuleType | None = None if create is None else create(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            spec.loader = self._loader
        if getattr(module, "__loader__", None) is self:
            module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._tell(module.__name__, str(getattr(module, "__file__", None) or ""))
