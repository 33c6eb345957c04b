"""Telling of each module that is loaded here, where somebody wants to know: the host, or code of this domain.

A finder at the front of `sys.meta_path` lets the others find, and has the loader tell when it has run the module. The
module itself sees its own loader, not ours. Where several domains share one interpreter, that one is told whose code
imports; a module that is there already is loaded for nobody. Any thread may enter.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cloister.guest import local

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["forget", "is_missing", "watch_loads"]

_lock = threading.RLock()
_watching = 0
"""How many want to be told, in all domains of this interpreter."""
_search = threading.local()


def watch_loads(tell: Callable[[str, str], None]) -> None:
    """Call `tell` with the name and the file of each module that the code of this domain loads from now on.

    It is called on the thread that loads.
    """
    global _watching
    with _lock:
        local.here().loaded.append(tell)
        _watching += 1
        if not any(isinstance(finder, _Front) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Front())


def forget(place: local.Place) -> None:
    """Tell of this domain no more: it ends. With the last one, imports go as if nobody had ever watched."""
    global _watching
    with _lock:
        _watching -= len(place.loaded)
        place.loaded.clear()
        if not _watching:
            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Front)]


def is_missing(name: str) -> bool:
    """Whether the finders were asked for this module a moment ago, on this thread, and in the same search."""
    return getattr(_search, "missing", None) == name


def _tell(name: str, file: str) -> None:
    for tell in list(local.here().loaded):
        tell(name, file)


class _Front(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        _search.missing = None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: importlib.machinery.ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Telling(spec.loader)
                return spec
        _search.missing = fullname  # the others are asked once more now
        return None

    def invalidate_caches(self) -> None:
        """Nothing is kept here."""


class _Telling(importlib.abc.Loader):
    """A loader that tells afterwards; for all else it is the one that it stands for."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

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
        _tell(module.__name__, str(getattr(module, "__file__", None) or ""))
